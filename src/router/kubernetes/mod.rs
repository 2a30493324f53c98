//! Weights kept in a Kubernetes object. One file per kind says where they are ([`layout::Layout`]); what is common is here: one
//! JSON Patch that tests what was read and replaces only the numbers, a generation that keeps stale writers out, and a look at
//! what came of it. Objects are plain JSON, so that no field of a newer cluster is lost.
//!
//! Reading order: this file, `layout.rs`, `istio.rs`.

mod aws_alb;
mod gateway_api;
mod generation;
mod istio;
mod layout;
mod nginx_ingress;
mod replicas;
mod rolling;
mod routed;
mod service;
#[cfg(test)]
mod tests;
mod traefik;
mod watched;

use super::{Desired, Router, RouterError, canary_share, no_newer};
use crate::apiserver::{CallError, Object, Resource, owner_of};
use crate::model::rule::{KubernetesRoute, RouteKind};
use crate::model::{Side, TrafficReading, Weight};
use generation::{claim, claim_entry, generation_of, generation_of_entry};
use kube::Client;
use layout::{Layout, Taken, version_of};
use routed::{Place, Routed};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use watched::Watched;
pub use watched::Watches;

/// Times the object is read and patched again because another hand changed it in between.
const ATTEMPTS_MAX: usize = 4;
/// How long what obeys the object may take to say that it took the change.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One object, the two arms in it.
#[derive(Debug)]
struct Kubernetes {
    object: Object,
    layout: Box<dyn Layout>,
}

/// How one attempt ended.
enum Attempt {
    Done,
    /// Another hand was faster, and left the weights alone.
    Again(String),
}

impl Kubernetes {
    async fn get(&self) -> Result<Value, RouterError> {
        self.object.get().await.map_err(|error| self.error(error))
    }

    fn error(&self, error: CallError) -> RouterError {
        told(self.object.what(), error)
    }

    /// It is not as the rule says.
    fn wrong(&self, why: String) -> RouterError {
        RouterError::Object { what: self.object.what(), why }
    }

    fn refused(&self, why: String) -> RouterError {
        RouterError::Refused { what: self.object.what(), why }
    }

    fn not_verified(&self, why: String) -> RouterError {
        RouterError::NotVerified { what: self.object.what(), why }
    }

    async fn attempt(&self, desired: Desired) -> Result<Attempt, RouterError> {
        let found = self.get().await?;
        no_newer(&self.object.what(), self.generation(&found), desired.generation)?;
        let second = canary_share(desired.canary, desired.weight);
        if !self.in_force(&found, second, desired.generation) {
            if desired.weight > Weight::ZERO {
                self.layout.sound(&found).map_err(|why| self.refused(why))?;
            }
            let operations = self.operations(&found, second, desired.generation)?;
            match self.object.patch(&operations).await {
                Ok(_) => {}
                Err(CallError::Conflict(answer)) => return self.after_conflict(&found, second, desired.generation, answer).await,
                Err(error) => return Err(self.error(error)),
            }
        }
        self.confirm(second, desired.generation).await.map(|()| Attempt::Done)
    }

    /// A test failed, or the object's rules refuse the change: the answer does not tell which, the object does.
    async fn after_conflict(&self, before: &Value, second: Weight, generation: u64, answer: String) -> Result<Attempt, RouterError> {
        let now = self.get().await?;
        if self.in_force(&now, second, generation) {
            // ours, whose answer was lost
            return self.confirm(second, generation).await.map(|()| Attempt::Done);
        }
        if version_of(&now) == version_of(before) {
            return Err(self.refused(answer));
        }
        let hand = self.writer(&now).unwrap_or_else(|| "another hand".to_owned());
        let share = |object: &Value| self.layout.share(object).ok();
        if share(&now) == share(before) {
            return Ok(Attempt::Again(format!("{hand} changed it at the same moment")));
        }
        let weight = share(&now).map_or_else(|| "something else".to_owned(), |w| w.to_string());
        Err(self.refused(format!("{hand} gave the second workload {weight} at the same moment")))
    }

    fn generation(&self, object: &Value) -> Option<u64> {
        generation_of_entry(object, self.layout.entry_name())
    }

    /// Tests of what was read, our generation, and the numbers.
    fn operations(&self, found: &Value, second: Weight, generation: u64) -> Result<Vec<Value>, RouterError> {
        let mut operations = claim_entry(found, self.layout.entry_name(), generation);
        operations.extend(self.layout.patch(found, second).map_err(|why| self.wrong(why))?);
        Ok(operations)
    }

    fn in_force(&self, object: &Value, second: Weight, generation: u64) -> bool {
        self.generation(object) == Some(generation) && self.layout.share(object).is_ok_and(|share| share == second)
    }

    /// Reads back until it shows, and until what obeys the object says it took it.
    async fn confirm(&self, second: Weight, generation: u64) -> Result<(), RouterError> {
        let until = Instant::now() + TAKEN_MAX;
        loop {
            let found = self.get().await?;
            if !self.in_force(&found, second, generation) {
                let hand = self.writer(&found).unwrap_or_else(|| "another hand".to_owned());
                return Err(self.not_verified(format!("{hand} changed it right after it was written")));
            }
            match self.layout.taken(&found) {
                Taken::Yes => return Ok(()),
                Taken::No(why) => return Err(self.refused(why)),
                Taken::NotYet(why) if Instant::now() >= until => {
                    return Err(self.not_verified(format!("{why} after {} s", TAKEN_MAX.as_secs())));
                }
                Taken::NotYet(_) => sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Who wrote the weights last.
    fn writer(&self, object: &Value) -> Option<String> {
        owner_of(object, &self.layout.field(object)?)
    }
}

impl Place for Kubernetes {
    async fn reading(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let found = self.get().await?;
        let second = self.layout.share(&found).map_err(|why| self.wrong(why))?;
        Ok(TrafficReading::new(canary_share(canary, second), self.generation(&found), self.writer(&found)))
    }

    async fn make_so(&self, desired: Desired) -> Result<(), RouterError> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(desired).await? {
                Attempt::Done => return Ok(()),
                Attempt::Again(changed) => why = changed,
            }
        }
        Err(self.refused(format!("{why}, {ATTEMPTS_MAX} times in a row")))
    }
}

/// A call about `what` brought nothing.
fn told(what: String, error: CallError) -> RouterError {
    match error {
        CallError::Unreachable(cause) => RouterError::Unreachable { what, cause },
        CallError::Missing(why) => RouterError::Object { what, why },
        CallError::Denied(why) => RouterError::Denied { what, why },
        CallError::Refused(why) | CallError::Conflict(why) => RouterError::Refused { what, why },
    }
}

/// For the object of a rule. Nothing is read yet. A new kind is one file and one line here.
pub(super) fn open(route: &KubernetesRoute, means: (Client, Watches)) -> Arc<dyn Router> {
    let namespace = &route.namespace;
    let client = &means.0;
    let watched = |resource, names: &[&str]| Watched::new(means.clone(), resource, namespace, names);
    let object = |resource: Resource, layout: Box<dyn Layout>| -> Arc<dyn Router> {
        let place = Kubernetes { object: Object::new(client.clone(), resource, namespace, &route.name), layout };
        Arc::new(Routed::new(&route.kind, place, watched(resource, &[&route.name])))
    };
    match route.kind.clone() {
        RouteKind::VirtualService { route, destinations } => {
            object(istio::RESOURCE, Box::new(istio::VirtualService { route, destinations, namespace: namespace.clone() }))
        }
        RouteKind::GatewayRoute { grpc, rule, backends } => {
            let resource = if grpc { gateway_api::GRPC_ROUTE } else { gateway_api::HTTP_ROUTE };
            object(resource, Box::new(gateway_api::GatewayRoute { rule, backends }))
        }
        RouteKind::NginxIngress { services, weight_total } => {
            object(nginx_ingress::RESOURCE, Box::new(nginx_ingress::CanaryIngress { services, weight_total }))
        }
        RouteKind::AlbIngress { action, services } => object(nginx_ingress::RESOURCE, Box::new(aws_alb::Action { action, services })),
        RouteKind::Service { label, values } => object(service::RESOURCE, Box::new(service::Selector { label, values })),
        RouteKind::TraefikService { services } => object(traefik::RESOURCE, Box::new(traefik::TraefikService { services })),
        RouteKind::Replicas { deployments, total } => {
            let watch = watched(Resource::DEPLOYMENT, &deployments.each_ref().map(String::as_str));
            Arc::new(Routed::new(&route.kind, replicas::Replicas::new(client.clone(), route, deployments, total), watch))
        }
        RouteKind::RollingUpdate => {
            let watch = watched(Resource::DEPLOYMENT, &[&route.name]);
            Arc::new(Routed::new(&route.kind, rolling::Rolling::new(client.clone(), route), watch))
        }
    }
}
