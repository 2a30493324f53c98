//! What operators write, and what the rest of the daemon may trust: rule files and the daemon's settings, checked here and
//! nowhere else. Everything wrong is told in one [`Report`], each problem with its file, line and path; nothing is guessed and
//! no unknown key is passed over. Operators' terms (tolerance, sensitivity, false rollbacks) become numbers here, in one place.
//!
//! A file becomes a tree whose every node knows its line (`yaml`), and one walk over that tree (`walk`) reads the grammar.
//! There is no derived struct between them: a derived reader stops at its first mistake, the walk goes on and finds them all,
//! and it knows the path and the nearest known key when it does. First file to read: `rule/mod.rs`, the walk over a rule, then
//! `rule/keys.rs`, the grammar's words; `settings/` is the daemon's own file, `object.rs` a rule kept in a cluster.

mod load;
mod manifest;
mod object;
mod overlap;
mod quantity;
mod report;
pub mod rule;
pub mod settings;
mod walk;
mod watched;
mod yaml;

pub use load::{Loaded, LoadedRule, RuleSet, load_rules, read_rule, read_rules, reload};
pub use object::{API, Refused, RuleObject};
pub use overlap::{Claims, Written, overlap};
pub use report::{Problem, Report};
pub use rule::{Attached, Known, Reach, parse_rule, parse_rule_with, rule_schema, rule_spec_schema};
pub use settings::{Flags, Settings};
pub use watched::fingerprint;
