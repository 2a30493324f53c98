//! The same recorded data asked in both forms: counters per process, and increments differenced inside the server.

use super::{Samples, TICK, counts, envoy, tick};
use crate::rig::prometheus::{Prometheus as Server, on_both, stale};
use canaryd::model::{Arm, Blind, Timestamp};
use canaryd::source::{Packs, Prometheus, PrometheusSettings, Source, SourceSample, Subscription};
use std::time::Duration;

/// Envoy's pack in a form, with or without knowing when a proxy started.
fn pack(name: &str, form: &str, start: &str) -> String {
    format!(
        "pack: {name}\nidentity: [job, instance]\n{start}form: {form}\narm: {{ envoy_cluster_name: '{{cluster}}' }}\n\
         counts:\n  requests: {{ from: envoy_cluster_upstream_rq, keep: [envoy_response_code], \
         class: [ {{ envoy_response_code: '5..', is: bad }} ] }}\nlatency: {{ from: envoy_cluster_upstream_rq_time, unit: ms }}\n"
    )
}

const START: &str = "start: { uptime: envoy_server_uptime }\n";

fn packs(all: &[(&str, String)]) -> Packs {
    let folder = tempfile::tempdir().expect("folder");
    for (name, text) in all {
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("pack");
    }
    Packs::with_folder(folder.path()).expect("packs")
}

fn source(server: &Server, start: &str) -> Prometheus {
    let packs = packs(&[("deltas", pack("deltas", "delta", start)), ("processes", pack("processes", "process", start))]);
    Prometheus::new(PrometheusSettings { packs, ..PrometheusSettings::new("prom", server.url()) }).expect("settings")
}

fn asked_in(form: &str, key: u64, test: &str) -> Subscription {
    let mut wanted = envoy(key, test, "v1", "v2");
    wanted.telemetry[0].pack = form.to_owned();
    wanted
}

/// All counts and the bad ones; buckets; the counts of each tick.
type Taken = ((f64, f64), Vec<f64>, Vec<Option<(f64, f64)>>);

/// Increments of an arm over some ticks: all, bad, buckets; and of each tick the counts alone.
fn taken(samples: &[SourceSample], arm: Arm) -> Taken {
    let each: Vec<_> = samples.iter().map(|s| counts(s, arm)).collect();
    let sum = each.iter().flatten().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
    let mut buckets = vec![0.0; 3];
    for sample in samples {
        if let Ok(read) = &sample.arms[arm].buckets {
            buckets.iter_mut().zip(read).for_each(|(all, one)| *all += one);
        }
    }
    (sum, buckets, each)
}

/// Ticks from..to of both forms, side by side.
async fn both(source: &mut Prometheus, ticks: u32) -> [Vec<SourceSample>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for n in 0..ticks {
        let mut samples = source.tick(tick(n)).await;
        all[1].push(samples.remove(1));
        all[0].push(samples.remove(0));
    }
    all
}

fn up(samples: &mut Samples, test: &str, instance: &str, at: Timestamp) {
    samples.add(&format!("up{{instance=\"{instance}\",job=\"envoy\",test=\"{test}\"}}"), at, 1.0);
}

#[test]
fn increments_equal_those_of_processes_over_resets_gaps_and_newborns() {
    on_both(async |server| {
        let test = "d";
        let mut samples = Samples::default();
        for n in 0..14u32 {
            let at = tick(n) - Duration::from_secs(2);
            let i = f64::from(n);
            let age = |samples: &mut Samples, proxy: &str, seconds: f64| {
                samples.add(&format!("envoy_server_uptime{{instance=\"{proxy}\",job=\"envoy\"}}"), at, seconds);
                up(samples, test, proxy, at);
            };
            samples.envoy(test, "b", "v1", at, 1000.0 + 10.0 * i, 0.0);
            age(&mut samples, "b", 50_000.0 + 15.0 * i);
            // restarted between ticks 2 and 3; its first errors at tick 4
            let (value, up_for) =
                if n < 3 { (500.0 + 10.0 * i, 9000.0 + 15.0 * i) } else { (7.0 + 10.0 * (i - 3.0), 5.0 + 15.0 * (i - 3.0)) };
            samples.envoy(test, "c", "v2", at, value, if n >= 4 { 2.0 } else { 0.0 });
            age(&mut samples, "c", up_for);
            // born between ticks 4 and 5 with 3 errors; an old one found at tick 6
            if n >= 5 {
                samples.envoy(test, "new", "v2", at, 4.0 + 10.0 * (i - 5.0), 3.0);
                age(&mut samples, "new", 6.0 + 15.0 * (i - 5.0));
            }
            if n >= 6 {
                samples.envoy(test, "old", "v2", at, 9000.0 + 10.0 * (i - 6.0), 1000.0);
                age(&mut samples, "old", 80_000.0 + 15.0 * (i - 6.0));
            }
        }
        samples.write(server);
        let mut source = source(server, START);
        source.subscribe(asked_in("deltas", 1, test), vec![5.0, 10.0]);
        source.subscribe(asked_in("processes", 2, test), vec![5.0, 10.0]);
        let [deltas, processes] = both(&mut source, 14).await;
        let expected = [(0.0, 0.0), (10.0, 0.0), (10.0, 0.0), (7.0, 0.0), (12.0, 2.0), (17.0, 3.0), (20.0, 0.0), (30.0, 0.0)];
        for arm in Arm::BOTH {
            let (of_deltas, of_processes) = (taken(&deltas, arm), taken(&processes, arm));
            assert_eq!(of_deltas, of_processes, "{arm:?}: {:?}", deltas.iter().map(|s| &s.detail).collect::<Vec<_>>());
        }
        assert_eq!(taken(&deltas, Arm::Canary).2[..8], expected.map(Some), "{:?}", deltas[3]);
        assert_eq!(taken(&deltas, Arm::Baseline).2[13], Some((10.0, 0.0)));
        assert_eq!(deltas[13].missing.canary, None);
    });
}

/// The data of PACKS' `delta.yml`: a reset, a lazy class, a gap, one that goes, one that is found late; no start is known.
#[test]
fn a_gap_is_bridged_and_nothing_is_invented_where_no_start_is_known() {
    on_both(async |server| {
        let test = "g";
        let mut samples = Samples::default();
        let stale = stale();
        let gone = f64::NAN;
        let rows: [(&str, &str, [f64; 7]); 6] = [
            ("a", "200", [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
            ("b", "200", [100.0, 110.0, 5.0, 10.0, 10.0, 20.0, 30.0]),
            ("a", "500", [gone, gone, 3.0, 5.0, 5.0, 5.0, 5.0]),
            ("d", "200", [50.0, 60.0, stale, 80.0, 90.0, 100.0, 110.0]),
            ("e", "200", [200.0, 210.0, stale, gone, gone, gone, gone]),
            ("n", "200", [gone, gone, gone, 9000.0, 9010.0, 9020.0, 9030.0]),
        ];
        for (n, at) in (0..7u32).map(|n| (n, tick(n) - Duration::from_secs(2))) {
            for (instance, code, values) in &rows {
                let value = values[n as usize];
                let labels = format!(
                    "envoy_cluster_name=\"v2\",envoy_response_code=\"{code}\",instance=\"{instance}\",job=\"envoy\",test=\"{test}\""
                );
                if value.to_bits() == stale.to_bits() || !value.is_nan() {
                    samples.add(&format!("envoy_cluster_upstream_rq{{{labels}}}"), at, value);
                    up(&mut samples, test, instance, at);
                }
            }
            samples.envoy(test, "base", "v1", at, 100.0 * f64::from(n), 0.0);
            up(&mut samples, test, "base", at);
        }
        samples.write(server);
        let mut source = source(server, "");
        for (key, form) in [(1, "deltas"), (2, "processes")] {
            let mut wanted = asked_in(form, key, test);
            wanted.wants.buckets = false;
            source.subscribe(wanted, Vec::new());
        }
        let [deltas, processes] = both(&mut source, 7).await;
        for arm in Arm::BOTH {
            let (of_deltas, of_processes) = (taken(&deltas, arm), taken(&processes, arm));
            assert_eq!(of_deltas.0, of_processes.0, "{arm:?}: {:?} {:?}", of_deltas.2, of_processes.2);
        }
        let (_, _, each) = taken(&deltas, Arm::Canary);
        let expected = [(0.0, 0.0), (40.0, 0.0), (18.0, 3.0), (37.0, 2.0), (30.0, 0.0), (40.0, 0.0), (40.0, 0.0)];
        assert_eq!(each, expected.map(Some), "as PACKS' own test of the form has it");
    });
}

/// An arm of so many processes that asking for each would be dear, and one that nobody scrapes any more.
#[test]
fn many_processes_are_asked_for_their_increments_and_silence_is_seen() {
    on_both(async |server| {
        let mut samples = Samples::default();
        for n in 0..10u32 {
            let at = tick(n) - Duration::from_secs(3);
            for pod in 0..120 {
                let instance = format!("p{pod}");
                samples.envoy("m", &instance, "v1", at, f64::from(n), 0.0);
                up(&mut samples, "m", &instance, at);
            }
            if n < 6 {
                samples.envoy("m", "q", "v2", at, 5.0 * f64::from(n), 0.0);
                up(&mut samples, "m", "q", at);
            }
        }
        samples.write(server);
        let mut source = super::source(&server.url());
        let wanted = envoy(1, "m", "v1", "v2");
        let set_up = source.set_up(&wanted, tick(3)).await.expect("set-up");
        let of = |text: &str| set_up.queries.iter().filter(|q| q.contains(text)).count();
        assert!(of("last_over_time(envoy_cluster_upstream_rq{") > 0 && of("last_over_time(envoy_cluster_upstream_rq_time_bucket{") > 0);
        let history = source.history(&wanted, tick(3), TICK * 3, TICK, &[5.0, 10.0]).await.expect("history");
        assert_eq!(history.requests.iter().flatten().map(|c| c.total).sum::<f64>(), 2.0 * 120.0, "{:?}", history.requests);
        source.subscribe(wanted, set_up.bounds_ms);
        source.tick(tick(3)).await;
        for n in 4..6 {
            let sample = source.tick(tick(n)).await.remove(0);
            assert_eq!(
                (counts(&sample, Arm::Baseline), counts(&sample, Arm::Canary)),
                (Some((120.0, 0.0)), Some((5.0, 0.0))),
                "{sample:?}"
            );
            assert_eq!(sample.arms.canary.buckets.as_ref().map(|b| b[2]), Ok(5.0));
            assert_eq!(sample.arms.canary.pods, None, "increments do not say of how many");
        }
        // no new sample of the canary: the baseline waits with it, then is counted without it, and nothing is lost
        let mut later = Vec::new();
        for n in 6..10 {
            later.push(source.tick(tick(n)).await.remove(0));
        }
        assert_eq!(later[0].missing.canary, Some(Blind::Stale), "{:?}", later[0]);
        assert_eq!(later[3].missing.canary, Some(Blind::Silent), "{:?}", later[3]);
        assert_eq!(taken(&later, Arm::Baseline).0, (480.0, 0.0));
    });
}

#[test]
fn what_is_pushed_without_a_start_is_refused_in_this_form() {
    super::runtime().block_on(async {
        let packs = packs(&[("pushed", pack("pushed", "delta", "push: 60s\n"))]);
        let mut source =
            Prometheus::new(PrometheusSettings { packs, ..PrometheusSettings::new("p", "http://127.0.0.1:1") }).expect("settings");
        let refused = source.set_up(&asked_in("pushed", 1, "t"), tick(0)).await.expect_err("refused").to_string();
        assert!(refused.contains("form delta for what is pushed: without `start`"), "{refused}");
    });
}
