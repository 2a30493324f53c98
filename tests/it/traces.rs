//! Whole rollouts against the reference, through the judge that runs live: every poll, every number the reference gives.

use crate::reference::{Differences, f, floats, folder, list, read};
use canaryd::analysis::series::SeriesKey;
use canaryd::analysis::{Inspection, Judge, JudgeError};
use canaryd::model::{
    Advance, Arm, ArmSample, Blind, Breach, Buckets, Budget, Counts, History, JudgeSpec, Judgement, LimitKind, Limits, LoadHistory, Margin,
    Method, MetricKind, MetricSpec, Outlook, PerArm, Poll, Reading, StepTime, Timestamp, Verdict, Weight,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const START_MS: i64 = 1_750_000_000_000;

// ---- the reference's words to ours

fn kind(name: &str) -> MetricKind {
    match name {
        "errors" => MetricKind::Errors,
        "cpu" => MetricKind::Cpu,
        "memory" => MetricKind::Memory,
        "leak" => MetricKind::Leak,
        p => MetricKind::Latency(format!("0.{}", &p[1..]).parse().expect("a quantile")),
    }
}

fn limit_kind(name: &str) -> LimitKind {
    match name {
        "promote_below" => LimitKind::PromoteBelow,
        "warn_above" => LimitKind::WarnAbove,
        "rollback_above" => LimitKind::RollbackAbove,
        "page_above" => LimitKind::PageAbove,
        other => panic!("limit {other}"),
    }
}

fn margin(config: &Value, kind: MetricKind) -> Margin {
    let at = |section: &str, key: &str| f(&config[section][key]);
    match kind {
        MetricKind::Errors => Margin::Counts {
            relative: at("errors", "relative"),
            absolute: at("errors", "absolute"),
            ok_relative: at("errors", "ok_relative"),
            ok_absolute: at("errors", "ok_absolute"),
        },
        MetricKind::Latency(_) => Margin::Stretch {
            harm: at("latency", "stretch"),
            guard: at("latency", "guard_stretch"),
            ok: at("latency", "ok_stretch"),
            bake: at("latency", "bake_stretch"),
        },
        MetricKind::Cpu => Margin::Ratio { harm: at("cpu", "tolerance"), ok: at("cpu", "ok") },
        MetricKind::Memory => Margin::Ratio { harm: at("memory", "tolerance"), ok: at("memory", "ok") },
        MetricKind::Leak => Margin::Slope { per_unit: at("leak", "slope_per_min") },
        other => panic!("{other:?}"),
    }
}

fn limits(v: &Value) -> Limits {
    let at = |key: &str| v[key].as_f64();
    Limits {
        promote_below: at("promote_below"),
        warn_above: at("warn_above"),
        rollback_above: at("rollback_above"),
        page_above: at("page_above"),
        sustained: at("for_s").map(Duration::from_secs_f64),
    }
}

fn names(config: &Value) -> Vec<String> {
    let mut out: Vec<String> = list(&config["metrics"]).iter().map(|m| m.as_str().expect("a name").to_owned()).collect();
    for name in config["limits"].as_object().expect("limits").keys() {
        if !out.contains(name) {
            out.push(name.clone());
        }
    }
    out
}

fn spec(config: &Value) -> JudgeSpec {
    let at = |key: &str| f(&config[key]);
    let has = |list_of: &str, name: &str| list(&config[list_of]).iter().any(|v| v == name);
    let metric = |name: &String| MetricSpec {
        name: name.clone(),
        kind: kind(name),
        compared: has("metrics", name),
        margin: margin(config, kind(name)),
        required: has("required", name),
        weight: config["weights"][name].as_f64().unwrap_or(0.0),
        limits: limits(&config["limits"][name]),
    };
    let step = |s: &Value| StepTime {
        weight: Weight::from_permille((f(&s["weight"]) * 1000.0).round() as u16).expect("a share"),
        for_s: f(&s["for_s"]),
    };
    assert_eq!(config["guard"], serde_json::json!({"ratio": 5.0, "absolute": 0.02, "share": 0.1}));
    assert_eq!(f(&config["latency"]["min_requests"]), 200.0);
    JudgeSpec {
        interval: Duration::from_secs_f64(at("dt_s")),
        budget: Budget {
            rollback: at("alpha"),
            ok: at("alpha_ok"),
            limit: at("alpha_limit"),
            page: at("alpha_page"),
            warn: at("alpha_warn"),
        },
        incarnation: at("incarnation") as u32,
        metrics: names(config).iter().map(metric).collect(),
        bounds_ms: floats(&config["latency"]["bounds_ms"]),
        steps: list(&config["steps"]).iter().map(step).collect(),
        advance: match config["mode"].as_str() {
            Some("on-evidence") => Advance::OnEvidence,
            _ => Advance::OnSchedule { strict: config["strict"] == true },
        },
        min_requests: at("min_requests") as u32,
        cpu_load_rule: config["cpu"]["load_rule"] == true,
        method: Method {
            warm_up_s: at("warmup_s"),
            warm_up_leak_s: at("warmup_leak_s"),
            burn_in_s: at("burn_in_s"),
            history_min_s: at("min_history_s"),
            shared_hold_s: at("shared_hold_s"),
            shared_page_s: at("shared_page_s"),
            step_min_s: at("min_step_s"),
            ..Method::default()
        },
    }
}

fn buckets(v: &Value) -> Option<Buckets> {
    v.as_array().map(|row| row.iter().map(f).collect())
}

fn history(v: &Value) -> History {
    let series = |key: &str| v[key].as_array().cloned().unwrap_or_default();
    let reals = |key: &str| series(key).iter().map(Value::as_f64).collect::<Vec<_>>();
    let counts = |(n, x): (&Value, &Value)| Some(Counts { total: n.as_f64()?, bad: x.as_f64()? });
    History {
        requests: series("requests").iter().zip(&series("errors")).map(counts).collect(),
        buckets: series("buckets").iter().map(buckets).collect(),
        cpu: reals("cpu"),
        memory: reals("memory"),
        leak: reals("leak"),
        load: v["load"].is_object().then(|| LoadHistory { rate: floats(&v["load"]["rate"]), cpu: floats(&v["load"]["cpu"]) }),
        ..History::default()
    }
}

fn reading<T>(v: Option<T>) -> Reading<T> {
    v.ok_or(Blind::NoSeries)
}

fn arm(v: &Value) -> ArmSample {
    let at = |key: &str| reading(v[key].as_f64());
    let counts = v["requests"].as_f64().zip(v["errors"].as_f64()).map(|(total, bad)| Counts { total, bad });
    ArmSample {
        requests: reading(counts),
        buckets: reading(buckets(&v["buckets"])),
        cpu: at("cpu"),
        memory: at("memory"),
        floor: at("floor"),
        pods: v["pods"].as_u64().map(|n| n as u32),
        ..ArmSample::blind(Blind::NotAsked)
    }
}

fn poll(v: &Value) -> Poll {
    Poll {
        at: Timestamp::from_millis(START_MS + (f(&v["t"]) * 1e3).round() as i64),
        step: v["step"].as_u64().expect("a step") as u32,
        counts_time: true,
        arms: PerArm { baseline: arm(&v["baseline"]), canary: arm(&v["canary"]) },
        changes: Vec::new(),
    }
}

// ---- our answer in the reference's words

fn breach_text(b: &Breach, names: &[String]) -> String {
    let name = |i: u8| &names[usize::from(i)];
    match *b {
        Breach::Metric(i) => name(i).clone(),
        Breach::Limit(i) => format!("limit {}", name(i)),
        Breach::Bake { metric, derived } => format!("bake {} {}", name(metric), if derived { "derived" } else { "rollback-above" }),
        Breach::Gross => "gross failure".to_owned(),
        Breach::Abandoned => "abandoned".to_owned(),
    }
}

fn series_name(key: SeriesKey) -> String {
    match key {
        SeriesKey::Requests => "errors".to_owned(),
        SeriesKey::Tail(j) => j.to_string(),
        SeriesKey::Custom(i) => format!("custom {i}"),
    }
}

fn outlook_text(o: Outlook) -> &'static str {
    match o {
        Outlook::Rollback => "rollback",
        Outlook::Suspicious => "suspicious",
        Outlook::Pass => "pass",
        Outlook::Collecting => "collecting",
    }
}

fn texts(v: &Value) -> Vec<String> {
    list(v).iter().map(|t| t.as_str().expect("a text").to_owned()).collect()
}

/// One trace being compared.
struct Trace<'a> {
    names: &'a [String],
    diff: Differences,
    row: usize,
}

impl Trace<'_> {
    fn at(&self, place: &str) -> impl Fn() -> String + use<> {
        let text = format!("poll {} {place}", self.row);
        move || text.clone()
    }

    fn number(&mut self, place: &str, want: &Value, got: f64) {
        let at = self.at(place);
        self.diff.number(at, want, got);
    }

    fn flag(&mut self, place: &str, want: &Value, got: bool) {
        let at = self.at(place);
        self.diff.flag(at, want, got);
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, place: &str, want: T, got: T) {
        let at = self.at(place);
        self.diff.same(at, &want, &got);
    }

    fn poll(&mut self, want: &Value, out: &Judgement, inside: &Inspection) {
        if want["ignored"] == true {
            self.same("duplicate", true, out.duplicate);
            return;
        }
        self.number("t", &want["t"], out.t_s.unwrap_or(f64::NAN));
        self.used(&want["used"]["counts"], out);
        self.dispersion(&want["phi"], inside);
        self.flag("gross", &want["gross"], out.gross);
        self.number("lnE_total", &want["lnE_total"], out.ln_total);
        self.limits(want, out, inside);
        self.number("counted_s", &want["step"]["counted_s"], out.clock.counted_s);
        let rollback: Vec<String> = out.rollback.iter().map(|b| breach_text(b, self.names)).collect();
        self.same("rollback", texts(&want["decision"]["rollback"]), rollback);
        let keep: Vec<String> = out.keep.iter().map(|k| k.name().to_owned()).collect();
        self.same("hold", texts(&want["decision"]["hold"]), keep);
        if want["bake"].is_array() {
            self.bake(&want["bake"], inside);
        } else {
            self.compare(want, out, inside);
        }
    }

    fn used(&mut self, want: &Value, out: &Judgement) {
        match (&out.counts, want.is_null()) {
            (None, true) => {}
            (Some(c), false) => {
                let got = [c.baseline.bad, c.baseline.total, c.canary.bad, c.canary.total];
                self.same("used", floats(want), got.to_vec());
            }
            (got, _) => self.same("used", format!("{want}"), format!("{got:?}")),
        }
    }

    fn dispersion(&mut self, want: &Value, inside: &Inspection) {
        let wanted = want.as_object().expect("phi");
        // those of a live setup come into use after the poll that makes it
        let in_use: Vec<_> = inside.series.iter().filter(|(key, ..)| wanted.contains_key(&series_name(*key))).collect();
        self.same("series", wanted.len(), in_use.len());
        for (key, phi, _) in in_use {
            let w = &want[series_name(*key)];
            for (i, got) in [phi.base, phi.pair, phi.used].into_iter().enumerate() {
                self.number(&format!("phi {key:?} {i}"), &w[i], got);
            }
        }
    }

    fn compare(&mut self, want: &Value, out: &Judgement, inside: &Inspection) {
        self.number("p_value", &want["p_value"], out.p_value);
        self.worst(&want["worst"], out);
        for (name, w) in want["metrics"].as_object().expect("metrics") {
            let i = self.names.iter().position(|n| n == name).expect("a metric");
            let (got, view) = (&out.metrics[i], &inside.metrics[i]);
            self.number(&format!("{name} lnE"), &w["lnE"], got.ln_harm);
            self.number(&format!("{name} cut"), &w["lnE_cut"], got.ln_harm_cut);
            if !w["lnE_ok"].is_null() {
                self.number(&format!("{name} ok"), &w["lnE_ok"], got.ln_ok);
            }
            if !w["hot"].is_null() {
                self.flag(&format!("{name} hot"), &w["hot"], view.hot);
            }
            if let Some((main, guard)) = view.parts {
                self.number(&format!("{name} main"), &w["main"], main);
                self.number(&format!("{name} guard"), &w["guard"], guard);
            }
            if let MetricKind::Latency(_) = view.kind {
                let got = view.zone.as_ref().map(|z| z.bounds.iter().flat_map(|b| [b.j as f64, b.main, b.guard]).collect::<Vec<_>>());
                let untouched = view.zone.as_ref().is_none_or(|z| z.bounds.iter().all(|b| b.main == 0.0 && b.guard == 0.0));
                self.same(&format!("{name} zone"), true, if w["zone"].is_null() { untouched } else { got.is_some() });
                let wanted: Vec<&Value> = w["zone"].as_array().into_iter().flatten().flat_map(list).collect();
                for (k, (w, g)) in wanted.into_iter().zip(got.into_iter().flatten()).enumerate() {
                    self.number(&format!("{name} zone {k}"), w, g);
                }
            }
            if w.get("y").is_some() {
                let at = self.at(&format!("{name} y"));
                self.diff.optional(at, &w["y"], view.y);
                let at = self.at(&format!("{name} h"));
                if w.get("h").is_some() {
                    self.diff.optional(at, &w["h"], view.residual);
                }
                self.same(&format!("{name} advisory"), w["advisory"] == true, got.advisory);
            }
            let verdict = want["verdict"][name].as_str().expect("a verdict");
            self.same(&format!("{name} verdict"), verdict, got.verdict.name());
            if matches!(got.verdict, Verdict::Blind(Blind::NotAsked)) {
                self.same(&format!("{name} blind"), "a reason", "not asked");
            }
        }
        self.labels(&want["labels"], out, inside);
        self.number("n_c", &want["step"]["n_c"], out.clock.canary_requests);
        let unproven = |m: &&canaryd::model::MetricJudgement| m.required && m.ln_ok < out.ln_ok;
        let got: Vec<String> = out.metrics.iter().filter(unproven).map(|m| self.names[usize::from(m.index)].clone()).collect();
        let mut wanted = texts(&want["step"]["unproven"]);
        wanted.sort_by_key(|n| self.names.iter().position(|m| m == n));
        self.same("unproven", wanted, got);
        self.number("score", &want["health"]["score"], out.score);
        self.number("needed", &want["health"]["needed"], out.progress);
        self.same("state", want["health"]["state"].as_str().expect("state"), outlook_text(out.outlook));
        let during_shared = !out.rollback.is_empty() && out.labels.hold;
        self.flag("during shared", &want["decision"]["during_shared"], during_shared);
    }

    /// The metric with the most evidence; two that differ by rounding only may change places.
    fn worst(&mut self, want: &Value, out: &Judgement) {
        let term = |i: usize| out.metrics[i].share.ln() + out.metrics[i].ln_harm_cut;
        let wanted = self.names.iter().position(|n| Some(n.as_str()) == want.as_str());
        let got = out.worst.map(usize::from);
        if let (Some(a), Some(b)) = (wanted, got)
            && (term(a) - term(b)).abs() < 1e-12
        {
            return;
        }
        self.same("worst", wanted, got);
    }

    fn limits(&mut self, want: &Value, out: &Judgement, inside: &Inspection) {
        for w in list(&want["limits"]) {
            let (metric, kind) = (w["metric"].as_str().expect("a metric"), limit_kind(w["kind"].as_str().expect("a kind")));
            let is = |m: usize, k: LimitKind| self.names[m] == metric && k == kind;
            let i = out.limits.iter().position(|l| is(usize::from(l.metric), l.kind)).expect("a limit");
            let (got, view) = (&out.limits[i], &inside.limits[i]);
            let place = format!("limit {metric} {}", kind.name());
            if w.get("attributed").is_some() {
                self.flag(&format!("{place} b"), &w["b"], got.breached.baseline);
                self.flag(&format!("{place} c"), &w["c"], got.breached.canary);
                self.flag(&format!("{place} attributed"), &w["attributed"], got.attributed);
                let at = self.at(&format!("{place} ratio"));
                if want["bake"].is_null() {
                    self.diff.optional(at, &w["ratio"], view.ratio);
                }
                continue;
            }
            if kind == LimitKind::PromoteBelow {
                let (x, n, phi) = view.promote.expect("counts");
                for (key, got) in [("x", x), ("n", n), ("phi", phi), ("lnE_ok", got.evidence.canary)] {
                    self.number(&format!("{place} {key}"), &w[key], got);
                }
                self.flag(&format!("{place} proven"), &w["proven"], got.proven);
                continue;
            }
            for (arm, key) in [(Arm::Baseline, "b"), (Arm::Canary, "c")] {
                if let Some(pair) = w[key].as_array() {
                    self.number(&format!("{place} {key}"), &pair[0], view.evidence[arm].0);
                    self.number(&format!("{place} {key} cut"), &pair[1], view.evidence[arm].1);
                    let crossed = w["crossed"].get(key).unwrap_or(&w["crossed"]);
                    self.flag(&format!("{place} {key} crossed"), crossed, got.breached[arm]);
                }
                self.number(&format!("{place} {key} label"), &w["label"][key][0], view.label_values[arm]);
                self.flag(&format!("{place} {key} label"), &w["label"][key][1], got.label[arm]);
            }
        }
    }

    fn labels(&mut self, want: &Value, out: &Judgement, inside: &Inspection) {
        let l = &out.labels;
        for (key, got) in
            [("shared", l.shared), ("hold", l.hold), ("calm", l.calm), ("suspicious", l.suspicious), ("page_shared", l.page_shared)]
        {
            self.flag(key, &want[key], got);
        }
        let wanted = want["degraded"].as_object().expect("degraded");
        self.same("degraded", true, wanted.len() <= inside.degraded.len());
        for d in &inside.degraded {
            let name = d.metric.map_or("errors", |i| self.names[i].as_str());
            if !wanted.contains_key(name) {
                // frozen after this poll: it has seen nothing yet
                self.same("a new label", (0.0, false), (d.value, d.on));
                continue;
            }
            self.number(&format!("degraded {name}"), &wanted[name][0], d.value);
            self.flag(&format!("degraded {name}"), &wanted[name][1], d.on);
        }
    }

    fn bake(&mut self, want: &Value, inside: &Inspection) {
        self.same("bake", list(want).len(), inside.bakes.len());
        for (w, b) in list(want).iter().zip(&inside.bakes) {
            let name = format!("{} {}", self.names[b.metric], if b.derived { "derived" } else { "rollback-above" });
            self.same("bake name", w["name"].as_str().expect("a name"), &name);
            self.number(&format!("{name} level"), &w["level"], b.level);
            self.number(&format!("{name} phi"), &w["phi"], b.phi);
            self.number(&format!("{name} evidence"), &w["c"][0], b.evidence.0);
            self.number(&format!("{name} cut"), &w["c"][1], b.evidence.1);
        }
    }

    fn setup(&mut self, want: &Value, judge: &Judge, out: &Judgement) {
        let inside = judge.inspect();
        self.number("ln_rollback", &want["ln_rollback"], out.ln_rollback);
        self.number("ln_ok", &want["ln_ok"], out.ln_ok);
        self.number("ln_limit", &want["ln_limit"], inside.ln_limit);
        self.same("n_lim", want["n_lim"].as_u64().map(|n| n.max(1)), Some(inside.n_lim as u64));
        self.same("left_out", floats(&want["left_out"]), inside.left_out.iter().map(|i| *i as f64).collect());
        let at = self.at("p_hist");
        self.diff.optional(at, &want["p_hist"], inside.p_hist);
        self.number("gross_need", &want["gross_need"], inside.gross_need);
        for (key, _, phi_0) in &inside.series {
            let at = self.at(&format!("phi_0 {key:?}"));
            self.diff.optional(at, &want["phi0"][series_name(*key)], *phi_0);
        }
        let tails = inside.tails.as_deref().unwrap_or(&[]);
        for (j, w) in want["tails"].as_array().into_iter().flatten().enumerate() {
            self.number(&format!("T_{j}"), w, tails.get(j).copied().unwrap_or(f64::NAN));
        }
        for (name, w) in want["weights"].as_object().expect("weights") {
            let i = self.names.iter().position(|n| n == name).expect("a metric");
            self.number(&format!("share {name}"), w, out.metrics[i].share);
        }
        for (name, w) in want["gauges"].as_object().expect("gauges") {
            let i = self.names.iter().position(|n| n == name).expect("a metric");
            let cal = inside.metrics[i].calibration;
            self.same(&format!("{name} calibrated"), w.is_null(), cal.is_none());
            if let Some(c) = cal {
                for (k, got) in [c.rho, c.theta, c.s, c.phi].into_iter().enumerate() {
                    self.number(&format!("{name} calibration {k}"), &w[k], got);
                }
            }
        }
        for (name, w) in want["latency"].as_object().expect("latency") {
            let i = self.names.iter().position(|n| n == name).expect("a metric");
            let zone = &inside.metrics[i].zone;
            self.same(&format!("{name} set up"), w.is_null(), zone.is_none());
            let Some(z) = zone else { continue };
            self.same(&format!("{name} primary"), w["primary"].as_u64(), Some(z.primary as u64));
            self.number(&format!("{name} r_ok"), &w["r_ok"], z.r_ok);
            self.same(&format!("{name} zone"), list(&w["zone"]).len(), z.bounds.len());
            for (w, b) in list(&w["zone"]).iter().zip(&z.bounds) {
                for (key, got) in [("j", b.j as f64), ("weight", b.weight), ("r", b.r), ("r_guard", b.r_guard)] {
                    self.number(&format!("{name} zone {key}"), &w[key], got);
                }
            }
        }
        for d in &inside.degraded {
            let name = d.metric.map_or("errors", |i| self.names[i].as_str());
            self.number(&format!("level of degraded {name}"), &want["degraded_level"][name], d.level);
        }
        let fit = inside.fit.map(|l| [l.a, l.b, l.low, l.high]);
        self.same("load fit", want["load_fit"].is_null(), fit.is_none());
        for (k, got) in fit.into_iter().flatten().enumerate() {
            self.number(&format!("load fit {k}"), &want["load_fit"][k], got);
        }
        if !want["bake"].is_null() {
            let at = self.at("bake p_hist");
            self.diff.optional(at, &want["bake"]["p_hist"], inside.bake_rate);
        }
    }
}

fn check(path: &Path) {
    let trace = read(path);
    let what = format!("{} ({})", path.file_stem().expect("a name").to_string_lossy(), trace["about"].as_str().unwrap_or(""));
    let (config, polls, expected) = (&trace["config"], list(&trace["polls"]), list(&trace["expected"]));
    let names = names(config);
    let mut judge = match Judge::new(&spec(config), &history(&trace["history"])) {
        Ok(judge) => judge,
        // the reference goes on with a promote-below that can never be shown; a rule that asks for proof is refused here
        Err(JudgeError::BelowFirstBound(..)) if trace["warnings"].to_string().contains("never provable") => return,
        Err(e) => panic!("{what}: {e}"),
    };
    judge.start_at(Timestamp::from_millis(START_MS));
    let mut out = Judgement::empty(Timestamp::default(), 0);
    let mut t = Trace { names: &names, diff: Differences::default(), row: 0 };
    let before = judge.clone();
    for (i, (p, want)) in polls.iter().zip(expected).enumerate() {
        t.row = i;
        judge.poll(&poll(p), &mut out);
        t.poll(want, &out, &judge.inspect());
        if i == 0 {
            t.setup(&trace["setup_at_start"], &before, &out);
        }
    }
    t.setup(&trace["setup_at_end"], &judge, &out);
    t.diff.finish(&what, polls.len() * 30);
}

#[test]
fn every_trace_is_followed_poll_by_poll() {
    let folder = folder();
    let traces = if folder.join("traces").is_dir() { folder.join("traces") } else { folder };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&traces).expect("a folder of traces").map(|e| e.expect("an entry").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "json") && p.file_stem().is_some_and(|s| s != "vectors"));
    files.sort();
    assert!(!files.is_empty(), "no trace in {}", traces.display());
    let failed: Vec<String> = files
        .iter()
        .filter_map(|p| std::panic::catch_unwind(|| check(p)).err())
        .map(|e| e.downcast_ref::<String>().cloned().unwrap_or_else(|| "a trace panicked".to_owned()))
        .collect();
    assert!(failed.is_empty(), "{} of {} traces differ\n{}", failed.len(), files.len(), failed.join("\n\n"));
}
