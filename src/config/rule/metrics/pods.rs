//! `pod-health`: what of its pods rolls a canary back.

use super::super::{Out, keys};
use crate::config::walk::At;
use crate::model::PodSign;
use crate::model::rule::PodHealth;

/// Signs that are there or not.
pub(in crate::config::rule) const SIGNS: &[(&str, PodSign)] = &[
    (PodSign::CrashLoop.name(), PodSign::CrashLoop),
    (PodSign::ImagePull.name(), PodSign::ImagePull),
    (PodSign::OomKilled.name(), PodSign::OomKilled),
    (PodSign::NeverReady.name(), PodSign::NeverReady),
];
/// Most failed probes a rule may wait for.
pub(in crate::config::rule) const PROBES_MAX: u32 = 1000;
const SOME: &str = "write at least one, such as rollback-on: [ crash-loop, oom-killed, image-pull, never-ready, { failed-probes: 3 } ]";

pub(super) fn health(at: &At<'_>, out: &mut Out<'_>) -> Option<PodHealth> {
    out.in_cluster(at, "the health of pods", "leave it out");
    let fields = at.fields(keys::POD_HEALTH, &mut out.report)?;
    let signs = fields.need("rollback-on", SOME, &mut out.report)?;
    let items = signs.items(&mut out.report);
    if items.is_empty() && signs.is_list() {
        signs.wrong(&mut out.report, "names no sign", SOME);
    }
    let mut health = PodHealth::default();
    for item in &items {
        sign(item, &mut health, out);
    }
    Some(health)
}

fn sign(at: &At<'_>, health: &mut PodHealth, out: &mut Out<'_>) {
    let before = *health;
    if at.is_map() {
        let Some(count) = probes(at, out) else { return };
        if health.failed_probes.replace(count).is_some() {
            at.wrong(&mut out.report, "stands here twice", "keep one of them");
        }
        return;
    }
    match at.choice(SIGNS, &mut out.report) {
        Some(PodSign::CrashLoop) => health.crash_loop = true,
        Some(PodSign::ImagePull) => health.image_pull = true,
        Some(PodSign::OomKilled) => health.oom_killed = true,
        Some(PodSign::NeverReady) => health.never_ready = true,
        Some(PodSign::FailedProbes) | None => return,
    }
    if *health == before {
        at.wrong(&mut out.report, "stands here twice", "keep one of them");
    }
}

fn probes(at: &At<'_>, out: &mut Out<'_>) -> Option<u32> {
    let inner = at.fields(keys::FAILED_PROBES, &mut out.report)?;
    let count = inner.need("failed-probes", "write how many, such as failed-probes: 3", &mut out.report)?;
    count.whole(1..=PROBES_MAX, &mut out.report)
}
