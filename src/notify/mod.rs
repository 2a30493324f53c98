//! Receivers of notices, one file each: [`alertmanager`], [`grafana`]. What is told was decided and stored before; a receiver says
//! it in its own way, again until it is heard, and can neither decide nor delay anything.
//!
//! ```text
//!   drivers --Notices (bounded, never waits)--> switchboard --a bounded queue each--> one task per receiver and replica --> HTTP
//! ```
//! A receiver is two halves: `take` puts a notice into what it wants to be so out there, without I/O; `deliver` makes it so. A
//! new receiver is one file with these two and a line where the settings are read.

pub mod alertmanager;
mod desk;
pub mod grafana;
mod http;
mod told;

pub use alertmanager::Alertmanager;
pub use desk::{QUEUE_MAX, Switchboard};
pub use grafana::Grafana;
pub use http::{Auth, Endpoint, Fault};
pub use told::{NOTICES_MAX, Notices, Told};

use crate::model::Timestamp;
use std::future::Future;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

/// The future of a delivery.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// Something that is told notices.
pub trait Receiver: Send {
    /// Its address, for the log.
    fn target(&self) -> &str;

    /// Puts a notice into what is to be so out there. No I/O.
    fn take(&mut self, told: &Told, now: Timestamp);

    /// When there is something to deliver: at once if that lies in the past; `None` = nothing.
    fn due(&self) -> Option<Timestamp>;

    /// Makes it so out there, as far as it is due.
    ///
    /// # Errors
    /// What could not be delivered stays due where another call may do better.
    fn deliver(&mut self, now: Timestamp) -> Delivery<'_>;

    /// What was dropped since it was last asked: which rollout, and why in a word of a closed set.
    fn missed(&mut self) -> Vec<(crate::model::RolloutId, &'static str)>;
}

/// Now. Receivers may look at the clock: they decide nothing.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
