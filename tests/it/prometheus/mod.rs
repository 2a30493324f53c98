//! The Prometheus source against real servers of both versions; `odd_answers.rs` holds what those cannot be made to say.

mod answers;
mod credentials;
mod forms;
mod interval;
mod load;
mod odd_answers;
mod replicas;

use crate::rig::prometheus::{Prometheus as Server, Series, on_both, stale};
use canaryd::model::{Arm, Blind, Counts, PerArm, Timestamp, rule};
use canaryd::source::{Prometheus, PrometheusSettings, Source, SourceError, SourceSample, Subscription, Wants};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

pub(crate) const TICK: Duration = Duration::from_secs(15);

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// A tick's end, an hour and a half ago: everything fits behind it. The same in a whole run, or ticks would move under a test.
fn origin() -> Timestamp {
    static ORIGIN: OnceLock<Timestamp> = OnceLock::new();
    *ORIGIN.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Timestamp::from_millis(now.as_millis() as i64).floor_to(TICK) - Duration::from_secs(5400)
    })
}

pub(crate) fn tick(n: u32) -> Timestamp {
    origin() + TICK * n
}

pub(crate) fn target(fields: &[(&str, &str)]) -> rule::Target {
    rule::Target { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
}

/// An envoy subscription on two clusters, told apart from other tests' by the `test` label.
pub(crate) fn envoy(key: u64, test: &str, baseline: &str, canary: &str) -> Subscription {
    let extra = Some(format!("test=\"{test}\""));
    Subscription {
        key,
        arms: PerArm { baseline: target(&[("cluster", baseline)]), canary: target(&[("cluster", canary)]) },
        telemetry: vec![rule::Telemetry { pack: "envoy".into(), extra, ..rule::Telemetry::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

/// Samples gathered before they are written.
#[derive(Default)]
pub(crate) struct Samples(pub(crate) BTreeMap<String, Vec<(i64, f64)>>);

impl Samples {
    pub(crate) fn add(&mut self, series: &str, at: Timestamp, value: f64) {
        self.0.entry(series.to_owned()).or_default().push((at.as_millis(), value));
    }

    /// What one proxy shows of one cluster at one scrape.
    pub(crate) fn envoy(&mut self, test: &str, proxy: &str, cluster: &str, at: Timestamp, good: f64, bad: f64) {
        let labels = format!("envoy_cluster_name=\"{cluster}\",instance=\"{proxy}\",job=\"envoy\",test=\"{test}\"");
        self.add(&format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",{labels}}}"), at, good);
        if bad > 0.0 {
            self.add(&format!("envoy_cluster_upstream_rq{{envoy_response_code=\"503\",{labels}}}"), at, bad);
        }
        for (le, share) in [("5", 0.5), ("10", 0.9), ("+Inf", 1.0)] {
            let value = ((good + bad) * share).floor();
            self.add(&format!("envoy_cluster_upstream_rq_time_bucket{{le=\"{le}\",{labels}}}"), at, value);
        }
        self.add(&format!("envoy_cluster_upstream_rq_time_count{{{labels}}}"), at, good + bad);
    }

    pub(crate) fn write(self, server: &Server) {
        server.write(&self.0.into_iter().map(|(name, samples)| Series::parse(&name).all(samples)).collect::<Vec<_>>());
    }
}

pub(crate) fn source(url: &str) -> Prometheus {
    Prometheus::new(PrometheusSettings::new("prom", url)).expect("settings")
}

pub(crate) fn counts(sample: &SourceSample, arm: Arm) -> Option<(f64, f64)> {
    sample.arms[arm].requests.ok().map(|Counts { total, bad }| (total, bad))
}

#[test]
fn counts_of_both_arms_over_ticks() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..25 {
            let at = tick(n) - Duration::from_secs(4);
            let i = f64::from(n);
            samples.envoy("t", "p1", "v1", at, 1000.0 + 100.0 * i, 0.0);
            samples.envoy("t", "p2", "v1", at, 500.0 + 50.0 * i, 0.0);
            // the canary's first errors come with tick 22: a lazily created series counts from 0
            samples.envoy("t", "p1", "v2", at, 10.0 * i, if n >= 22 { 3.0 } else { 0.0 });
            samples.add("scrape_duration_seconds{instance=\"p1\",job=\"envoy\"}", at, 0.25);
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let wanted = envoy(1, "t", "v1", "v2");
        let set_up = source.set_up(&wanted, tick(20)).await.expect("set-up");
        assert_eq!(set_up.bounds_ms, [5.0, 10.0]);
        assert_eq!(set_up.scrape_interval, Some(TICK));
        assert_eq!(source.settle(), Duration::from_millis(350), "as long as a scrape takes, and a little");
        assert!(
            set_up.queries.iter().any(|q| q.starts_with("sum by (job, instance, envoy_cluster_name, envoy_response_code)")),
            "{set_up:?}"
        );
        source.subscribe(wanted, set_up.bounds_ms);
        let first = source.tick(tick(20)).await.remove(0);
        assert_eq!((counts(&first, Arm::Baseline), counts(&first, Arm::Canary)), (Some((0.0, 0.0)), Some((0.0, 0.0))), "{first:?}");
        for n in 21..25 {
            let sample = source.tick(tick(n)).await.remove(0);
            let errors = if n == 22 { 3.0 } else { 0.0 };
            assert_eq!(counts(&sample, Arm::Baseline), Some((150.0, 0.0)), "tick {n}: {sample:?}");
            assert_eq!(counts(&sample, Arm::Canary), Some((10.0 + errors, errors)), "tick {n}");
            let buckets = sample.arms.baseline.buckets.clone().expect("buckets");
            assert_eq!((buckets.len(), buckets[2]), (3, 150.0));
            assert!(sample.arms.canary.cpu == Err(Blind::NotAsked) && sample.detail.is_empty());
        }
        // asked again: nothing new was scraped, nothing is counted twice
        let again = source.tick(tick(24) + Duration::from_secs(5)).await.remove(0);
        assert_eq!(again.missing.canary, Some(Blind::Stale));
    });
}

#[test]
fn resets_newborns_gaps_and_odd_values() {
    on_both(async |rig| {
        let test = "r";
        let mut samples = Samples::default();
        let age = |samples: &mut Samples, proxy: &str, at: Timestamp, seconds: f64| {
            samples.add(&format!("envoy_server_uptime{{instance=\"{proxy}\",job=\"envoy\",test=\"{test}\"}}"), at, seconds);
        };
        for n in 0..12u32 {
            let at = tick(n) - Duration::from_secs(2);
            let i = f64::from(n);
            samples.envoy(test, "b", "v1", at, 1000.0 + 10.0 * i, 0.0);
            // restarted between ticks 2 and 3
            let (value, up) = if n < 3 { (500.0 + 10.0 * i, 9000.0 + 15.0 * i) } else { (7.0 + 10.0 * (i - 3.0), 5.0 + 15.0 * (i - 3.0)) };
            samples.envoy(test, "c", "v2", at, value, 0.0);
            age(&mut samples, "c", at, up);
            // born between ticks 4 and 5, with 3 errors; an old one discovered at tick 6
            if n >= 5 {
                samples.envoy(test, "new", "v2", at, 4.0 + 10.0 * (i - 5.0), 3.0);
                age(&mut samples, "new", at, 6.0 + 15.0 * (i - 5.0));
            }
            if n >= 6 {
                samples.envoy(test, "old", "v2", at, 9000.0 + 10.0 * (i - 6.0), 1000.0);
                age(&mut samples, "old", at, 80_000.0 + 15.0 * (i - 6.0));
            }
        }
        // tick 9 of the old one shows no number
        let labels = format!("envoy_cluster_name=\"v2\",instance=\"old\",job=\"envoy\",test=\"{test}\"");
        samples.0.get_mut(&format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",{labels}}}")).expect("series")[3].1 = f64::NAN;
        samples.write(rig);
        let mut source = source(&rig.url());
        source.subscribe(envoy(1, test, "v1", "v2"), vec![5.0, 10.0]);
        let mut seen = Vec::new();
        for n in 0..12 {
            let sample = source.tick(tick(n)).await.remove(0);
            seen.push((counts(&sample, Arm::Canary), sample));
        }
        let canary: Vec<_> = seen.iter().map(|(counts, _)| *counts).collect();
        assert_eq!(canary[..3], [Some((0.0, 0.0)), Some((10.0, 0.0)), Some((10.0, 0.0))]);
        assert_eq!(canary[3], Some((7.0, 0.0)), "a restart counts the new value: {:?}", seen[3].1);
        assert_eq!(canary[5], Some((10.0 + 7.0, 3.0)), "a newborn counts its value");
        assert_eq!(canary[6], Some((20.0, 0.0)), "an old one newly discovered does not");
        assert_eq!(canary[7], Some((30.0, 0.0)));
        assert_eq!((canary[9], seen[9].1.missing.canary), (None, Some(Blind::NotANumber)));
        assert_eq!(canary[10], Some((60.0, 0.0)), "what was pending comes with the next good tick");
    });
}

#[test]
fn a_process_that_falls_silent_is_waited_for_then_left_out() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..8u32 {
            let at = tick(n) - Duration::from_secs(3);
            samples.envoy("s", "a", "v1", at, 100.0 * f64::from(n), 0.0);
            samples.envoy("s", "q", "v2", at, 10.0 * f64::from(n), 0.0);
            if n < 3 {
                samples.envoy("s", "b", "v1", at, 100.0 * f64::from(n), 0.0);
            }
        }
        // its target fails after tick 2: staleness markers end its series
        for (_, points) in samples.0.iter_mut().filter(|(name, _)| name.contains("instance=\"b\"")) {
            points.push(((tick(3) - Duration::from_secs(3)).as_millis(), stale()));
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        source.subscribe(envoy(1, "s", "v1", "v2"), vec![5.0, 10.0]);
        let mut all = Vec::new();
        for n in 0..8 {
            all.push(source.tick(tick(n)).await.remove(0));
        }
        assert_eq!(counts(&all[2], Arm::Baseline), Some((200.0, 0.0)));
        for (n, sample) in all.iter().enumerate().take(5).skip(3) {
            assert_eq!(sample.missing, PerArm { baseline: Some(Blind::Stale), canary: Some(Blind::Stale) }, "tick {n}");
            assert!(sample.detail.contains("waiting for a new sample of envoy @ b"), "{}", sample.detail);
        }
        assert_eq!(counts(&all[5], Arm::Baseline), Some((300.0, 0.0)), "all of the waiting increments: {:?}", all[5]);
        assert_eq!(counts(&all[5], Arm::Canary), Some((30.0, 0.0)));
        assert!(all[5].detail.contains("envoy @ b for two scrapes: left out"), "{}", all[5].detail);
    });
}

#[test]
fn one_query_serves_all_and_the_cross_product_belongs_to_nobody() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        // namespaces and names that would be regexes; (team.a, w+2) exists and is nobody's
        let pairs = [
            ("team.a", "w.1", 10.0),
            ("team.a", "w+1", 20.0),
            ("b", "w.2", 30.0),
            ("b", "w+2", 40.0),
            ("team.a", "w+2", 999.0),
            ("teamxa", "w.1", 999.0),
        ];
        for n in 0..3u32 {
            for (ns, w, rate) in pairs {
                let labels = format!("instance=\"i-{ns}-{w}\",job=\"j\",ns=\"{ns}\",w=\"{w}\"");
                samples.add(
                    &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",{labels}}}"),
                    tick(n) - TICK / 2,
                    rate * f64::from(n),
                );
            }
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let arm = |ns: &str, w: &str| target(&[("ns", ns), ("w", w)]);
        for (key, ns, baseline, canary) in [(1, "team.a", "w.1", "w+1"), (2, "b", "w.2", "w+2")] {
            let mut wanted = envoy(key, "x", "", "");
            wanted.arms = PerArm { baseline: arm(ns, baseline), canary: arm(ns, canary) };
            wanted.telemetry[0].extra = None;
            wanted.telemetry[0].arm = [("ns", "{ns}"), ("w", "{w}")].map(|(l, t)| (l.to_owned(), t.to_owned())).into();
            source.subscribe(wanted, Vec::new());
        }
        source.tick(tick(0)).await;
        source.tick(tick(1)).await;
        let samples = source.tick(tick(2)).await;
        let read: Vec<_> = samples.iter().map(|s| (s.key, counts(s, Arm::Baseline), counts(s, Arm::Canary))).collect();
        assert_eq!(read, [(1, Some((10.0, 0.0)), Some((20.0, 0.0))), (2, Some((30.0, 0.0)), Some((40.0, 0.0)))]);
    });
}

#[test]
fn a_refused_query_blinds_only_its_own_rollout() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..3u32 {
            samples.envoy("q", "p", "v1", tick(n) - TICK / 2, 10.0 * f64::from(n), 0.0);
            samples.envoy("q", "p", "v2", tick(n) - TICK / 2, 5.0 * f64::from(n), 0.0);
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        source.subscribe(envoy(1, "q", "v1", "v2"), vec![5.0, 10.0]);
        let mut bad = envoy(2, "q", "v1", "v2");
        // our own reader takes this regex, the server's does not
        bad.telemetry[0].extra = Some("test=~\"(?i:q)\",x=~\"a{1001}\"".to_owned());
        source.subscribe(bad, vec![5.0, 10.0]);
        source.tick(tick(0)).await;
        let samples = source.tick(tick(1)).await;
        assert_eq!(counts(&samples[0], Arm::Canary), Some((5.0, 0.0)));
        assert_eq!(samples[1].missing.canary, Some(Blind::QueryRejected));
        assert!(samples[1].detail.contains("invalid repeat count"), "the server's words: {}", samples[1].detail);
        let error = source.set_up(&envoy(3, "no \\d such \"test", "v1", "v2"), tick(1)).await;
        assert!(matches!(error, Err(SourceError::Unusable(_))), "{error:?}");
    });
}

#[test]
fn what_is_not_there_is_said() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        samples.envoy("n", "p", "v1", tick(0) - TICK / 2, 10.0, 0.0);
        samples.write(rig);
        let mut source = source(&rig.url());
        let wanted = envoy(1, "n", "v1", "v2");
        let set_up = source.set_up(&wanted, tick(0)).await.expect("set-up");
        assert!(
            set_up.warnings.iter().any(|w| w.starts_with("canary: no series of envoy_cluster_upstream_rq yet")),
            "{:?}",
            set_up.warnings
        );
        assert!(set_up.warnings.iter().any(|w| w.contains("no scrape interval could be measured")));
        source.subscribe(wanted, set_up.bounds_ms);
        let sample = source.tick(tick(0)).await.remove(0);
        assert_eq!(sample.missing, PerArm { baseline: None, canary: Some(Blind::NoSeries) });
        source.unsubscribe(1);
        assert!(source.tick(tick(1)).await.is_empty());
    });
}

#[test]
fn history_is_the_baselines_and_bridges_gaps() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..41u32 {
            let at = tick(n) - Duration::from_secs(1);
            let value = if n < 20 { 10.0 * f64::from(n) } else { 3.0 + 10.0 * f64::from(n - 20) };
            samples.envoy("h", "p", "v1", at, value, 0.0);
            samples.envoy("h", "p", "v2", at, 7.0 * f64::from(n), 0.0);
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let wanted = envoy(1, "h", "v1", "v2");
        let history = source.history(&wanted, tick(40), TICK * 40, TICK, &[5.0, 10.0]).await.expect("history");
        let totals: Vec<Option<f64>> = history.requests.iter().map(|c| c.map(|c| c.total)).collect();
        assert_eq!(totals.len(), 40);
        assert_eq!(totals.iter().flatten().sum::<f64>(), 19.0 * 10.0 + 3.0 + 20.0 * 10.0, "{totals:?}");
        assert_eq!((totals[0], totals[19], totals[39]), (Some(10.0), Some(3.0), Some(10.0)));
        assert_eq!(history.buckets.len(), 40);
        assert_eq!(history.buckets[39].as_ref().map(|b| b[2]), Some(10.0));
        // further back than there is data: what there is
        let longer = source.history(&wanted, tick(40), TICK * 80, TICK, &[5.0, 10.0]).await.expect("history");
        assert_eq!(longer.requests.len(), 40);
    });
}

/// An application's own metrics, told apart by the label `version`.
fn http(key: u64, test: &str) -> Subscription {
    let extra = Some(format!("test=\"{test}\""));
    let arm = BTreeMap::from([("version".to_owned(), "{version}".to_owned())]);
    Subscription {
        key,
        arms: PerArm { baseline: target(&[("version", "v1.0")]), canary: target(&[("version", "v1.1")]) },
        telemetry: vec![rule::Telemetry { pack: "http".into(), arm, extra, ..rule::Telemetry::default() }],
        custom_counts: vec![rule::CustomCounts {
            part: "cache_hits_total{{{workload}}}".into(),
            part_is_bad: false,
            total: "cache_requests_total{{{workload}}}".into(),
        }],
        custom_gauges: vec![rule::CustomGauge { query: "avg(queue_depth{test=\"g\",{{workload}}})".into(), lower_is_worse: false }],
        wants: Wants { requests: true, buckets: true, cpu: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

fn http_samples(test: &str, jobs: &[&str]) -> Samples {
    let mut samples = Samples::default();
    for n in 0..12u32 {
        let at = tick(n) - Duration::from_secs(5);
        let i = f64::from(n);
        for (version, rate) in [("v1.0", 40.0), ("v1.1", 8.0)] {
            for job in jobs {
                let labels = format!(
                    "instance=\"10.0.0.1:80\",job=\"{job}\",namespace=\"prod\",pod=\"app-{version}\",test=\"{test}\",version=\"{version}\""
                );
                samples.add(&format!("http_requests_received_total{{code=\"200\",controller=\"a\",{labels}}}"), at, rate * i);
                samples.add(&format!("http_requests_received_total{{code=\"200\",controller=\"b\",{labels}}}"), at, rate * i);
                samples.add(&format!("http_requests_received_total{{code=\"500\",{labels}}}"), at, i);
                samples.add(&format!("cache_hits_total{{{labels}}}"), at, 9.0 * i);
                samples.add(&format!("cache_requests_total{{{labels}}}"), at, 10.0 * i);
                samples.add(&format!("queue_depth{{{labels}}}"), at, rate);
                for (le, share) in [("0.3", 0.5), ("1.0", 1.0), ("+Inf", 1.0)] {
                    samples.add(
                        &format!("http_request_duration_seconds_bucket{{le=\"{le}\",{labels}}}"),
                        at,
                        (2.0 * rate + 1.0) * i * share,
                    );
                }
                samples.add(&format!("http_request_duration_seconds_count{{{labels}}}"), at, (2.0 * rate + 1.0) * i);
            }
        }
    }
    samples
}

/// Which label is the status cannot be known before there is a series: guessed wrong, every failed request would look good.
#[test]
fn what_was_guessed_before_there_was_anything_is_no_evidence() {
    on_both(async |rig| {
        let mut source = source(&rig.url());
        source.subscribe(http(1, "late"), Vec::new());
        assert_eq!(source.tick(tick(0)).await.remove(0).missing.baseline, Some(Blind::NoSeries));
        // the first of the names that were looked for, and not the first of the labels
        let named = |(name, samples): (String, _)| (name.replace("http_requests_received_total", "http_requests_total"), samples);
        Samples(http_samples("late", &["app"]).0.into_iter().map(named).collect()).write(rig);
        let mut seen = Vec::new();
        for n in 1..8 {
            let sample = source.tick(tick(n)).await.remove(0);
            let both = Arm::BOTH.map(|arm| counts(&sample, arm));
            // blind, or only noted
            if both.iter().flatten().any(|(total, _)| *total > 0.0) {
                seen.push(both);
            }
        }
        assert!(seen.len() >= 3, "{seen:?}");
        assert!(seen.iter().all(|both| *both == [Some((81.0, 1.0)), Some((17.0, 1.0))]), "{seen:?}");
    });
}

#[test]
fn candidates_custom_counts_and_gauges_of_an_application() {
    on_both(async |rig| {
        http_samples("g", &["app"]).write(rig);
        let mut source = source(&rig.url());
        let wanted = http(1, "g");
        let set_up = source.set_up(&wanted, tick(9)).await.expect("set-up");
        assert_eq!(set_up.bounds_ms, [300.0, 1000.0]);
        assert!(set_up.warnings.iter().any(|w| w.contains("cannot see: dead-pod")), "{:?}", set_up.warnings);
        let no_cpu = "canary: no series of process_cpu_seconds_total yet for version=\"v1.1\"";
        assert!(set_up.warnings.iter().any(|w| w == no_cpu), "{:?}", set_up.warnings);
        source.subscribe(wanted, set_up.bounds_ms);
        source.tick(tick(9)).await;
        let sample = source.tick(tick(10)).await.remove(0);
        assert_eq!(counts(&sample, Arm::Baseline), Some((81.0, 1.0)), "{sample:?}");
        assert_eq!(counts(&sample, Arm::Canary), Some((17.0, 1.0)));
        assert_eq!(sample.arms.canary.buckets.as_ref().map(|b| b.to_vec()), Ok(vec![8.5, 17.0, 17.0]));
        let custom = |arm: Arm| (sample.arms[arm].custom_counts[0], sample.arms[arm].custom_gauges[0]);
        assert_eq!(custom(Arm::Baseline), (Ok(Counts { total: 10.0, bad: 1.0 }), Ok(40.0)));
        assert_eq!(custom(Arm::Canary), (Ok(Counts { total: 10.0, bad: 1.0 }), Ok(8.0)));
        assert_eq!((sample.arms.canary.abandoned, sample.arms.canary.cpu), (Err(Blind::NotAsked), Err(Blind::NoSeries)));
    });
}

#[test]
fn what_is_odd_about_a_rules_own_query_is_said_before_it_starts() {
    on_both(async |rig| {
        http_samples("g", &["app"]).write(rig);
        let own = ["queue_depth{{{workload}}}", "0 * queue_depth{{{workload}}} / 0", "no_such{{{workload}}}"];
        let own = own.into_iter().chain(["{__name__=~\"queue_depth|cache_hits_total\",{{workload}}}"]);
        let gauge = |query: &str| rule::CustomGauge { query: query.to_owned(), lower_is_worse: false };
        let wants = Wants { requests: true, ..Wants::default() };
        let wanted = Subscription { custom_gauges: own.map(gauge).collect(), wants, ..http(1, "g") };
        let mut source = source(&rig.url());
        let set_up = source.set_up(&wanted, tick(9)).await.expect("set-up");
        let said: Vec<&str> = set_up.warnings.iter().filter_map(|w| w.strip_prefix("baseline: ")).collect();
        let v1 = "version=\"v1.0\"";
        let expected = [
            format!("NaN, which is no number to compare, for 0 * queue_depth{{{v1}}} / 0"),
            format!("no series yet for no_such{{{v1}}}"),
            format!("the mean of 2 rows is taken for {{__name__=~\"queue_depth|cache_hits_total\",{v1}}}"),
        ];
        assert_eq!(said, expected);
        source.subscribe(wanted, set_up.bounds_ms);
        source.tick(tick(9)).await;
        let sample = source.tick(tick(10)).await.remove(0);
        let seen = &sample.arms.baseline.custom_gauges;
        assert_eq!(seen[..], [Ok(40.0), Err(Blind::NotANumber), Err(Blind::NoSeries), Ok((40.0 + 90.0) / 2.0)]);
        assert_eq!(counts(&sample, Arm::Baseline), Some((81.0, 1.0)), "nothing else is touched");
    });
}

#[test]
fn a_pod_scraped_by_two_jobs_is_refused() {
    on_both(async |rig| {
        http_samples("g", &["app", "podmonitor"]).write(rig);
        let error = source(&rig.url()).set_up(&http(1, "g"), tick(9)).await.unwrap_err().to_string();
        assert!(error.contains("is scraped twice for prod @ app-v1.0 @ 10.0.0.1:80"), "{error}");
    });
}
