//! One namespace and its watches: what is known of it, and since when nobody could look.

use super::objects::{Deployment, PodNow, Set, Unhealthy};
use super::table::Table;
use crate::apiserver::{CallError, Collection, Follower, Resource, follow};
use crate::model::Timestamp;
use crate::telemetry::Metrics;
use crate::telemetry::events::{WatchBegan, WatchBroke, WatchChanged, WatchDropped, WatchMended};
use kube::Client;
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What nobody could look at for so long is not known. A watch in order is confirmed every 45 s.
const LOOKED_WITHIN: Duration = Duration::from_secs(60);

pub(super) const DEPLOYMENTS: Resource = Resource { api: "apps/v1", kind: "Deployment", plural: "deployments" };
const PODS: Resource = Resource { api: "v1", kind: "Pod", plural: "pods" };
const EVENTS: Resource = Resource { api: "v1", kind: "Event", plural: "events" };
/// Which events: those of failed probes.
const UNHEALTHY: &str = "involvedObject.kind=Pod,reason=Unhealthy";

/// What watches need and all of them share.
pub(super) struct Means {
    pub(super) client: Client,
    /// Told of every change.
    pub(super) changed: watch::Sender<u64>,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

/// A namespace.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) namespace: String,
    known: Mutex<Known>,
    /// Ends its watches.
    end: CancellationToken,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) table: Table,
    deployments: Looked,
    sets: Looked,
    pods: Looked,
    events: Looked,
}

/// How well a watch goes.
#[derive(Debug, Default)]
struct Looked {
    /// When all was listed for the first time.
    first: Option<Timestamp>,
    /// Until when what is known is how it was.
    until: Option<(Instant, Timestamp)>,
    /// Why it does not go on.
    error: Option<String>,
}

impl Looked {
    fn check(&self, what: &str, namespace: &str) -> Result<(), String> {
        let because = self.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
        match self.until {
            None => Err(format!("{what} of namespace {namespace}: not looked yet{because}")),
            Some((at, _)) if at.elapsed() > LOOKED_WITHIN => {
                Err(format!("{what} of namespace {namespace}: not looked for {} s{because}", at.elapsed().as_secs()))
            }
            Some(_) => Ok(()),
        }
    }
}

impl Known {
    /// Is what is known of workloads and pods how it is now?
    ///
    /// # Errors
    /// What could not be looked at, for how long, and why.
    pub(super) fn check(&self, namespace: &str) -> Result<(), String> {
        self.deployments.check(DEPLOYMENTS.plural, namespace)?;
        self.sets.check(Resource::REPLICASET.plural, namespace)?;
        self.pods.check(PODS.plural, namespace)
    }

    /// Why failed probes are not told by events, if they are not.
    pub(super) fn without_events(&self) -> Option<String> {
        self.events.error.clone()
    }

    /// Since when every pod of a Deployment is known; `None` = it is not.
    pub(super) fn pods_since(&self, name: &str) -> Option<Timestamp> {
        Some(self.pods.first?.max(self.sets.first?).max(self.table.followed_since(name)?))
    }
}

impl Place {
    pub(super) fn new(namespace: &str, means: &Means) -> Arc<Self> {
        Arc::new(Self { namespace: namespace.to_owned(), known: Mutex::default(), end: means.shutdown.child_token() })
    }

    /// Nobody asks about it any more: its watches end.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    /// Watches it until its end, or `shutdown`. Within a tokio runtime only, and once.
    pub(super) fn watch(self: &Arc<Self>, means: &Means) {
        self.watch_one::<Deployment>(means, DEPLOYMENTS, None);
        self.watch_one::<Set>(means, Resource::REPLICASET, None);
        self.watch_one::<PodNow>(means, PODS, None);
        self.watch_one::<Unhealthy>(means, EVENTS, Some(UNHEALTHY));
    }

    fn watch_one<T: Kept>(self: &Arc<Self>, means: &Means, resource: Resource, fields: Option<&'static str>) {
        let all = Collection::new(means.client.clone(), resource, Some(&self.namespace));
        let some = fields.into_iter().fold(all, Collection::with_fields);
        let feed = Feed { place: Arc::clone(self), kind: resource.plural, changed: means.changed.clone(), metrics: means.metrics.clone() };
        tokio::spawn(feed.run::<T>(some, self.end.clone()));
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

/// When something was seen.
#[derive(Clone, Copy, Debug)]
struct When {
    /// Until then all was known.
    looked: Timestamp,
    now: Timestamp,
    /// Nothing was known before.
    first: bool,
}

/// A kind of object the table keeps.
trait Kept: DeserializeOwned + Send + 'static {
    fn looked(known: &mut Known) -> &mut Looked;
    fn all(table: &mut Table, all: Vec<Self>, when: When);
    fn put(table: &mut Table, one: Self, when: When);
    fn gone(table: &mut Table, one: Self, when: When);
}

impl Kept for Deployment {
    fn looked(known: &mut Known) -> &mut Looked {
        &mut known.deployments
    }
    fn all(table: &mut Table, all: Vec<Self>, _: When) {
        table.deployments(all);
    }
    fn put(table: &mut Table, one: Self, _: When) {
        table.deployment(one);
    }
    fn gone(table: &mut Table, one: Self, _: When) {
        table.deployment_gone(&one.name);
    }
}

impl Kept for Set {
    fn looked(known: &mut Known) -> &mut Looked {
        &mut known.sets
    }
    fn all(table: &mut Table, all: Vec<Self>, _: When) {
        table.sets(all);
    }
    fn put(table: &mut Table, one: Self, _: When) {
        table.set(one);
    }
    fn gone(table: &mut Table, one: Self, _: When) {
        table.set_gone(&one.uid);
    }
}

impl Kept for PodNow {
    fn looked(known: &mut Known) -> &mut Looked {
        &mut known.pods
    }
    fn all(table: &mut Table, all: Vec<Self>, when: When) {
        table.pods(all, when.looked, when.now);
    }
    fn put(table: &mut Table, one: Self, when: When) {
        table.pod(one, when.looked, when.now);
    }
    fn gone(table: &mut Table, one: Self, when: When) {
        table.pod_gone(&one.uid, when.now);
    }
}

impl Kept for Unhealthy {
    fn looked(known: &mut Known) -> &mut Looked {
        &mut known.events
    }
    fn all(table: &mut Table, all: Vec<Self>, when: When) {
        table.events(all, when.first, when.now);
    }
    fn put(table: &mut Table, one: Self, when: When) {
        table.event(&one, when.now);
    }
    fn gone(table: &mut Table, one: Self, _: When) {
        table.event_gone(&one.uid);
    }
}

/// Brings what one watch sees to the table.
struct Feed {
    place: Arc<Place>,
    kind: &'static str,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

impl Feed {
    async fn run<T: Kept>(mut self, collection: Collection, end: CancellationToken) {
        if self.kind == EVENTS.plural && end.run_until_cancelled(self.pods_are_known()).await.is_none() {
            return;
        }
        WatchBegan { kind: self.kind, namespace: &self.place.namespace, running: true }.emit(&self.metrics);
        end.run_until_cancelled(follow::<T>(&collection, &mut self)).await;
        WatchBegan { kind: self.kind, namespace: &self.place.namespace, running: false }.emit(&self.metrics);
    }

    /// An event of a pod nobody knows says nothing.
    async fn pods_are_known(&self) {
        let mut changed = self.changed.subscribe();
        while self.place.known().pods.first.is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Brings something to the table, and tells that it changed if it did.
    fn bring<T: Kept>(&self, bring: impl FnOnce(&mut Known, When)) {
        let mut known = self.place.known();
        let (now, looked) = (now(), T::looked(&mut known));
        let when = When { looked: looked.until.map_or(now, |(_, at)| at), now, first: looked.first.is_none() };
        let before = known.table.version();
        bring(&mut known, when);
        let (is_other, dropped) = (known.table.version() != before, known.table.take_dropped());
        drop(known);
        if is_other {
            self.changed.send_modify(|n| *n += 1);
        }
        if dropped > 0 {
            WatchDropped { kind: self.kind, namespace: &self.place.namespace, count: dropped }.emit(&self.metrics);
        }
    }
}

impl<T: Kept> Follower<T> for Feed {
    fn listed(&mut self, objects: Vec<T>) {
        WatchChanged { kind: self.kind, what: "listed" }.emit(&self.metrics);
        self.bring::<T>(|known, when| {
            T::all(&mut known.table, objects, when);
            if when.first {
                T::looked(known).first = Some(when.now);
                known.table.mark_all();
            }
        });
    }

    fn put(&mut self, object: T) {
        WatchChanged { kind: self.kind, what: "put" }.emit(&self.metrics);
        self.bring::<T>(|known, when| T::put(&mut known.table, object, when));
    }

    fn gone(&mut self, object: T) {
        WatchChanged { kind: self.kind, what: "gone" }.emit(&self.metrics);
        self.bring::<T>(|known, when| T::gone(&mut known.table, object, when));
    }

    fn confirmed(&mut self) {
        let mut mended = false;
        self.bring::<T>(|known, when| {
            let looked = T::looked(known);
            looked.until = Some((Instant::now(), when.now));
            mended = looked.error.take().is_some();
            if mended {
                known.table.mark_all();
            }
        });
        if mended {
            WatchMended { kind: self.kind, namespace: &self.place.namespace }.emit(&self.metrics);
        }
    }

    fn failed(&mut self, error: &CallError) {
        let mut first = false;
        self.bring::<T>(|known, _| {
            first = T::looked(known).error.replace(error.to_string()).is_none();
            // every time: that it was too long ago shows itself in no other way
            known.table.mark_all();
        });
        let reason = match error {
            CallError::Unreachable(_) => "unreachable",
            CallError::Missing(_) => "missing",
            CallError::Denied(_) => "denied",
            CallError::Refused(_) | CallError::Conflict(_) => "refused",
        };
        let error = error.to_string();
        WatchBroke { kind: self.kind, namespace: &self.place.namespace, reason, error: &error, first }.emit(&self.metrics);
    }
}

/// Wall-clock time now.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
