//! What readers see, kept so that a rollout's news costs one pointer swap however many rollouts there are.

use super::handle::{EventLine, RolloutView, RuleView, Views, Waiting};
use crate::model::RolloutId;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Lines a slow reader of the live feed may lag behind before it is told that it missed some.
pub(super) const EVENTS_MAX: usize = 1024;

/// The newest view of one rollout: written by its driver alone, read by anyone.
pub(super) type Cell = Arc<ArcSwap<RolloutView>>;

/// Cells and lists. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    lists: Arc<ArcSwap<Lists>>,
    events: broadcast::Sender<EventLine>,
}

#[derive(Clone, Debug, Default)]
struct Lists {
    rollouts: BTreeMap<RolloutId, Cell>,
    rules: BTreeMap<String, Arc<RuleView>>,
    sources: BTreeMap<String, Option<String>>,
    reload_problems: Vec<String>,
    ready: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_events_max(EVENTS_MAX)
    }
}

impl Registry {
    /// One whose live feed keeps this many lines for a slow reader.
    pub fn with_events_max(lines: usize) -> Self {
        Self { lists: Arc::default(), events: broadcast::channel(lines).0 }
    }

    /// Everything, as it is now.
    pub fn views(&self) -> Views {
        let lists = self.lists.load();
        Views {
            rollouts: lists.rollouts.iter().map(|(id, cell)| (id.clone(), cell.load_full())).collect(),
            rules: lists.rules.clone(),
            reload_problems: lists.reload_problems.clone(),
            sources: lists.sources.clone(),
            ready: lists.ready,
        }
    }

    /// The live feed.
    pub fn events(&self) -> &broadcast::Sender<EventLine> {
        &self.events
    }

    /// The newest view of one rollout.
    pub fn rollout(&self, id: &RolloutId) -> Option<Arc<RolloutView>> {
        self.lists.load().rollouts.get(id).map(|cell| cell.load_full())
    }

    /// Shows these and nothing else.
    pub fn show(&self, views: Views) {
        let cell = |(id, view): (RolloutId, Arc<RolloutView>)| (id, Arc::new(ArcSwap::new(view)));
        self.lists.store(Arc::new(Lists {
            rollouts: views.rollouts.into_iter().map(cell).collect(),
            rules: views.rules,
            sources: views.sources,
            reload_problems: views.reload_problems,
            ready: views.ready,
        }));
    }

    pub(super) fn add(&self, view: RolloutView) -> Cell {
        let id = view.id.clone();
        let cell: Cell = Arc::new(ArcSwap::from_pointee(view));
        self.edit(|lists| {
            lists.rollouts.insert(id.clone(), Arc::clone(&cell));
        });
        cell
    }

    pub(super) fn forget(&self, id: &RolloutId) {
        self.edit(|lists| {
            lists.rollouts.remove(id);
        });
    }

    pub(super) fn set_rules(&self, rules: BTreeMap<String, Arc<RuleView>>) {
        self.edit(|lists| lists.rules = rules.clone());
    }

    pub(super) fn set_rule_rollout(&self, rule: &str, id: &RolloutId) {
        self.edit(|lists| edit_rule(lists, rule, |view| view.rollout = Some(id.clone())));
    }

    /// What these rules need and is not there.
    pub(super) fn set_missing(&self, found: Vec<(String, Vec<String>)>) {
        if found.is_empty() {
            return;
        }
        self.edit(|lists| {
            for (rule, missing) in &found {
                edit_rule(lists, rule, |view| view.missing = Some(missing.clone()));
            }
        });
    }

    /// The release of this rule that waits.
    pub(super) fn set_waiting(&self, rule: &str, waiting: Option<Waiting>) {
        self.edit(|lists| edit_rule(lists, rule, |view| view.waiting.clone_from(&waiting)));
    }

    pub(super) fn set_reload_problems(&self, problems: Vec<String>) {
        self.edit(|lists| lists.reload_problems = problems.clone());
    }

    pub(super) fn set_source(&self, name: &str, blind: Option<String>) {
        if self.lists.load().sources.get(name) != Some(&blind) {
            self.edit(|lists| {
                lists.sources.insert(name.to_owned(), blind.clone());
            });
        }
    }

    pub(super) fn set_ready(&self) {
        self.edit(|lists| lists.ready = true);
    }

    fn edit(&self, mut change: impl FnMut(&mut Lists)) {
        self.lists.rcu(|old| {
            let mut new = Lists::clone(old);
            change(&mut new);
            new
        });
    }
}

/// A rule that is in force no more is left alone.
fn edit_rule(lists: &mut Lists, rule: &str, change: impl FnOnce(&mut RuleView)) {
    if let Some(view) = lists.rules.get_mut(rule) {
        let mut new = RuleView::clone(view);
        change(&mut new);
        *view = Arc::new(new);
    }
}
