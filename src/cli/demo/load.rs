//! Users: requests started on schedule, whatever becomes of those before (an open loop).

use std::net::SocketAddr;
use std::time::Duration;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSpec {
    /// Where to.
    pub target: SocketAddr,
    /// Mean requests per second (Poisson), `0 < rate <= RATE_MAX`.
    pub rate: f64,
    /// How long at most.
    pub length: Duration,
    /// Most requests under way; one that would be more is not sent, and counted.
    pub in_flight_max: usize,
    /// After this a user gives up.
    pub patience: Duration,
    /// The same seed gives the same schedule.
    pub seed: u64,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Started.
    pub sent: u64,
    /// Answered below 500.
    pub ok: u64,
    /// Answered 500 or above, or cut.
    pub failed: u64,
    /// Given up by the user.
    pub given_up: u64,
    /// Not sent: too many under way.
    pub skipped: u64,
}

/// Running load. It ends after its length, when it is dropped, or by [`Load::stop`].
#[derive(Debug)]
pub struct Load {}

impl Load {
    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// A rate, length or number in flight out of range.
    pub fn start(_spec: LoadSpec) -> Result<Self, String> {
        Ok(Self {})
    }

    /// So far.
    pub fn counts(&self) -> LoadCounts {
        LoadCounts::default()
    }

    /// Waits until the length is over and every request has ended.
    pub async fn finished(&self) -> LoadCounts {
        self.counts()
    }

    /// No new request; those under way end.
    pub async fn stop(&self) -> LoadCounts {
        self.counts()
    }
}
