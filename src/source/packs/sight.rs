//! What the packs of a rule cannot see between them (PACKS 2): an application that is gone counts no failures.

use super::Packs;
use super::grammar::Pack;
use crate::model::rule;

/// What a pack that reads the state of pods, or a watch of them, sees where counters do not.
const SEEN_OF_PODS: &[&str] = &["dead-pod", "no-endpoint"];

/// A sentence for what the pack that requests are counted by cannot see and no other of the rule's does; `watched`: a watch
/// sees pods. It names a second pack where one would.
pub fn blind_spots(packs: &Packs, telemetry: &[rule::Telemetry], watched: bool) -> Option<String> {
    let all: Vec<&Pack> = telemetry.iter().filter_map(|t| packs.get(&t.pack)).map(AsRef::as_ref).collect();
    let counts = all.iter().find(|pack| gives_requests(pack))?;
    let watched = watched || all.iter().any(|pack| !pack.states.is_empty());
    let unseen = counts.blind_to.iter().map(String::as_str).filter(|word| !(watched && SEEN_OF_PODS.contains(word)));
    let unseen: Vec<&str> = unseen.collect();
    let wanted = if unseen.iter().any(|word| SEEN_OF_PODS.contains(word)) {
        ": name a second pack that does, such as kubernetes; without it a canary that dies shows by its silence alone"
    } else {
        ""
    };
    (!unseen.is_empty()).then(|| format!("pack {} cannot see: {}{wanted}", counts.pack, unseen.join(", ")))
}

fn gives_requests(pack: &Pack) -> bool {
    pack.counts.contains_key("requests") || pack.variants.iter().any(|(_, variant)| variant.counts.contains_key("requests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str], watched: bool) -> Option<String> {
        let telemetry: Vec<_> = names.iter().map(|name| rule::Telemetry { pack: (*name).into(), ..rule::Telemetry::default() }).collect();
        blind_spots(&Packs::builtin(), &telemetry, watched)
    }

    #[test]
    fn a_pack_that_is_blind_to_dead_pods_wants_a_second_one() {
        assert!(said(&["http"], false).unwrap().starts_with("pack http cannot see: dead-pod, no-endpoint, panic: name a second pack"));
        for seen in [said(&["kubernetes", "http"], false), said(&["http"], true)] {
            assert_eq!(seen.unwrap(), "pack http cannot see: panic");
        }
        assert_eq!(said(&["otel-http", "kubernetes"], false), None);
        for proxy in ["envoy", "haproxy", "istio"] {
            assert_eq!(said(&[proxy], false), None, "{proxy}");
        }
        assert_eq!(said(&["kubernetes"], false), None, "no requests are counted");
    }
}
