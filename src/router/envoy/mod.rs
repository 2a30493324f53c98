//! Envoy: weights in a route file replaced by rename (the durable way), or in runtime keys. What Envoy really has is asked
//! of its admin interface; a write ends only when it shows there. Read `document` first.

mod admin;
mod document;
mod replace;
mod route_file;
mod runtime_keys;

use super::{Answer, Desired, Router, RouterError, no_newer};
use crate::model::rule::{EnvoyRoute, EnvoyWrite};
use crate::model::{Side, TrafficReading};
use admin::Admin;
use std::time::Duration;

/// How long Envoy may take to show a new weight; it takes under 100 ms (ENVIRONMENT 2).
const SHOWN_MAX: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// One Envoy, one weighted route.
#[derive(Debug)]
pub struct Envoy {
    route: EnvoyRoute,
    admin: Admin,
    /// One write at a time: two would read each other's file.
    writing: tokio::sync::Mutex<()>,
}

impl Envoy {
    /// For the route of a rule. Nothing is read yet.
    ///
    /// # Errors
    /// The admin address is no `http://host:port`.
    pub fn new(route: EnvoyRoute) -> Result<Self, RouterError> {
        let admin = Admin::new(&route.admin)?;
        Ok(Self { route, admin, writing: tokio::sync::Mutex::new(()) })
    }
}

impl Router for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        Box::pin(async move {
            match &self.route.by {
                EnvoyWrite::RouteFile { path, stat_prefix, route } => self.route_file(path, stat_prefix, route).read(canary).await,
                EnvoyWrite::RuntimeKeys { prefix } => self.runtime_keys(prefix).read(canary).await,
            }
        })
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            let _one_at_a_time = self.writing.lock().await;
            match &self.route.by {
                EnvoyWrite::RouteFile { path, stat_prefix, route } => self.route_file(path, stat_prefix, route).write(desired).await,
                EnvoyWrite::RuntimeKeys { prefix } => self.runtime_keys(prefix).write(desired).await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_is_http_with_a_host() {
        let route = |admin: &str| EnvoyRoute {
            admin: admin.to_owned(),
            by: EnvoyWrite::RuntimeKeys { prefix: "p".to_owned() },
            clusters: ["a".to_owned(), "b".to_owned()],
        };
        assert!(Envoy::new(route("http://127.0.0.1:9901")).is_ok());
        for wrong in ["127.0.0.1:9901", "https://127.0.0.1:9901", "http://", "http://u:secret@h:1", "ftp://h", "http://h:1/path"] {
            let error = Envoy::new(route(wrong)).unwrap_err().to_string();
            assert!(error.contains("http://host:port") && !error.contains("secret"), "{wrong}: {error}");
        }
    }
}
