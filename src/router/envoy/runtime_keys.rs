//! Runtime keys through the admin interface: one POST is one snapshot, both keys always (ENVIRONMENT 2, GOTCHA 2). Lost when
//! Envoy restarts: it then goes back to the weights of its configuration, which the next read shows.

use super::admin::Admin;
use super::{ASK_AGAIN, Envoy, SHOWN_MAX, no_newer};
use crate::model::{Side, TrafficReading};
use crate::router::share::{parts, second_share};
use crate::router::{Desired, RouterError, canary_share};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The sum of the weights written.
const TOTAL: u64 = 1000;
/// The key beside the weights that carries the generation: Envoy reads only those named after a cluster of the route.
const GENERATION: &str = "canaryd-generation";

#[derive(Debug)]
pub(super) struct RuntimeKeys<'a> {
    admin: &'a Admin,
    clusters: &'a [String; 2],
    prefix: &'a str,
}

impl Envoy {
    pub(super) fn runtime_keys<'a>(&'a self, prefix: &'a str) -> RuntimeKeys<'a> {
        RuntimeKeys { admin: &self.admin, clusters: &self.route.clusters, prefix }
    }
}

/// The final values of the keys; `None` where a key is not set.
struct Keys {
    weights: [Option<u64>; 2],
    generation: Option<u64>,
}

impl RuntimeKeys<'_> {
    pub(super) async fn read(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let keys = self.keys().await?;
        let weights = match keys.weights {
            [Some(first), Some(second)] => [first, second],
            [first, second] => {
                let configured = self.configured().await?;
                [first.unwrap_or(configured[0]), second.unwrap_or(configured[1])]
            }
        };
        let second = second_share(weights).ok_or_else(|| self.object("both weights are 0: Envoy answers 404 to everybody"))?;
        let ours = keys.generation.is_some() && weights.iter().sum::<u64>() == TOTAL;
        let writer = if ours { None } else { Some(format!("another hand (weights {} and {})", weights[0], weights[1])) };
        Ok(TrafficReading::new(canary_share(canary, second), keys.generation, writer))
    }

    pub(super) async fn write(&self, desired: Desired) -> Result<(), RouterError> {
        no_newer(&self.what(), self.keys().await?.generation, desired.generation)?;
        let second = canary_share(desired.canary, desired.weight);
        let weights = parts(second, TOTAL).ok_or_else(|| self.object("a share is no whole permille"))?;
        let names = self.names();
        let values = [weights[0].to_string(), weights[1].to_string(), desired.generation.to_string()];
        let query: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        self.admin.post("/runtime_modify", &query).await?;
        self.wait(weights, desired.generation).await
    }

    async fn wait(&self, wanted: [u64; 2], generation: u64) -> Result<(), RouterError> {
        let until = Instant::now() + SHOWN_MAX;
        loop {
            let keys = self.keys().await?;
            if keys.weights == wanted.map(Some) && keys.generation == Some(generation) {
                return Ok(());
            }
            if Instant::now() >= until {
                let why = format!("they are {:?} and not {wanted:?}: a runtime layer above the admin layer sets them", keys.weights);
                return Err(RouterError::NotVerified { what: self.what(), why });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Of both clusters, then of the generation.
    fn names(&self) -> [String; 3] {
        [self.clusters[0].as_str(), self.clusters[1].as_str(), GENERATION].map(|last| format!("{}.{last}", self.prefix))
    }

    async fn keys(&self) -> Result<Keys, RouterError> {
        let runtime = self.admin.get("/runtime", &[]).await?;
        let entries = runtime.get("entries").unwrap_or(&Value::Null);
        let value = |name: &String| match entries.get(name).and_then(|e| e.get("final_value")).and_then(Value::as_str) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.object(&format!("{name} is {text:?}, which is no whole number"))),
        };
        let [first, second, generation] = self.names();
        Ok(Keys { weights: [value(&first)?, value(&second)?], generation: value(&generation)? })
    }

    /// The weights of the configuration, which hold where no key is set.
    async fn configured(&self) -> Result<[u64; 2], RouterError> {
        let mut found = Vec::new();
        for resource in ["static_route_configs", "dynamic_route_configs"] {
            let dump = self.admin.get("/config_dump", &[("resource", resource)]).await?;
            self.collect(&dump, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [weights] => Ok(weights),
            [] => Err(self.object("no route of Envoy has weighted clusters with this prefix and these two clusters")),
            _ => Err(self.object("several routes have this prefix and these clusters, with different weights in the configuration")),
        }
    }

    fn collect(&self, value: &Value, found: &mut Vec<[u64; 2]>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, found)),
            Value::Object(fields) => {
                if fields.get("runtime_key_prefix").and_then(Value::as_str) == Some(self.prefix) {
                    found.extend(self.weights_in(value));
                }
                fields.values().for_each(|field| self.collect(field, found));
            }
            _ => {}
        }
    }

    fn weights_in(&self, weighted: &Value) -> Option<[u64; 2]> {
        let entries = weighted.get("clusters")?.as_array().filter(|entries| entries.len() == 2)?;
        let of = |name: &String| {
            let entry = entries.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name))?;
            Some(entry.get("weight").and_then(Value::as_u64).unwrap_or(0))
        };
        Some([of(&self.clusters[0])?, of(&self.clusters[1])?])
    }

    fn what(&self) -> String {
        format!("{}, runtime keys {}.*", self.admin.what(), self.prefix)
    }

    fn object(&self, why: &str) -> RouterError {
        RouterError::Object { what: self.what(), why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    #[test]
    fn every_permille_is_whole_in_the_total_written() {
        for permille in 0..=1000 {
            let weight = Weight::from_permille(permille).unwrap();
            assert_eq!(parts(weight, TOTAL), Some([1000 - u64::from(permille), u64::from(permille)]));
        }
    }
}
