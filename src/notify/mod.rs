//! Receivers, one file each (Alertmanager, Slack, PagerDuty, Grafana, webhook). Not carried out by this build: what would be told
//! is an [`crate::model::Effect::Notify`] of the stored decision and goes to the log, and a rule that names a receiver is refused
//! by `run` with a sentence. A receiver must never decide, and never delay a decision.

mod told;

pub use told::{NOTICES_MAX, Notices, Told};
