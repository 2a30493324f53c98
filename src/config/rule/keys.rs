//! Every key of a rule file. No key may read as a YAML 1.1 boolean (`on`, `yes`, `no`, ...): kubectl turns `on:` into
//! `"true":`. A test holds them to it.

pub(super) const RULE: &[&str] = &[
    "rule",
    "workloads",
    "telemetry",
    "source",
    "interval",
    "traffic",
    "steps",
    "advance",
    "strict",
    "min-requests",
    "promotion",
    "metrics",
    "sensitivity",
    "false-rollbacks",
    "bake-latency",
    "bake-judge",
    "policies",
    "start",
    "hooks",
    "windows",
    "alerts",
    "notify",
    "replicas",
    "after-rollback",
    "drain",
    "mode",
];
pub(super) const WORKLOADS: &[&str] = &["namespace", "pair", "stable", "canary", "one"];
/// Fields of a workload that packs and routers ask for by name. Others are allowed, unless they look like a slip of these.
pub(super) const TARGET: &[&str] =
    &["namespace", "deployment", "service", "port", "version", "cluster", "subset", "ingress", "backend", "server"];
pub(super) const TELEMETRY: &[&str] = &["pack", "params", "variant", "arm", "extra", "scrape"];

pub(super) const ENVOY: &[&str] = &["admin", "clusters", "route-file", "runtime-keys"];
pub(super) const ROUTE_FILE: &[&str] = &["path", "stat-prefix", "route"];
pub(super) const RUNTIME_KEYS: &[&str] = &["prefix"];
pub(super) const HAPROXY: &[&str] = &["socket", "backend", "servers"];
pub(super) const WEBHOOK: &[&str] = &["url", "read-url", "token-file", "timeout"];

pub(super) const ISTIO: &[&str] = &["virtual-service", "route", "subsets", "hosts", "namespace"];
pub(super) const GATEWAY_API: &[&str] = &["route", "backends", "kind", "rule", "namespace"];
pub(super) const NGINX_INGRESS: &[&str] = &["ingress", "services", "weight-total", "namespace"];
pub(super) const AWS_ALB: &[&str] = &["ingress", "services", "action", "namespace"];
pub(super) const SERVICE: &[&str] = &["name", "selector", "namespace"];
pub(super) const TRAEFIK: &[&str] = &["traefik-service", "services", "namespace"];
pub(super) const REPLICAS: &[&str] = &["service", "deployments", "total", "namespace"];

/// A router the grammar knows and this build does not move: its word, its keys, and how many of them, from the first, are needed.
pub(super) type OtherRouter = (&'static str, &'static [&'static str], usize);
pub(super) const OTHER_ROUTERS: &[OtherRouter] =
    &[("feature-flag", &["provider", "flag", "environment", "variations", "url", "token-file"], 2)];

pub(super) const STEP: &[&str] = &["weight", "for", "bake"];
pub(super) const SWAP: &[&str] = &["keep", "idle-replicas"];
pub(super) const EXTERNAL: &[&str] = &["promote-within"];

pub(super) const TOLERATE_COUNTS: &[&str] = &["relative", "absolute"];
pub(super) const TOLERATE_RATIO: &[&str] = &["relative"];
pub(super) const ABOVE: [&str; 4] = ["promote-below", "warn-above", "rollback-above", "page-above"];
/// The same four of a share of good events, where low is bad.
pub(super) const BELOW: [&str; 4] = ["promote-above", "warn-below", "rollback-below", "page-below"];
pub(super) const ERRORS: &[&str] = &["tolerate", "compare", "required", "promote-below", "warn-above", "rollback-above", "page-above"];
pub(super) const LATENCY: &[&str] = ERRORS;
pub(super) const CPU: &[&str] =
    &["tolerate", "compare", "required", "of", "for", "load-rule", "promote-below", "warn-above", "rollback-above", "page-above"];
pub(super) const MEMORY: &[&str] =
    &["tolerate", "compare", "required", "of", "for", "leak", "promote-below", "warn-above", "rollback-above", "page-above"];
pub(super) const POD_HEALTH: &[&str] = &["rollback-on"];
pub(super) const FAILED_PROBES: &[&str] = &["failed-probes"];
pub(super) const BAD_COUNTS: &[&str] =
    &["bad", "total", "tolerate", "compare", "required", "promote-below", "warn-above", "rollback-above", "page-above"];
pub(super) const GOOD_COUNTS: &[&str] =
    &["good", "total", "tolerate", "compare", "required", "promote-above", "warn-below", "rollback-below", "page-below"];
pub(super) const GAUGE: &[&str] =
    &["query", "lower-is-worse", "tolerate", "compare", "required", "for", "promote-below", "warn-above", "rollback-above", "page-above"];
/// Where less is worse.
pub(super) const GAUGE_BELOW: &[&str] =
    &["query", "lower-is-worse", "tolerate", "compare", "required", "for", "promote-above", "warn-below", "rollback-below", "page-below"];

pub(super) const POLICIES: &[&str] = &["blind", "blind-canary", "undecided", "shared", "vanished", "foreign"];
pub(super) const HOLD_THEN: &[&str] = &["hold", "then"];
pub(super) const START: &[&str] = &["when", "first", "approvals"];
pub(super) const HOOKS: &[&str] = &["before-start", "before-step", "before-promotion", "after-promotion", "after-rollback"];
pub(super) const HOOK: &[&str] = &["url", "timeout", "on-fail"];
pub(super) const WINDOWS: &[&str] = &["timezone", "allow", "deny", "at-end"];
pub(super) const DATES: &[&str] = &["dates"];
pub(super) const ALERTS: &[&str] = &["match"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_reads_as_a_boolean_to_a_yaml_1_1_reader() {
        let booleans = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
        let mut all: Vec<&str> = OTHER_ROUTERS.iter().flat_map(|(name, keys, _)| keys.iter().copied().chain([*name])).collect();
        for keys in
            [RULE, WORKLOADS, TARGET, TELEMETRY, ENVOY, ROUTE_FILE, RUNTIME_KEYS, HAPROXY, WEBHOOK, STEP, SWAP, EXTERNAL, TOLERATE_COUNTS]
        {
            all.extend(keys);
        }
        for keys in [TOLERATE_RATIO, &ABOVE, &BELOW, ERRORS, LATENCY, CPU, MEMORY, POD_HEALTH, FAILED_PROBES, BAD_COUNTS, GOOD_COUNTS] {
            all.extend(keys);
        }
        for keys in [ISTIO, GATEWAY_API, NGINX_INGRESS, AWS_ALB, SERVICE, TRAEFIK, REPLICAS] {
            all.extend(keys);
        }
        for keys in [GAUGE, GAUGE_BELOW, POLICIES, HOLD_THEN, START, HOOKS, HOOK, WINDOWS, DATES, ALERTS] {
            all.extend(keys);
        }
        assert!(all.len() > 150, "only {} keys", all.len());
        for key in all {
            assert!(!booleans.contains(&key.to_ascii_lowercase().as_str()), "{key}");
            assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{key} is not kebab-case");
        }
    }
}
