//! Which pod template each workload is known to have: in the store, and in memory because it is asked at every change of the cluster.

use crate::model::journal::Event;
use crate::model::rule::{Rule, Target};
use crate::model::{Side, State};
use crate::store::{NotedTemplates, Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The templates known of all rules' workloads. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Templates {
    store: Arc<dyn Store>,
    /// By rule, as they stand in the store.
    read: Arc<Mutex<BTreeMap<String, NotedTemplates>>>,
}

impl Templates {
    pub(in crate::runtime) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, read: Arc::default() }
    }

    /// What is known of this rule's workloads, by their names.
    pub(in crate::runtime) async fn of(&self, rule: &str) -> Result<NotedTemplates, StoreError> {
        if let Some(known) = self.read.lock().get(rule) {
            return Ok(known.clone());
        }
        let known = self.store.noted(rule).await?;
        Ok(self.read.lock().entry(rule.to_owned()).or_insert(known).clone())
    }

    /// From now on, and after a restart, this is no news.
    pub(in crate::runtime) async fn note(&self, rule: &Rule, side: Side, template: Option<String>) -> Result<(), StoreError> {
        let workload = workload(rule.workloads.side(side));
        // what was read before is needed: this entry alone would look like all there is
        self.of(&rule.name).await?;
        self.store.note(&rule.name, &workload, template.clone()).await?;
        self.read.lock().entry(rule.name.clone()).or_default().insert(workload, template);
        Ok(())
    }

    /// The template of this rule's last rollout, if that succeeded.
    pub(super) async fn promoted(&self, rule: &str) -> Result<Option<String>, StoreError> {
        let last = self.store.list(Some(rule), 1).await?.into_iter().find(|listed| listed.state == State::Succeeded);
        let Some(last) = last else { return Ok(None) };
        let lines = self.store.outline(&last.id).await?;
        let noted = lines.into_iter().find_map(|line| match line.event {
            Event::Opened(opened) => opened.begin.noted,
            _ => None,
        });
        Ok(noted.map(|noted| noted.template))
    }

    /// Templates whose last rollout under this rule was rolled back.
    pub(in crate::runtime) async fn rolled_back(&self, rule: &str) -> Result<BTreeSet<String>, StoreError> {
        self.store.rolled_back(rule).await
    }
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
}
