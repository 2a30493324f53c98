//! A Lease: which of several processes is the one that acts (`coordination.k8s.io/v1`, in the shape of client-go).
//!
//! Two clocks are never compared. A candidate takes over when it has seen no change of the lease for as long as its holder said it
//! may rely on it, by its own clock; the holder counts from before it asked for its last renewal, by its own. It stops after
//! [`RENEW_WITHIN`], and must be still by [`LASTS`]: what lies between is the time to stop. `leaseTransitions` rises with every new
//! holder: the epoch.

use crate::apiserver::{CallError, Object, Resource, chance};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a holder may rely on it after it was renewed.
pub const LASTS: Duration = Duration::from_secs(15);
/// A holder that could not renew it for so long gives it up.
pub const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often it is renewed, and looked at by those who want it.
const EVERY: Duration = Duration::from_secs(2);
/// Longest a release may take: it is a courtesy, the lease runs out by itself.
const RELEASE_MAX: Duration = Duration::from_secs(2);
/// Longest time another program's lease may claim for itself; longer is taken for this.
const OTHERS_LAST_MAX: Duration = Duration::from_secs(300);

/// Annotation: where its holder listens, an IP and a port.
const ADDRESS: &str = "canaryd.io/address";

const LEASE: Resource = Resource { api: "coordination.k8s.io/v1", kind: "Lease", plural: "leases" };

/// Why the lease is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another holds it.
    #[error("{what} is held by {holder}")]
    Taken { what: String, holder: String },
    /// It could not be renewed in time.
    #[error("{what} could not be renewed for {} s: {why}", RENEW_WITHIN.as_secs())]
    NotRenewed { what: String, why: String },
}

/// Whether a holder may still act. Whoever writes asks at the last moment before: a process may be stopped whole, and go on when another
/// has acted for minutes. The clock is a monotonic one, which runs on meanwhile.
#[derive(Debug)]
pub struct Fence {
    /// When the last renewal that was granted was asked for.
    renewed: Mutex<Instant>,
    lost: AtomicBool,
}

impl Fence {
    pub(crate) fn new(renewed: Instant) -> Self {
        Self { renewed: Mutex::new(renewed), lost: AtomicBool::new(false) }
    }

    fn renew(&self, asked: Instant) {
        *self.renewed.lock() = asked;
    }

    /// How long ago the last renewal was asked for.
    pub fn age(&self) -> Duration {
        self.renewed.lock().elapsed()
    }

    /// The lease is another's, or will be: nobody acts by it any more.
    pub fn close(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// # Errors
    /// Nobody may act by this lease now, with the reason.
    pub fn check(&self) -> Result<(), String> {
        let age = self.age();
        if self.lost.load(Ordering::Acquire) {
            return Err("the lease is lost: another daemon may act".to_owned());
        }
        if age >= RENEW_WITHIN {
            return Err(format!("the lease was not renewed for {} s: another daemon may act", age.as_secs()));
        }
        Ok(())
    }
}

/// One who wants the lease.
pub struct Candidate {
    lease: Object,
    identity: String,
    address: Option<SocketAddr>,
    seen: Option<Seen>,
}

/// A lease as it was seen, and since when it has not changed.
struct Seen {
    spec: Value,
    since: Instant,
}

/// What follows from a look at it.
#[derive(Debug, PartialEq)]
enum Look {
    /// It is another's.
    Wait { holder: String, at: Option<SocketAddr> },
    /// It may be taken: this is to be put in its place.
    Take(Value),
}

impl Candidate {
    /// Nothing is asked yet. `identity` must be no other process's; `address` is where others are to find this one when it holds it.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, address: Option<SocketAddr>) -> Self {
        Self { lease: Object::new(client, LEASE, namespace, name), identity: identity.to_owned(), address, seen: None }
    }

    /// What an operator calls the lease.
    pub fn what(&self) -> String {
        self.lease.what()
    }

    /// Waits until it is ours. `told` hears who holds it and where that one listens, or why it cannot be had, whenever that is another
    /// than before.
    pub async fn win(mut self, mut told: impl FnMut(&str, Option<SocketAddr>) + Send) -> Held {
        let mut last = (String::new(), None);
        loop {
            let begun = Instant::now();
            let news = match self.attempt().await {
                Ok(Ok(object)) => {
                    return Held { epoch: transitions(&object), candidate: self, object, fence: Arc::new(Fence::new(begun)) };
                }
                Ok(Err((holder, at))) => (format!("held by {holder}"), at),
                // somebody was faster: the next look says who
                Err(CallError::Conflict(_)) => last.clone(),
                Err(e) => (e.to_string(), None),
            };
            if news != last {
                told(&news.0, news.1);
                last = news;
            }
            tokio::time::sleep(scattered(EVERY)).await;
        }
    }

    /// One attempt: the lease as it is with us as its holder, or who else that is.
    async fn attempt(&mut self) -> Result<Result<Value, (String, Option<SocketAddr>)>, CallError> {
        let found = match self.lease.get().await {
            Ok(found) => Some(found),
            Err(CallError::Missing(_)) => None,
            Err(e) => return Err(e),
        };
        match (self.look(found.as_ref(), Instant::now()), found) {
            (Look::Wait { holder, at }, _) => Ok(Err((holder, at))),
            (Look::Take(wanted), Some(_)) => self.lease.replace(&wanted).await.map(Ok),
            (Look::Take(wanted), None) => self.lease.create(&wanted).await.map(Ok),
        }
    }

    /// May it be taken?
    fn look(&mut self, found: Option<&Value>, now: Instant) -> Look {
        let Some(found) = found else { return Look::Take(self.first()) };
        let spec = &found["spec"];
        if self.seen.as_ref().is_none_or(|seen| seen.spec != *spec) {
            self.seen = Some(Seen { spec: spec.clone(), since: now });
        }
        let since = self.seen.as_ref().map_or(now, |seen| seen.since);
        let holder = holder(found);
        // an earlier container of the same pod is gone when this one runs
        if holder.is_empty() || holder == self.identity || now.duration_since(since) >= relied_on(spec) {
            Look::Take(self.taken(found))
        } else {
            Look::Wait { holder: holder.to_owned(), at: address(found) }
        }
    }

    fn first(&self) -> Value {
        let Value::Object(mut object) = self.lease.named() else { return Value::Null };
        object.insert("spec".to_owned(), self.spec(&now(), 0));
        let mut object = object.into();
        self.sign(&mut object);
        object
    }

    /// The object with us as its holder from now on. What others keep on it stays.
    fn taken(&self, found: &Value) -> Value {
        let mut object = found.clone();
        object["spec"] = self.spec(&now(), transitions(found) + 1);
        self.sign(&mut object);
        object
    }

    /// Says where we listen, and in no case where somebody else did.
    fn sign(&self, object: &mut Value) {
        if let Some(address) = self.address {
            object["metadata"]["annotations"][ADDRESS] = address.to_string().into();
        } else if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
            annotations.remove(ADDRESS);
        }
    }

    fn spec(&self, since: &str, transitions: u64) -> Value {
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LASTS.as_secs(),
            "acquireTime": since,
            "renewTime": since,
            "leaseTransitions": transitions,
        })
    }
}

/// The lease, held.
pub struct Held {
    candidate: Candidate,
    object: Value,
    epoch: u64,
    fence: Arc<Fence>,
}

impl Held {
    /// How often it had changed hands when we took it: higher than every earlier holder's.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Says who may act; kept up to date by [`Self::keep`].
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Renews it until it is lost.
    pub async fn keep(&mut self) -> Lost {
        let mut why = String::new();
        loop {
            let left = RENEW_WITHIN.saturating_sub(self.fence.age());
            if left.is_zero() {
                return Lost::NotRenewed { what: self.candidate.what(), why };
            }
            tokio::time::sleep(scattered(EVERY).min(left)).await;
            let begun = Instant::now();
            let left = RENEW_WITHIN.saturating_sub(self.fence.age());
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(())) => self.fence.renew(begun),
                Ok(Err(Fault::Taken(holder))) => return Lost::Taken { what: self.candidate.what(), holder },
                Ok(Err(Fault::Failed(e))) => why = e.to_string(),
                Err(_) if why.is_empty() => why = "no answer in time".to_owned(),
                Err(_) => {}
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Fault> {
        self.object["spec"]["renewTime"] = now().into();
        let lease = &self.candidate.lease;
        self.object = match lease.replace(&self.object).await {
            // somebody wrote between: it may have been an earlier renewal whose answer was lost, or a label
            Err(CallError::Conflict(_)) => {
                let mut found = lease.get().await?;
                let holder = holder(&found);
                if holder != self.candidate.identity || transitions(&found) != self.epoch {
                    return Err(Fault::Taken(if holder.is_empty() { "nobody".to_owned() } else { holder.to_owned() }));
                }
                found["spec"]["renewTime"] = now().into();
                lease.replace(&found).await?
            }
            // taken away by hand: made anew, unless somebody else is faster
            Err(CallError::Missing(_)) => {
                let mut object = self.candidate.first();
                object["spec"]["leaseTransitions"] = self.epoch.into();
                lease.create(&object).await?
            }
            other => other?,
        };
        Ok(())
    }

    /// Gives it to whoever wants it, as far as that can be told within 2 s.
    pub async fn release(mut self) {
        let spec = &mut self.object["spec"];
        (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["renewTime"]) = ("".into(), 1.into(), now().into());
        // if it cannot be told, the lease runs out
        let _ = tokio::time::timeout(RELEASE_MAX, self.candidate.lease.replace(&self.object)).await;
    }
}

/// Why a renewal failed.
enum Fault {
    Taken(String),
    Failed(CallError),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Fault::Failed(error)
    }
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

fn address(lease: &Value) -> Option<SocketAddr> {
    lease["metadata"]["annotations"][ADDRESS].as_str()?.parse().ok()
}

fn transitions(lease: &Value) -> u64 {
    lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default()
}

/// How long its holder relies on it.
fn relied_on(spec: &Value) -> Duration {
    let said = spec["leaseDurationSeconds"].as_u64().filter(|seconds| *seconds > 0);
    said.map_or(LASTS, Duration::from_secs).min(OTHERS_LAST_MAX)
}

/// For people only: nobody compares it with another clock. Six digits, as the API wants them.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// A little more than this, so that several do not ask at the same moment for ever.
fn scattered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + chance() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        crate::tls::install();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Candidate::new(Client::try_from(config).unwrap(), "shop", "canaryd", "me", Some("10.1.2.3:7878".parse().unwrap()))
    }

    #[test]
    fn nobody_acts_by_a_lease_that_is_lost_or_was_not_renewed_in_time() {
        let ago = |seconds: u64| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let fence = Fence::new(ago(9));
        assert_eq!(fence.check(), Ok(()));
        let late = Fence::new(ago(17));
        assert_eq!(late.check(), Err("the lease was not renewed for 17 s: another daemon may act".to_owned()));
        late.renew(Instant::now());
        assert_eq!(late.check(), Ok(()));
        fence.close();
        fence.renew(Instant::now());
        assert!(fence.check().is_err(), "lost for good");
    }

    fn lease(holder: &str, renewed: &str, lasts: u64) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": lasts,
            "renewTime": renewed, "acquireTime": "2000-01-01T00:00:00.000000Z", "leaseTransitions": 4}})
    }

    #[tokio::test]
    async fn it_is_anothers_until_it_was_not_renewed_for_as_long_as_that_relies_on_it() {
        let (mut me, begin) = (candidate(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let waits = Look::Wait { holder: "other".to_owned(), at: None };
        // its time is of a clock that is years behind: only that it changes counts
        assert_eq!(me.look(Some(&lease("other", "2001-01-01T00:00:00.000000Z", 15)), at(0)), waits);
        assert_eq!(me.look(Some(&lease("other", "2001-01-01T00:00:00.000000Z", 15)), at(14)), waits);
        assert_eq!(me.look(Some(&lease("other", "2001-01-01T00:00:02.000000Z", 15)), at(14)), waits, "renewed");
        assert_eq!(me.look(Some(&lease("other", "2001-01-01T00:00:02.000000Z", 15)), at(28)), waits);
        let Look::Take(taken) = me.look(Some(&lease("other", "2001-01-01T00:00:02.000000Z", 15)), at(29)) else { panic!("not taken") };
        assert_eq!((taken["spec"]["holderIdentity"].as_str(), taken["spec"]["leaseTransitions"].as_u64()), (Some("me"), Some(5)));
        assert_eq!(taken["metadata"]["resourceVersion"], "7", "or two would take it");
    }

    #[tokio::test]
    async fn one_that_is_free_or_ours_or_missing_is_taken_at_once() {
        let now = Instant::now();
        for found in [lease("", "2001-01-01T00:00:00.000000Z", 1), lease("me", "2001-01-01T00:00:00.000000Z", 15)] {
            assert!(matches!(candidate().look(Some(&found), now), Look::Take(_)), "{found}");
        }
        let Look::Take(first) = candidate().look(None, now) else { panic!("not taken") };
        let address = json!({"canaryd.io/address": "10.1.2.3:7878"});
        assert_eq!(first["metadata"], json!({"name": "canaryd", "namespace": "shop", "annotations": address}));
        assert_eq!(first["spec"]["renewTime"].as_str().map(str::len), Some("2026-11-20T10:00:00.000000Z".len()));
    }

    #[tokio::test]
    async fn where_its_holder_listens_is_the_present_holders_word() {
        let mut found = lease("other", "x", 15);
        found["metadata"]["annotations"] = json!({"canaryd.io/address": "10.9.9.9:7878", "team": "shop"});
        let Look::Wait { at, .. } = candidate().look(Some(&found), Instant::now()) else { panic!("taken") };
        assert_eq!(at, Some("10.9.9.9:7878".parse().unwrap()));
        let mut me = candidate();
        assert_eq!(me.taken(&found)["metadata"]["annotations"], json!({"canaryd.io/address": "10.1.2.3:7878", "team": "shop"}));
        me.address = None;
        assert_eq!(me.taken(&found)["metadata"]["annotations"], json!({"team": "shop"}));
        found["metadata"]["annotations"][ADDRESS] = "shop.example:80".into();
        assert!(matches!(me.look(Some(&found), Instant::now()), Look::Wait { at: None, .. }), "no name is looked up");
    }

    #[tokio::test]
    async fn a_holder_that_relies_on_it_for_hours_by_mistake_does_not_keep_it_for_hours() {
        let (mut me, begin) = (candidate(), Instant::now());
        let found = lease("other", "x", 1_000_000);
        assert!(matches!(me.look(Some(&found), begin), Look::Wait { .. }));
        assert!(matches!(me.look(Some(&found), begin + OTHERS_LAST_MAX), Look::Take(_)));
    }
}
