//! The signs of many pods together, and the pod that is worst off in words.

use super::pods::PodLife;
use crate::model::{PodSigns, Timestamp};

/// What went wrong with these pods in `from..=to`.
pub(super) fn sum<'a>(pods: impl Iterator<Item = &'a PodLife>, from: Timestamp, to: Timestamp) -> PodSigns {
    pods.map(|pod| pod.signs(from, to)).fold(PodSigns::default(), |sum, one| PodSigns {
        restarts: sum.restarts.saturating_add(one.restarts),
        failed_probes: sum.failed_probes.saturating_add(one.failed_probes),
        crash_loops: sum.crash_loops.saturating_add(one.crash_loops),
        image_pulls: sum.image_pulls.saturating_add(one.image_pulls),
        oom_killed: sum.oom_killed.saturating_add(one.oom_killed),
        // of the workload, not of a pod
        never_ready: 0,
    })
}

/// The pod that is worst off, and what is wrong with it; empty if nothing is. Says no ages, so that it is the same text as long as
/// nothing happens.
pub(super) fn trouble<'a>(pods: impl Iterator<Item = &'a PodLife>, from: Timestamp, to: Timestamp) -> String {
    let troubles = pods.filter_map(|pod| Some((rank(pod, &pod.signs(from, to))?, pod)));
    // of two that are as bad the same one every time
    let worst = troubles.max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.now.name.cmp(&one.now.name)));
    worst.map_or_else(String::new, |(_, pod)| words(pod, &pod.signs(from, to)))
}

/// How badly off, by kind and then by how often; `None` = it is well.
fn rank(pod: &PodLife, signs: &PodSigns) -> Option<(u8, u32)> {
    match signs {
        PodSigns { crash_loops: 1.., restarts, .. } => Some((5, *restarts)),
        PodSigns { image_pulls: 1.., .. } => Some((4, 0)),
        PodSigns { oom_killed: 1.., restarts, .. } => Some((3, *restarts)),
        PodSigns { failed_probes: 1.., .. } => Some((2, signs.failed_probes)),
        PodSigns { restarts: 1.., .. } => Some((1, signs.restarts)),
        _ if pod.is_live() && !pod.now.ready => Some((0, 0)),
        _ => None,
    }
}

fn words(pod: &PodLife, signs: &PodSigns) -> String {
    let with = |what: &str, said: &str| if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") };
    let said = |said: &Option<String>| said.clone().unwrap_or_default();
    let what = match signs {
        PodSigns { crash_loops: 1.., restarts, .. } => with(&format!("is in a crash loop, {restarts} restarts"), &said(&pod.now.crash)),
        PodSigns { image_pulls: 1.., .. } => with("waits for its image or configuration", &said(&pod.now.image)),
        PodSigns { oom_killed: 1.., .. } => "was ended for want of memory".to_owned(),
        PodSigns { failed_probes: 1.., .. } => with(&format!("failed {} probes", signs.failed_probes), &pod.probe_said),
        PodSigns { restarts: 1.., .. } => format!("was restarted, {} times", signs.restarts),
        _ => with("is not ready", &pod.now.unready),
    };
    let gone = if pod.gone.is_some() { " (gone)" } else { "" };
    format!("pod {}{gone} {what}", pod.now.name)
}
