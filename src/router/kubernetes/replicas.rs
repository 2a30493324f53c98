//! The share is that of replicas: two Deployments behind one Service, which sends every pod about as much. What is written are both
//! numbers, so that their sum stays; the finest step is one replica. An autoscaler of either would take its number back: then nothing
//! is written but 0.
//!
//! There is more capacity on the way, never less: what grows is written first, and the other shrinks when the new pods are ready. Down
//! from a canary that is no good it shrinks as soon as anybody else can serve.

use super::layout::pointer;
use super::routed::Place;
use super::{claim, generation_of, service, told, version_of};
use crate::apiserver::{CallError, MANAGER, Object, Resource, owner_of, scalers_of};
use crate::model::rule::KubernetesRoute;
use crate::model::{Side, TrafficReading, Weight};
use crate::router::share::{parts, second_share};
use crate::router::{Desired, RouterError, canary_share, no_newer};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How many replicas both have together, noted on both when the first weight is written.
const TOTAL: &str = "canaryd.io/replicas-total";
/// Times both are read and patched again because another hand changed one in between.
const ATTEMPTS_MAX: usize = 8;
/// How long pods may take to be ready before that is asked for again: less than a write may take.
const READY_MAX: Duration = Duration::from_secs(7);
/// How often they are looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Replicas {
    sides: [Object; 2],
    service: Object,
    within: Within,
    total: Option<u32>,
}

/// Where the Deployments are.
struct Within {
    client: Client,
    namespace: String,
    deployments: [String; 2],
}

impl std::fmt::Debug for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.deployments.join(" and "), self.namespace)
    }
}

/// Both Deployments as they were read.
struct Found([Value; 2]);

/// Why a step of a write did not come to its end.
enum Stop {
    /// Another hand was faster, and left the numbers alone.
    Again(String),
    Failed(RouterError),
}

impl From<RouterError> for Stop {
    fn from(error: RouterError) -> Self {
        Stop::Failed(error)
    }
}

impl Found {
    fn counts(&self) -> [u64; 2] {
        self.0.each_ref().map(|found| found.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1))
    }

    /// Ready pods, as the controller says that has seen the number asked for; `None` if it has not.
    fn ready(&self) -> Option<[u64; 2]> {
        let of = |found: &Value| {
            let number = |path: &str| found.pointer(path).and_then(Value::as_u64).unwrap_or(0);
            (number("/status/observedGeneration") >= number("/metadata/generation")).then(|| number("/status/readyReplicas"))
        };
        let [first, second] = self.0.each_ref().map(of);
        Some([first?, second?])
    }

    /// How far the pods are, for an operator.
    fn progress(&self) -> String {
        let [c, d] = self.counts();
        self.ready().map_or_else(
            || format!("the Deployment controller has not seen yet that {c} and {d} replicas are wanted"),
            |[a, b]| format!("{a} of {c} and {b} of {d} replicas are ready"),
        )
    }

    fn generation(&self) -> Option<u64> {
        self.0.iter().filter_map(generation_of).max()
    }

    /// Noted, unless one side has none: then both numbers are one, and whoever changed it meant it.
    fn total(&self) -> u64 {
        let counts = self.counts();
        let noted = self.0.iter().find_map(|found| found.pointer(&pointer(&["metadata", "annotations", TOTAL]))?.as_str()?.parse().ok());
        let sum = counts.iter().sum();
        if counts.contains(&0) { sum } else { noted.unwrap_or(sum) }
    }

    /// Who wrote a number last: another hand, if either was one.
    fn writer(&self) -> Option<String> {
        let mut owners = self.0.iter().filter_map(|found| owner_of(found, &["spec", "replicas"]));
        let first = owners.next()?;
        Some(owners.find(|owner| owner != MANAGER && first == MANAGER).unwrap_or(first))
    }
}

impl Replicas {
    pub(super) fn new(client: Client, route: &KubernetesRoute, deployments: [String; 2], total: Option<u32>) -> Self {
        let KubernetesRoute { namespace, name: service, .. } = route;
        let object = |resource, name: &str| Object::new(client.clone(), resource, namespace, name);
        Self {
            sides: deployments.each_ref().map(|name| object(Resource::DEPLOYMENT, name)),
            service: object(service::RESOURCE, service),
            within: Within { client: client.clone(), namespace: namespace.clone(), deployments },
            total,
        }
    }

    fn what(&self) -> String {
        self.sides.each_ref().map(Object::what).join(" and ")
    }

    fn wrong(&self, why: String) -> RouterError {
        RouterError::Object { what: self.what(), why }
    }

    fn refused(&self, why: String) -> RouterError {
        RouterError::Refused { what: self.what(), why }
    }

    fn not_verified(&self, why: String) -> RouterError {
        RouterError::NotVerified { what: self.what(), why }
    }

    async fn get(&self) -> Result<Found, RouterError> {
        let one = async |side: &Object| side.get().await.map_err(|error| told(side.what(), error));
        let [first, second] = &self.sides;
        Ok(Found([one(first).await?, one(second).await?]))
    }

    fn share(&self, found: &Found) -> Result<Weight, RouterError> {
        second_share(found.counts()).ok_or_else(|| self.wrong("both have 0 replicas: nobody serves".to_owned()))
    }

    async fn attempt(&self, desired: Desired) -> Result<(), Stop> {
        let mut found = self.get().await?;
        no_newer(&self.what(), found.generation(), desired.generation)?;
        let second = canary_share(desired.canary, desired.weight);
        let total = self.total.map_or_else(|| found.total(), u64::from);
        let wanted = parts(second, total).filter(|_| total > 0).ok_or_else(|| self.unrepresentable(second, total))?;
        if desired.weight > Weight::ZERO {
            self.sound(&found).await?;
        }
        let canary = desired.canary.index();
        let grown = [0, 1].map(|side| wanted[side].max(found.counts()[side]));
        self.write(&mut found, grown, total, desired.generation).await?;
        // up: all of the canary's are ready before the baseline shrinks; down: somebody serves without the canary
        let ready_first =
            if found.counts()[canary] > wanted[canary] { [(1 - canary, wanted[1 - canary].min(1))] } else { [(canary, wanted[canary])] };
        self.until(&mut found, |ready| ready_first.iter().all(|(side, least)| ready[*side] >= *least)).await?;
        self.write(&mut found, wanted, total, desired.generation).await?;
        self.until(&mut found, |ready| second_share(ready) == Some(second)).await?;
        if found.counts() == wanted {
            return Ok(());
        }
        let hand = found.writer().unwrap_or_else(|| "another hand".to_owned());
        Err(self.not_verified(format!("{hand} changed it right after it was written")).into())
    }

    fn unrepresentable(&self, second: Weight, total: u64) -> RouterError {
        self.wrong(format!("{second} of {total} replicas is no whole number: write total: in the rule, or steps that are"))
    }

    /// Numbers, the total and our generation on both, where they are not yet.
    async fn write(&self, found: &mut Found, counts: [u64; 2], total: u64, generation: u64) -> Result<(), Stop> {
        for (side, count) in counts.into_iter().enumerate() {
            if found.counts()[side] == count && generation_of(&found.0[side]) == Some(generation) {
                continue;
            }
            let operations = operations(&found.0[side], count, total, generation);
            match self.sides[side].patch(&operations).await {
                Ok(now) => found.0[side] = now,
                Err(CallError::Conflict(answer)) => return Err(self.after_conflict(found, side, answer).await?),
                Err(error) => return Err(told(self.sides[side].what(), error).into()),
            }
        }
        Ok(())
    }

    /// A test failed, or the change is refused: the answer does not tell which, the objects do.
    async fn after_conflict(&self, before: &Found, side: usize, answer: String) -> Result<Stop, RouterError> {
        let now = self.get().await?;
        if version_of(&now.0[side]) == version_of(&before.0[side]) {
            return Ok(self.refused(answer).into());
        }
        let hand = now.writer().unwrap_or_else(|| "another hand".to_owned());
        if now.counts() == before.counts() || now.writer().as_deref() == Some(MANAGER) {
            return Ok(Stop::Again(format!("{hand} changed one at the same moment")));
        }
        let [first, second] = now.counts();
        Ok(self.refused(format!("{hand} made it {first} and {second} replicas at the same moment")).into())
    }

    /// Waits until the pods are as they should be.
    async fn until(&self, found: &mut Found, is: impl Fn([u64; 2]) -> bool) -> Result<(), RouterError> {
        let until = Instant::now() + READY_MAX;
        loop {
            if found.ready().is_some_and(&is) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.not_verified(found.progress()));
            }
            sleep(LOOK_AGAIN).await;
            *found = self.get().await?;
        }
    }

    /// May more traffic be sent this way?
    async fn sound(&self, found: &Found) -> Result<(), RouterError> {
        let service = self.service.get().await.map_err(|error| told(self.service.what(), error))?;
        for (side, deployment) in self.sides.iter().zip(&found.0) {
            if !selects(&service, deployment) {
                let why = format!("does not select the pods of {}: its selector must match both", side.what());
                return Err(RouterError::Object { what: self.service.what(), why });
            }
        }
        for (side, name) in self.sides.iter().zip(&self.within.deployments) {
            let scalers = scalers_of(&self.within.client, &self.within.namespace, name).await;
            if let Some(scaler) = scalers.map_err(|(what, error)| told(what, error))?.first() {
                let why = format!(
                    "HorizontalPodAutoscaler {scaler} scales {}, and would take the share back: take it away, or let another router \
                     move the traffic",
                    side.what()
                );
                return Err(self.refused(why));
            }
        }
        Ok(())
    }
}

impl Place for Replicas {
    async fn reading(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let found = self.get().await?;
        let second = self.share(&found)?;
        Ok(TrafficReading::new(canary_share(canary, second), found.generation(), found.writer()))
    }

    async fn make_so(&self, desired: Desired) -> Result<(), RouterError> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(desired).await {
                Ok(()) => return Ok(()),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Again(changed)) => why = changed,
            }
        }
        Err(self.refused(format!("{why}, {ATTEMPTS_MAX} times in a row")))
    }
}

fn operations(found: &Value, count: u64, total: u64, generation: u64) -> Vec<Value> {
    let mut operations = claim(found, generation);
    if let Some(before) = found.pointer("/spec/replicas") {
        operations.push(json!({"op": "test", "path": "/spec/replicas", "value": before}));
    }
    operations.push(json!({"op": "add", "path": "/spec/replicas", "value": count}));
    operations.push(json!({"op": "add", "path": pointer(&["metadata", "annotations", TOTAL]), "value": total.to_string()}));
    operations
}

/// Does a Service send to the pods of this Deployment?
fn selects(service: &Value, deployment: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let labels = deployment.pointer("/spec/template/metadata/labels");
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_controller_has_not_seen_is_not_told_as_none() {
        let deployment = |generation: u64, ready: u64| {
            json!({"metadata": {"generation": 3}, "spec": {"replicas": 4},
                "status": {"observedGeneration": generation, "readyReplicas": ready}})
        };
        let said = |first, second| Found([first, second]).progress();
        assert_eq!(said(deployment(3, 4), deployment(3, 0)), "4 of 4 and 0 of 4 replicas are ready");
        let unseen = "the Deployment controller has not seen yet that 4 and 4 replicas are wanted";
        assert_eq!(said(deployment(3, 4), deployment(2, 4)), unseen);
    }
}
