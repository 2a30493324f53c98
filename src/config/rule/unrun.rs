//! Sections the grammar knows and this build does not carry out: they are checked like any other, and each becomes an entry
//! of `Rule::not_run` with the sentence an operator needs. A rule is never run as if they were not there.

use super::{Fields, Out, word};

pub(super) const REPLICAS: &[(&str, ())] = &[("follow", ()), ("external", ())];

pub(super) fn replicas(fields: &Fields<'_>, out: &mut Out<'_>) {
    if let (Some(at), Some(())) = (fields.get("replicas"), word(fields, "replicas", REPLICAS, out)) {
        out.not_run(&at, "this build does not see or change replicas: capacity is yours to keep");
    }
}
