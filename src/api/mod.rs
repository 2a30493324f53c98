//! The HTTP API under `/api/v1`, the webhook of Alertmanagers, and `/metrics`, `/healthz`, `/readyz`. It reads views and hands
//! people's words to the runtime; it decides nothing. Read [`routes()`] first for what there is, then [`wire`] for what is said; `problem.rs` holds every
//! refusal, `listen.rs` the accept loop with its bounds.

mod alerts;
mod annotations;
mod auth;
mod body;
mod convert;
mod events;
mod journal;
mod listen;
mod mutations;
mod problem;
mod reads;
mod routes;
mod stall;
mod standby;
mod tokens;
mod verdict;
pub mod wire;

pub use alerts::{ALERTS_BODY_MAX, ALERTS_MAX};
pub use events::FEEDS_MAX;
pub use listen::{CONNECTIONS_MAX, HEADER_TIMEOUT, serve};
pub use routes::routes;
pub use standby::{Standing, Turn, stand_by};
pub use tokens::{Bearer, Tokens};

use crate::runtime::Handle;
use crate::telemetry::Metrics;
use std::net::SocketAddr;

/// What every request can reach. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The way to the runtime.
    pub handle: Handle,
    /// Who may do what.
    pub tokens: Tokens,
    /// The registry of `/metrics`.
    pub metrics: Metrics,
    /// Mutations need no token, and are recorded as made by `demo`. Only for the demo, on loopback.
    pub open: bool,
    /// Reads under `/api/v1` need a viewer's token too.
    pub reads_need_token: bool,
}

impl ApiState {
    /// May this state be served at this address?
    ///
    /// # Errors
    /// Beyond loopback without any token, or open: whoever reaches the port could read, or move traffic.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), String> {
        if address.ip().is_loopback() {
            return Ok(());
        }
        if self.open {
            return Err(format!(
                "{address} is reachable from outside, and without tokens anybody there could move traffic: listen on 127.0.0.1"
            ));
        }
        if self.tokens.is_empty() {
            return Err(format!("{address} is reachable from outside: give a token file, or listen on 127.0.0.1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::runtime::Registry;

    use tokio::sync::mpsc;

    fn state(tokens: Tokens, open: bool) -> ApiState {
        let handle = Handle::new(Registry::default(), mpsc::channel(1).0);
        ApiState { handle, tokens, metrics: Metrics::new(), open, reads_need_token: false }
    }

    #[test]
    fn beyond_loopback_it_is_served_with_tokens_only() {
        let tokens = || Tokens::new([("ann", vec![Role::Operator], "abcdefghijklmnop")]).unwrap();
        for (address, tokens, open, may) in [
            ("127.0.0.1:7878", Tokens::none(), true, true),
            ("[::1]:7878", Tokens::none(), false, true),
            ("0.0.0.0:7878", Tokens::none(), false, false),
            ("0.0.0.0:7878", tokens(), true, false),
            ("10.0.0.7:7878", tokens(), false, true),
        ] {
            let answer = state(tokens, open).check_address(address.parse().unwrap());
            assert_eq!(answer.is_ok(), may, "{address}: {answer:?}");
            assert!(answer.err().is_none_or(|text| text.contains(address)));
        }
    }
}
