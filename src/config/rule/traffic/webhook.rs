//! `traffic: webhook`: the address weights are POSTed to.

use super::super::{Out, keys};
use crate::config::walk::At;
use crate::model::Side;
use crate::model::rule::{WebhookRouter, Workloads};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Of one call: three of them and the wait for the weight must fit into the 10 s a write may take.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_millis(2500);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

pub(super) fn webhook(at: &At<'_>, (rule, workloads): (Option<&str>, Option<&Workloads>), out: &mut Out<'_>) -> Option<WebhookRouter> {
    let inner = at.fields(keys::WEBHOOK, &mut out.report)?;
    let url = inner.need("url", "write the address to POST weights to", &mut out.report).and_then(|at| at.address(&mut out.report));
    let read_url = inner.get("read-url").map(|at| at.address(&mut out.report));
    let token_file = inner.get("token-file").map(|at| at.text(&mut out.report).map(PathBuf::from));
    let timeout = inner.get("timeout").map_or(Some(TIMEOUT_DEFAULT), |at| at.duration(TIMEOUT, &mut out.report));
    let workloads = workloads.map(|w| [Side::First, Side::Second].map(|side| w.name(side).to_owned()));
    Some(WebhookRouter {
        rule: rule?.to_owned(),
        workloads: workloads?,
        url: url?,
        read_url: read_url.map_or(Some(None), |url| url.map(Some))?,
        token_file: token_file.map_or(Some(None), |file| file.map(Some))?,
        timeout: timeout?,
    })
}
