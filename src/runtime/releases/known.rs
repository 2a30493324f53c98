//! Which pod template each workload is known to have: in the store, and in memory because it is asked at every change of the cluster.
//!
//! A template is known by its identity, which is the API server's reading of it. A newer API server fills in fields that did not exist
//! when the template was written: each identity is then another, and nobody has released anything. So the last reading of each object
//! is kept, by a text that stays the same as long as nobody writes it ([`crate::cluster::Cluster::readings`]); what is then read
//! otherwise has a new identity, and whatever is known of the old one is known of the new one.

use crate::cluster::{Earlier, identity};
use crate::model::journal::Event;
use crate::model::rule::{Rule, Target};
use crate::model::{Begin, Side, State};
use crate::store::{NotedTemplates, Readings, Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The templates known of all rules' workloads. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Templates {
    store: Arc<dyn Store>,
    /// By rule, as they stand in the store.
    read: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// What the store has of a rule.
#[derive(Clone, Debug, Default)]
struct Known {
    noted: NotedTemplates,
    readings: Readings,
}

impl Known {
    /// The identity this one has become.
    fn called(&self, template: &str) -> String {
        self.readings.renamed.get(template).map_or(template, String::as_str).to_owned()
    }

    /// As the store does it.
    fn rename(&mut self, was: &str, now: &str) {
        let noted = self.noted.values_mut().flatten();
        for one in noted.chain(self.readings.renamed.values_mut()).filter(|one| *one == was) {
            now.clone_into(one);
        }
        self.readings.renamed.insert(was.to_owned(), now.to_owned());
        self.readings.renamed.retain(|was, now| was != now);
    }
}

/// Identities that are others now: of templates that are there now as then, and that nobody has written.
fn renamed(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let both = now.iter().filter_map(|(object, now)| Some((then.get(object)?, now)));
    both.filter(|(then, now)| then != now).map(|(then, now)| (then.clone(), now.clone())).collect()
}

impl Templates {
    pub(in crate::runtime) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, read: Arc::default() }
    }

    /// What is known of this rule's workloads, by their names.
    pub(in crate::runtime) async fn of(&self, rule: &str) -> Result<NotedTemplates, StoreError> {
        self.load(rule).await?;
        Ok(self.read.lock().get(rule).map(|known| known.noted.clone()).unwrap_or_default())
    }

    async fn load(&self, rule: &str) -> Result<(), StoreError> {
        if self.read.lock().contains_key(rule) {
            return Ok(());
        }
        let known = Known { noted: self.store.noted(rule).await?, readings: self.store.readings(rule).await? };
        self.read.lock().entry(rule.to_owned()).or_insert(known);
        Ok(())
    }

    /// The identity this one has become, as far as it was looked.
    pub(in crate::runtime) fn called(&self, rule: &str, template: &str) -> String {
        self.read.lock().get(rule).map_or_else(|| template.to_owned(), |known| known.called(template))
    }

    /// All identities of this rule that are others now.
    pub(super) fn renamed(&self, rule: &str) -> BTreeMap<String, String> {
        self.read.lock().get(rule).map(|known| known.readings.renamed.clone()).unwrap_or_default()
    }

    /// A workload's templates are read so now; which identities are others by that: what was, and what is.
    pub(in crate::runtime) async fn read_as(
        &self,
        rule: &Rule,
        side: Side,
        now: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        // not there, or not seen: then it is as it was
        if now.is_empty() {
            return Ok(BTreeMap::new());
        }
        let workload = workload(rule.workloads.side(side));
        self.load(&rule.name).await?;
        let then = self.read.lock().get(&rule.name).and_then(|known| known.readings.last.get(&workload).cloned()).unwrap_or_default();
        if then == now {
            return Ok(BTreeMap::new());
        }
        let renamed = renamed(&then, &now);
        self.store.read_as(&rule.name, &workload, now.clone(), renamed.clone()).await?;
        let mut read = self.read.lock();
        let known = read.entry(rule.name.clone()).or_default();
        known.readings.last.insert(workload, now);
        renamed.iter().for_each(|(was, now)| known.rename(was, now));
        Ok(renamed)
    }

    /// From now on, and after a restart, this is no news.
    pub(in crate::runtime) async fn note(&self, rule: &Rule, side: Side, template: Option<String>) -> Result<(), StoreError> {
        let workload = workload(rule.workloads.side(side));
        // what was read before is needed: this entry alone would look like all there is
        self.load(&rule.name).await?;
        let template = template.map(|template| self.called(&rule.name, &template));
        self.store.note(&rule.name, &workload, template.clone()).await?;
        self.read.lock().entry(rule.name.clone()).or_default().noted.insert(workload, template);
        Ok(())
    }

    /// The template of this rule's last rollout, if that succeeded.
    pub(super) async fn promoted(&self, rule: &str) -> Result<Option<String>, StoreError> {
        let last = self.last(rule, |state| *state == State::Succeeded).await?;
        Ok(last.and_then(|(_, begin)| begin.noted).map(|noted| self.called(rule, &noted.template)))
    }

    /// What a rollout of this canary goes back to, as far as anything is known of it: the template it had when nothing was on trial, and
    /// what its last rollout left as good. Where people start rollouts the first is what they start, and only the second counts.
    pub(in crate::runtime) async fn earlier(&self, rule: &Rule, canary: Side) -> Result<Earlier, StoreError> {
        let noted = self.of(&rule.name).await?;
        let known = of_side(&noted, rule, canary).flatten().filter(|_| rule.start.on_new_template).map(str::to_owned);
        let left = self.last(&rule.name, State::is_over).await?.and_then(|(state, begin)| {
            let noted = begin.noted.filter(|_| begin.canary == canary)?;
            if state == State::Succeeded { Some(noted.template) } else { identity_of(&noted.template_before?) }
        });
        let good = known.into_iter().chain(left).map(|template| self.called(&rule.name, &template)).collect();
        Ok(Earlier { good, bad: self.rolled_back(&rule.name).await? })
    }

    /// This rule's last rollout, if it is in such a state: that, and how it began.
    async fn last(&self, rule: &str, is: impl Fn(&State) -> bool) -> Result<Option<(State, Begin)>, StoreError> {
        let Some(last) = self.store.list(Some(rule), 1).await?.into_iter().find(|listed| is(&listed.state)) else { return Ok(None) };
        let begin = self.store.outline(&last.id).await?.into_iter().find_map(|line| match line.event {
            Event::Opened(opened) => Some(opened.begin),
            _ => None,
        });
        Ok(begin.map(|begin| (last.state, begin)))
    }

    /// Templates whose last rollout under this rule was rolled back.
    pub(in crate::runtime) async fn rolled_back(&self, rule: &str) -> Result<BTreeSet<String>, StoreError> {
        self.store.rolled_back(rule).await
    }
}

/// Identity of a template that was noted as JSON.
fn identity_of(template: &str) -> Option<String> {
    Some(identity(&serde_json::from_str(template).ok()?))
}

/// What is known of this workload; `None` = it was never looked for.
pub(super) fn of_side<'a>(known: &'a NotedTemplates, rule: &Rule, side: Side) -> Option<Option<&'a str>> {
    known.get(&workload(rule.workloads.side(side))).map(Option::as_deref)
}

/// A workload as the store names it: a rule whose file names another one in its place has not seen that yet.
fn workload(target: &Target) -> String {
    let field = |name: &str| target.fields.get(name).map_or("", String::as_str);
    format!("{}/{}", field("namespace"), field("deployment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::{WorkloadForm, Workloads};
    use crate::store::Sqlite;

    fn rule() -> Rule {
        let target = |name: &str| Target {
            fields: [("namespace".to_owned(), "shop".to_owned()), ("deployment".to_owned(), name.to_owned())].into(),
        };
        let workloads = Workloads { form: WorkloadForm::Pair, sides: [target("v1"), target("v2")] };
        Rule { workloads, ..crate::runtime::parts::tests::rule() }
    }

    #[tokio::test]
    async fn what_is_noted_is_in_memory_and_in_the_store_and_nothing_read_before_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).unwrap());
        let rule = rule();
        Templates::new(Arc::clone(&store)).note(&rule, Side::First, Some("a".to_owned())).await.unwrap();
        let after = Templates::new(Arc::clone(&store));
        after.note(&rule, Side::Second, None).await.unwrap();
        let known: NotedTemplates = [("shop/v1".to_owned(), Some("a".to_owned())), ("shop/v2".to_owned(), None)].into();
        assert_eq!(after.of("shop").await.unwrap(), known);
        assert_eq!(store.noted("shop").await.unwrap(), known);
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn what_is_read_otherwise_though_nobody_wrote_it_has_a_new_identity() {
        let then = [("d/4", "b"), ("set-1", "a"), ("set-2", "b")];
        let of = |now: &[(&str, &str)]| renamed(&map(&then), &map(now));
        assert_eq!(of(&then), map(&[]), "nothing is new");
        assert_eq!(of(&[("d/4", "b2"), ("set-1", "a2"), ("set-2", "b2")]), map(&[("a", "a2"), ("b", "b2")]), "a newer API server");
        assert_eq!(of(&[("d/5", "c"), ("set-1", "a"), ("set-2", "b")]), map(&[]), "a release");
        assert_eq!(of(&[("d/5", "c"), ("set-1", "a"), ("set-2", "b"), ("set-3", "c")]), map(&[]), "and its pods");
        assert_eq!(of(&[("e/4", "c")]), map(&[]), "another Deployment of that name");
        assert_eq!(of(&[("d/5", "b2"), ("set-2", "b2")]), map(&[("b", "b2")]), "scaled while nobody looked: its ReplicaSet tells");
        assert_eq!(of(&[]), map(&[]));
    }

    #[tokio::test]
    async fn whatever_is_known_of_an_identity_is_known_of_what_it_became_and_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).unwrap());
        let (rule, side) = (rule(), Side::Second);
        let templates = Templates::new(Arc::clone(&store));
        templates.note(&rule, side, Some("a".to_owned())).await.unwrap();
        assert_eq!(templates.read_as(&rule, side, map(&[("d/1", "a")])).await.unwrap(), map(&[]));
        // the daemon was away when the API server became a newer one
        let templates = Templates::new(Arc::clone(&store));
        assert_eq!(templates.read_as(&rule, side, map(&[("d/1", "a2")])).await.unwrap(), map(&[("a", "a2")]));
        assert_eq!(templates.read_as(&rule, side, map(&[("d/1", "a3")])).await.unwrap(), map(&[("a2", "a3")]));
        let known = |templates: Templates| async move {
            let noted = templates.of("shop").await.unwrap();
            (noted.get("shop/v2").cloned().flatten(), templates.called("shop", "a"), templates.called("shop", "x"))
        };
        let wanted = (Some("a3".to_owned()), "a3".to_owned(), "x".to_owned());
        assert_eq!(known(templates.clone()).await, wanted);
        assert_eq!(known(Templates::new(Arc::clone(&store))).await, wanted);
        // one that was begun before is noted as what it is now; and the older API server comes back
        templates.note(&rule, side, Some("a2".to_owned())).await.unwrap();
        assert_eq!(store.noted("shop").await.unwrap()["shop/v2"].as_deref(), Some("a3"));
        templates.read_as(&rule, side, map(&[("d/1", "a")])).await.unwrap();
        let wanted = (Some("a".to_owned()), "a".to_owned(), "x".to_owned());
        assert_eq!(known(templates).await, wanted);
        assert_eq!(known(Templates::new(store)).await, wanted);
    }
}
