//! Limits that are shares of what the canary's pod asks for or may use (`of:`), in cores and bytes: what was noted of the pod at the
//! start of a rollout holds for all of it, also where it is led again from its journal.

use crate::model::rule::{Rule, ShareOf};
use crate::model::{Limits, MetricKind, MetricSpec, Noted, Resources};

/// The rule with every limit in the unit of its metric, and no shares any more. A limit that is a share of what is not known (see
/// [`unsaid`]) is left out: a start refuses it.
pub fn in_units(rule: &Rule, noted: Option<&Noted>) -> Rule {
    let mut rule = rule.clone();
    for (name, of) in std::mem::take(&mut rule.shares) {
        for metric in rule.metrics.iter_mut().filter(|metric| metric.name == name) {
            let whole = noted.and_then(|noted| whole(metric, of, &noted.resources));
            metric.limits = times(&metric.limits, whole);
        }
    }
    rule
}

/// What a start misses: a sentence for each metric whose limits are shares of something the canary's pod does not say.
pub fn unsaid(rule: &Rule, noted: Option<&Noted>) -> Vec<String> {
    let share = |metric: &MetricSpec| Some((*rule.shares.get(&metric.name)?, metric.kind, metric.name.clone()));
    let known = |of: ShareOf, kind: MetricKind| noted.is_some_and(|noted| amount(kind, of, &noted.resources).is_some());
    rule.metrics
        .iter()
        .filter_map(share)
        .filter(|(of, kind, _)| !known(*of, *kind))
        .map(|(of, kind, name)| missing(&name, kind, of))
        .collect()
}

fn missing(name: &str, kind: MetricKind, of: ShareOf) -> String {
    let field = if kind == MetricKind::Cpu { "cpu" } else { "memory" };
    let (of, one) = match of {
        ShareOf::Requests => ("requests", "a request"),
        ShareOf::Limits => ("limits", "a limit"),
    };
    let own = if kind == MetricKind::Cpu { "cores" } else { "sizes" };
    format!(
        "the limits of {name} are shares of its {of}, and not every container of the canary's pod has {one} of {field}: set \
         resources.{of}.{field} in each, or write the limits as {own}"
    )
}

/// The whole of which the metric's limits are shares, in its unit.
fn whole(metric: &MetricSpec, of: ShareOf, resources: &Resources) -> Option<f64> {
    let amount = amount(metric.kind, of, resources)? as f64;
    Some(if metric.kind == MetricKind::Cpu { amount / 1000.0 } else { amount })
}

/// In thousandths of a core, or bytes. A pod that asks for nothing has no shares of it.
fn amount(kind: MetricKind, of: ShareOf, resources: &Resources) -> Option<u64> {
    let amount = match (kind, of) {
        (MetricKind::Cpu, ShareOf::Requests) => resources.cpu_request,
        (MetricKind::Cpu, ShareOf::Limits) => resources.cpu_limit,
        (_, ShareOf::Requests) => resources.memory_request,
        (_, ShareOf::Limits) => resources.memory_limit,
    };
    amount.filter(|amount| *amount > 0)
}

fn times(limits: &Limits, whole: Option<f64>) -> Limits {
    let of = |share: Option<f64>| Some(share? * whole?);
    Limits {
        promote_below: of(limits.promote_below),
        warn_above: of(limits.warn_above),
        rollback_above: of(limits.rollback_above),
        page_above: of(limits.page_above),
        sustained: limits.sustained,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rule;
    use super::*;
    use crate::model::Margin;

    fn metric(name: &str, kind: MetricKind, share: f64) -> MetricSpec {
        let limits = Limits { rollback_above: Some(share), ..Limits::default() };
        let margin = Margin::Ratio { harm: 0.1, ok: 0.2 };
        MetricSpec { name: name.into(), kind, compared: true, margin, required: false, weight: 0.1, limits }
    }

    fn shared(cpu: ShareOf, memory: ShareOf) -> Rule {
        let metrics = vec![
            metric("cpu", MetricKind::Cpu, 0.7),
            metric("memory", MetricKind::Memory, 0.8),
            metric("depth", MetricKind::CustomGauge(0), 3.0),
        ];
        Rule { metrics, shares: [("cpu".to_owned(), cpu), ("memory".to_owned(), memory)].into(), ..rule() }
    }

    fn noted(resources: Resources) -> Noted {
        Noted { resources, ..Noted::default() }
    }

    fn levels(rule: &Rule) -> Vec<Option<f64>> {
        rule.metrics.iter().map(|metric| metric.limits.rollback_above).collect()
    }

    #[test]
    fn shares_become_cores_and_bytes_of_a_pod() {
        let mib = 1_u64 << 20;
        let pod = noted(Resources {
            cpu_request: Some(500),
            cpu_limit: Some(2000),
            memory_request: Some(100 * mib),
            memory_limit: Some(512 * mib),
        });
        let asked = in_units(&shared(ShareOf::Requests, ShareOf::Limits), Some(&pod));
        assert_eq!(levels(&asked), [Some(0.35), Some(0.8 * 512.0 * mib as f64), Some(3.0)], "70 % of 500m are 0.35 cores");
        let other = in_units(&shared(ShareOf::Limits, ShareOf::Requests), Some(&pod));
        assert_eq!(levels(&other), [Some(1.4), Some(80.0 * mib as f64), Some(3.0)]);
        assert_eq!(in_units(&asked, Some(&pod)), asked, "once is enough");
        assert_eq!(unsaid(&shared(ShareOf::Requests, ShareOf::Limits), Some(&pod)), Vec::<String>::new());
    }

    #[test]
    fn what_the_pod_does_not_say_is_named_and_limits_nothing() {
        let rule = shared(ShareOf::Requests, ShareOf::Limits);
        let pod = noted(Resources { cpu_request: Some(0), ..Resources::default() });
        for seen in [None, Some(&pod)] {
            assert_eq!(levels(&in_units(&rule, seen)), [None, None, Some(3.0)]);
            assert_eq!(
                unsaid(&rule, seen),
                [
                    "the limits of cpu are shares of its requests, and not every container of the canary's pod has a request of cpu: set \
                     resources.requests.cpu in each, or write the limits as cores",
                    "the limits of memory are shares of its limits, and not every container of the canary's pod has a limit of memory: set \
                     resources.limits.memory in each, or write the limits as sizes",
                ]
            );
        }
    }
}
