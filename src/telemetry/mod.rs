//! What canaryd says about itself: log lines, metrics, and the sentences people read. It only records: nothing here may
//! decide, wait or fail. Read [`events`] first (one type per thing that happens, log line and counter together), then
//! [`metrics`]; [`words`] holds every sentence that the API, the command line and the log share.

pub mod events;
mod expose;
pub mod log;
pub mod metrics;
pub mod words;

pub use metrics::Metrics;
