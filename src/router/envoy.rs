//! Envoy: weights in a route file replaced by rename, or in runtime keys.

use super::{Answer, Desired, Router, RouterError};
use crate::model::rule::EnvoyRoute;
use crate::model::{Side, TrafficReading};

/// One Envoy, one weighted route.
#[derive(Debug)]
pub struct Envoy {
    route: EnvoyRoute,
}

impl Envoy {
    /// For the route of a rule. Nothing is read yet.
    ///
    /// # Errors
    /// The admin address is no `http://host:port`.
    pub fn new(route: EnvoyRoute) -> Result<Self, RouterError> {
        Ok(Self { route })
    }

    fn unbuilt<T: Send + 'static>(&self) -> Answer<'_, T> {
        Box::pin(std::future::ready(Err(RouterError::Unreachable { what: self.route.admin.clone(), cause: "not built".to_owned() })))
    }
}

impl Router for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, _canary: Side) -> Answer<'_, TrafficReading> {
        self.unbuilt()
    }

    fn write(&self, _desired: Desired) -> Answer<'_, ()> {
        self.unbuilt()
    }
}
