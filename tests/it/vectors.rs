//! Formulas and recursions against the reference, one test per family of vectors.json.

use crate::reference::{Differences, f, floats, folder, list, read};
use canaryd::analysis::clock::Clock;
use canaryd::analysis::combine::{Claim, health, shares, total};
use canaryd::analysis::errors::CountTest;
use canaryd::analysis::gate::{PromoteState, StepState, asks_for_proof, keeps};
use canaryd::analysis::labels::level;
use canaryd::analysis::series::rate;
use canaryd::model::Advance;
use canaryd::stats::counts::{LevelTest, Null, Tolerance, TwoArms, binom_lf, count_lf, count_lfs, tolerance_lfs};
use canaryd::stats::cut::Cut;
use canaryd::stats::dispersion::{BaselineDispersion, PairedDispersion, scales};
use canaryd::stats::gauge::{Calibration, GaugeStream, Side, calibrate, gauge_lf};
use canaryd::stats::grid::{DOWN, K_MU, MU, UP};
use canaryd::stats::gross::{Gross, need};
use canaryd::stats::harm::Harm;
use canaryd::stats::helmert::Helmert;
use canaryd::stats::incident::{Search, keep, phi_without, windows};
use canaryd::stats::interval::{ln_evidence, quantile, rate as rate_interval};
use canaryd::stats::label::Label;
use canaryd::stats::latency::{stretch_ratio, tail, zone};
use canaryd::stats::load::{LoadFit, LoadKind, fit, ratio};
use canaryd::stats::ok::NotWorse;
use canaryd::stats::plan::{Expectation, Z_90, harm_minutes, ok_minutes};
use canaryd::stats::sustained::Sustained;
use serde_json::Value;

/// H0, seconds.
const ONSET_S: f64 = 1800.0;
const BLOCKS_S: [f64; 3] = [60.0, 240.0, 960.0];
const GAUGE_BLOCKS_S: [f64; 3] = [60.0, 240.0, 480.0];

/// Runs `check` on every row of a family; `least` numbers must be compared.
fn family(name: &str, least: usize, check: impl Fn(&Value, &mut Differences, &str)) {
    let all = read(&folder().join("vectors.json"));
    let mut diff = Differences::default();
    for (i, row) in list(&all[name]).iter().enumerate() {
        check(row, &mut diff, &format!("{name} {i}"));
    }
    diff.finish(name, least);
}

fn number(diff: &mut Differences, place: &str, want: &Value, got: f64) {
    diff.number(|| place.to_owned(), want, got);
}

fn two(v: &Value) -> TwoArms {
    let [x_b, n_b, x_c, n_c] = floats(v).try_into().expect("four counts");
    TwoArms { x_b, n_b, x_c, n_c }
}

fn polls(v: &Value) -> Vec<TwoArms> {
    list(v).iter().map(two).collect()
}

fn pairs(v: &Value) -> Vec<(f64, f64)> {
    list(v).iter().map(|p| (f(&p[0]), f(&p[1]))).collect()
}

fn t_s(i: usize) -> f64 {
    (i + 1) as f64 * 15.0
}

#[test]
fn factors() {
    family("count_lf", 10, |r, d, at| {
        let x = TwoArms { x_b: f(&r["x_b"]), n_b: f(&r["n_b"]), x_c: f(&r["x_c"]), n_c: f(&r["n_c"]) };
        let g = f(&r["g"]);
        number(d, at, &r["want"], count_lf(&x, Null { r: f(&r["r"]), d: f(&r["d"]) }, g, g.ln()));
    });
    family("binom_lf", 10, |r, d, at| {
        let g = f(&r["g"]);
        number(d, at, &r["want"], binom_lf(f(&r["x"]), f(&r["n"]), f(&r["limit"]), g, g.ln()));
    });
    family("gauge_lf", 40, |r, d, at| number(d, at, &r["want"], gauge_lf(f(&r["z"]), f(&r["mu"]))));
}

#[test]
fn harm_process() {
    family("harm_process", 60, |r, d, at| {
        let null = Null { r: f(&r["r"]), d: f(&r["d"]) };
        let ok_null = Null { r: f(&r["ok_r"]), d: f(&r["ok_d"]) };
        let (mut harm, mut ok) = (Harm::with_onset(&UP), NotWorse::new(&DOWN));
        let run: Vec<(f64, f64)> = polls(&r["polls"])
            .iter()
            .enumerate()
            .map(|(i, x)| {
                let h = harm.update(t_s(i), ONSET_S, &count_lfs(x, null, &UP, 1.0), x.n_c > 0.0);
                (h, ok.update(&count_lfs(x, ok_null, &DOWN, 1.0)))
            })
            .collect();
        for (k, after) in list(&r["after"]).iter().enumerate() {
            let (h, o) = run[f(after) as usize - 1];
            number(d, &format!("{at} harm {k}"), &r["want_harm"][k], h);
            number(d, &format!("{at} ok {k}"), &r["want_ok"][k], o);
        }
    });
}

#[test]
fn tolerance() {
    family("tolerance", 150, |r, d, at| {
        let tolerance = Tolerance { relative: f(&r["rel"]), absolute: f(&r["abs"]) };
        let mut harm = Harm::with_onset(&UP);
        for (i, x) in polls(&r["polls"]).iter().enumerate() {
            let got = harm.update(t_s(i), ONSET_S, &tolerance_lfs(x, tolerance, &UP, f(&r["phi"])), x.n_c > 0.0);
            number(d, &format!("{at} poll {i}"), &r["want"][i], got);
        }
    });
}

#[test]
fn error_metric() {
    family("error_metric", 500, |r, d, at| {
        let of = |a: &str, b: &str| Tolerance { relative: f(&r[a]), absolute: f(&r[b]) };
        let (warm_s, dt_s) = (f(&r["warmup_min"]) * 60.0, f(&r["dt_min"]) * 60.0);
        let mut test = CountTest::new(of("rel", "abs"), of("ok_rel", "ok_abs"), warm_s, warm_s);
        for (i, p) in list(&r["polls"]).iter().enumerate() {
            let clock = Clock::new((i + 1) as f64 * dt_s, dt_s, i == 0, ONSET_S);
            let x = (!p.is_null()).then(|| two(p));
            let got = test.step(&clock, x.as_ref(), f(&r["phi"]));
            let (main, guard) = test.parts();
            for (key, v) in [("main", main), ("guard", guard), ("lnE", got.ln_harm), ("cut", got.ln_cut), ("ok", got.ln_ok)] {
                number(d, &format!("{at} poll {i} {key}"), &r["want"][i][key], v);
            }
        }
    });
}

#[test]
fn limit() {
    family("limit", 100, |r, d, at| {
        let test = LevelTest::new(f(&r["limit"]), &UP);
        let (mut harm, mut cut) = (Harm::with_onset(&UP), Cut::default());
        for (i, x) in polls(&r["polls"]).iter().enumerate() {
            let data = x.n_c > 0.0;
            let ln_e = harm.update(t_s(i), ONSET_S, &test.attributed_lfs(x, f(&r["r"]), &UP, 1.0), data);
            number(d, &format!("{at} poll {i}"), &r["want"][i], ln_e);
            number(d, &format!("{at} poll {i} cut"), &r["want_cut"][i], cut.step(ln_e, harm.hot(), data));
        }
    });
}

#[test]
fn label() {
    family("label", 500, |r, d, at| {
        let new = || Label::new(f(&r["level"]));
        let (mut b, mut c, phi) = (new(), new(), f(&r["phi"]));
        for (i, x) in polls(&r["polls"]).iter().enumerate() {
            let ((vb, on_b), (vc, on_c)) = (b.step(x.x_b, x.n_b, phi), c.step(x.x_c, x.n_c, phi));
            let w = &r["want"][i];
            number(d, &format!("{at} poll {i} baseline"), &w[0], vb);
            number(d, &format!("{at} poll {i} canary"), &w[2], vc);
            d.flag(|| format!("{at} poll {i}"), &w[1], on_b);
            d.flag(|| format!("{at} poll {i}"), &w[3], on_c);
        }
    });
}

#[test]
fn gross_failure() {
    family("gross_failure", 250, |r, d, at| {
        if r["polls"].is_null() {
            return number(d, at, &r["want_need"], need(f(&r["phi_0"])));
        }
        let mut gross = Gross::new(f(&r["need"]));
        gross.refer_to(r["p_ref"].as_f64());
        for (i, x) in polls(&r["polls"]).iter().enumerate() {
            d.flag(|| format!("{at} poll {i}"), &r["want"][i], gross.step(x));
        }
    });
}

#[test]
fn dispersion() {
    family("dispersion", 24, |r, d, at| {
        let lengths = scales(15.0, &BLOCKS_S);
        let (mut base, mut pair) = (BaselineDispersion::with_history(&lengths), PairedDispersion::new(&lengths));
        for (i, x) in polls(&r["polls"]).iter().enumerate() {
            base.add(x.x_b, x.n_b);
            if i >= f(&r["pair_from"]) as usize {
                pair.add(x.x_b, x.n_b, x.x_c, x.n_c);
            }
        }
        let b = base.phi();
        let p = pair.phi(b);
        number(d, at, &r["want_base"], b);
        number(d, at, &r["want_pair"], p);
        number(d, at, &r["want"], b.min(p).max(1.0));
    });
    family("live_dispersion", 8, |r, d, at| {
        let mut base = BaselineDispersion::learning(&scales(f(&r["dt_s"]), &BLOCKS_S[..2]));
        pairs(&r["baseline"]).iter().for_each(|&(x, n)| base.add(x, n));
        number(d, at, &r["want"], base.phi());
    });
}

#[test]
fn history_incident() {
    family("history_incident", 5, |r, d, at| {
        let dt_s = f(&r["dt_s"]);
        let lengths = scales(dt_s, &BLOCKS_S);
        let search = Search {
            window: (600.0 / dt_s).round() as usize,
            stride: (150.0 / dt_s).floor() as usize,
            keep: (1800.0 / dt_s).ceil() as usize,
            scales: lengths.clone(),
        };
        if !r["series"].is_null() {
            let series: Vec<_> = list(&r["series"]).iter().map(pairs).collect();
            let want: Vec<usize> = floats(&r["want_keep"]).iter().map(|v| *v as usize).collect();
            return d.same(|| at.to_owned(), &want, &keep(&series, &search));
        }
        let history = pairs(&r["history"]);
        let out = windows(&history, &search);
        let want: Vec<(f64, f64)> = pairs(&r["want_left_out"]);
        let got: Vec<(f64, f64)> = out.iter().map(|w| (w.start as f64, w.end as f64)).collect();
        d.same(|| at.to_owned(), &want, &got);
        number(d, at, &r["want_phi_all"], phi_without(&history, &lengths, &[]));
        number(d, at, &r["want_phi"], phi_without(&history, &lengths, &out));
        let stay = history.iter().enumerate().filter(|(i, _)| !out.iter().any(|w| w.contains(i)));
        let (x, n) = stay.fold((0.0, 0.0), |(x, n), (_, p)| (x + p.0, n + p.1));
        number(d, at, &r["want_p_hist"], rate(x, n));
    });
}

#[test]
fn latency() {
    family("latency_setup", 40, |r, d, at| {
        let (bounds, tails) = (floats(&r["bounds"]), floats(&r["tails"]));
        let z = zone(&tails, f(&r["q"]));
        d.same(|| at.to_owned(), &r["want_primary"].as_u64(), &Some(z.primary as u64));
        let members: Vec<usize> = (0..tails.len()).filter(|j| z.weights[*j] > 0.0).collect();
        d.same(|| at.to_owned(), &list(&r["want"]).len(), &members.len());
        for (w, j) in list(&r["want"]).iter().zip(members) {
            number(d, at, &w["j"], j as f64);
            number(d, at, &w["weight"], z.weights[j]);
            number(d, at, &w["r"], stretch_ratio(&bounds, &tails, j, f(&r["delta"])));
        }
    });
    family("tail", 20, |r, d, at| number(d, at, &r["want"], tail(&floats(&r["bounds"]), &floats(&r["tails"]), f(&r["x"]))));
}

#[test]
fn bake() {
    family("bake", 20, |r, d, at| {
        if !r["n"].is_null() {
            let p = rate(f(&r["x"]), f(&r["n"]));
            number(d, at, &r["want_p_hist"], p);
            return number(d, at, &r["want_level"], level(p));
        }
        if !r["bounds"].is_null() {
            let (bounds, tails) = (floats(&r["bounds"]), floats(&r["tails"]));
            let j = zone(&tails, f(&r["q"])).primary;
            d.same(|| at.to_owned(), &r["want_primary"].as_u64(), &Some(j as u64));
            return number(d, at, &r["want_level"], stretch_ratio(&bounds, &tails, j, f(&r["stretch"])) * tails[j]);
        }
        let test = LevelTest::new(f(&r["level"]), &UP);
        let (mut harm, mut cut) = (Harm::with_onset(&UP), Cut::default());
        for (i, (x, n)) in pairs(&r["canary"]).into_iter().enumerate() {
            let ln_e = harm.update(t_s(i), ONSET_S, &test.lfs(x, n, &UP, f(&r["phi"])), n > 0.0);
            number(d, at, &r["want"][i], ln_e);
            number(d, at, &r["want_cut"][i], cut.step(ln_e, harm.hot(), n > 0.0));
        }
    });
}

fn calibration(d: &mut Differences, at: &str, want: &Value, c: Calibration) {
    for (key, got) in [("rho", c.rho), ("theta", c.theta), ("s", c.s), ("phi", c.phi)] {
        number(d, &format!("{at} {key}"), &want[key], got);
    }
}

fn calibrated(y: &[f64], dt_s: f64) -> Calibration {
    calibrate(y, dt_s, 15.0, &GAUGE_BLOCKS_S)
}

#[test]
fn gauges() {
    family("gauge", 48, |r, d, at| {
        let cal = calibrated(&floats(&r["history"]), f(&r["dt_s"]));
        calibration(d, at, &r["want"], cal);
        let mut harm_side = GaugeStream::new(cal, f(&r["harm_mu0"]), Side::Harm);
        let mut ok_side = GaugeStream::new(cal, f(&r["ok_mu0"]), Side::Ok);
        let (mut harm, mut ok) = (Harm::with_onset(&MU), NotWorse::new(&MU));
        let (mut h, mut o) = (0.0, 0.0);
        for (i, y) in floats(&r["live"]).into_iter().enumerate() {
            let lf = harm_side.lfs(y + f(&r["harm_shift"]), i as i64);
            h = harm.update(t_s(i), ONSET_S, &lf.unwrap_or([0.0; K_MU]), lf.is_some());
            o = ok.update(&ok_side.lfs(y, i as i64).unwrap_or([0.0; K_MU]));
        }
        number(d, at, &r["want_harm"], h);
        number(d, at, &r["want_ok"], o);
    });
    family("gauge_gaps", 100, |r, d, at| {
        let c = |key: &str| f(&r["cal"][key]);
        let cal = Calibration { rho: c("rho"), theta: c("theta"), s: c("s"), phi: c("phi") };
        let (mut stream, mut harm) = (GaugeStream::new(cal, f(&r["mu0"]), Side::Harm), Harm::with_onset(&MU));
        for (i, y) in list(&r["live"]).iter().enumerate() {
            let lf = y.as_f64().and_then(|y| stream.lfs(y, i as i64)).unwrap_or([0.0; K_MU]);
            let got = harm.update(t_s(i), ONSET_S, &lf, lf.iter().any(|v| *v != 0.0));
            number(d, &format!("{at} poll {i}"), &r["want"][i], got);
        }
    });
    for name in ["gauge_constant", "gauge_calibration_dt"] {
        family(name, 4, |r, d, at| calibration(d, at, &r["want"], calibrated(&floats(&r["history"]), f(&r["dt_s"]))));
    }
    family("helmert", 9, |r, d, at| {
        let mut h = Helmert::new(f(&r["s0"]), f(&r["dt_min"]));
        for (i, (t, y)) in floats(&r["t_min"]).into_iter().zip(floats(&r["y"])).enumerate() {
            d.optional(|| format!("{at} {i}"), &r["want"][i], h.step(t, y));
        }
    });
}

#[test]
fn cpu_load() {
    family("cpu_load", 60, |r, d, at| {
        let made: Option<LoadFit> = if r["rate"].is_null() { None } else { fit(&floats(&r["rate"]), &floats(&r["cpu"])) };
        d.same(|| at.to_owned(), &r["want"].is_null(), &made.is_none());
        if let Some(m) = &made {
            for (key, got) in [("a", m.a), ("b", m.b), ("lo", m.low), ("hi", m.high)] {
                number(d, &format!("{at} {key}"), &r["want"][key], got);
            }
            d.flag(|| at.to_owned(), &r["want"]["wide"], m.wide);
        }
        for (i, c) in list(&r["cases"]).iter().enumerate() {
            let got = ratio(made.as_ref(), f(&c["rate_b"]), f(&c["rate_c"]));
            let kind = match got.kind {
                LoadKind::Fit => "fit",
                LoadKind::Direct => "direct",
                LoadKind::Skip => "skip",
                LoadKind::Plain => "plain",
            };
            d.same(|| format!("{at} case {i}"), &c["want_kind"].as_str(), &Some(kind));
            number(d, &format!("{at} case {i}"), &c["want_ln_u"], got.ln_harm);
            number(d, &format!("{at} case {i} ok"), &c["want_ln_u_ok"], got.ln_ok);
        }
    });
}

#[test]
fn sustained() {
    family("sustained", 200, |r, d, at| {
        let mut rule = Sustained::new(f(&r["limit"]), f(&r["dt_s"]), f(&r["window_s"]));
        for (i, v) in list(&r["values"]).iter().enumerate() {
            let got = rule.step(f(&r["t_s"][i]), v.as_f64().map(|v| (v, None)));
            d.flag(|| format!("{at} {i}"), &r["want"][i], got);
        }
    });
}

#[test]
fn intervals() {
    family("beta_binomial", 24, |r, d, at| {
        let (x, n) = (f(&r["x"]), f(&r["n"]));
        number(d, at, &r["want"], ln_evidence(x, n, f(&r["p"])));
        let (low, high) = rate_interval(x, n, f(&r["alpha"]));
        number(d, &format!("{at} low"), &r["want_ci"][0], low);
        number(d, &format!("{at} high"), &r["want_ci"][1], high);
    });
    family("quantile_ci", 16, |r, d, at| {
        let mut cumulative = floats(&r["counts"]);
        for i in 1..cumulative.len() {
            cumulative[i] += cumulative[i - 1];
        }
        let (low, high) = quantile(&floats(&r["bounds"]), &cumulative, f(&r["q"]), f(&r["alpha"]), f(&r["phi"])).expect("data");
        number(d, &format!("{at} low"), &r["want"][0], low);
        number(d, &format!("{at} high"), &r["want"][1], high);
    });
}

#[test]
fn plan() {
    family("plan", 8, |r, d, at| {
        let at_key = |key: &str| f(&r[key]);
        let x = Expectation {
            rate_b: at_key("rate_b"),
            rate_c: at_key("rate_c"),
            p_b: at_key("p_b"),
            p_c: at_key("p_c"),
            phi: 1.0,
            dt_min: at_key("dt_min"),
        };
        let minutes = if r["kind"] == "harm" { harm_minutes } else { ok_minutes };
        assert_eq!(f(&r["power"]), 0.9);
        number(d, at, &r["want_min"], minutes(&x, Null { r: at_key("r"), d: at_key("d") }, at_key("level"), Z_90));
    });
}

#[test]
fn combination() {
    let weights = [("errors", 0.40), ("p95", 0.20), ("p99", 0.10), ("cpu", 0.10), ("memory", 0.10), ("leak", 0.05)];
    family("total", 60, |r, d, at| {
        let names: Vec<&str> = list(&r["configured"]).iter().filter_map(Value::as_str).collect();
        let custom = |n: &str| list(&r["custom"]).iter().any(|c| c == n);
        let claim =
            |n: &&str| Claim { weight: weights.iter().find(|(k, _)| k == n).map_or(0.05, |(_, w)| *w), custom: custom(n), counts: true };
        let got = shares(&names.iter().map(claim).collect::<Vec<_>>());
        for (n, s) in names.iter().zip(&got) {
            number(d, &format!("{at} {n}"), &r["want_weights"][n], *s);
        }
        let (ln_total, _) = total(names.iter().zip(&got).map(|(n, s)| (s.ln(), r["lnE_cut"][n].as_f64().unwrap_or(0.0))));
        number(d, at, &r["want_total"], ln_total);
        let (ln_rollback, ln_ok) = (-f(&r["alpha"]).ln(), -f(&r["alpha_ok"]).ln());
        d.flag(|| at.to_owned(), &r["want_rollback"], ln_total >= ln_rollback);
        let share = |n: &str| got[names.iter().position(|m| *m == n).expect("a metric")];
        let required = list(&r["required"]).iter().filter_map(Value::as_str).map(|n| (share(n), f(&r["lnE_ok"][n])));
        number(d, at, &r["want_health"], health(ln_total, ln_rollback, ln_ok, required, false).score);
    });
}

#[test]
fn advance() {
    family("advance", 20, |r, d, at| {
        let s = &r["step"];
        let advance = match s["mode"].as_str() {
            Some("on-evidence") => Advance::OnEvidence,
            _ => Advance::OnSchedule { strict: s["strict"] == true },
        };
        // the reference's strict asks for proof in either mode; on evidence it changes nothing
        let ln_ok = -f(&r["alpha_ok"]).ln();
        let promote =
            |p: &Value| PromoteState { x: f(&p["x"]), n: f(&p["n"]), level: f(&p["limit"]), ln_e: f(&p["lnE"]), phi: f(&p["phi"]) };
        let blocks = |p: &Value| promote(p).blocks(ln_ok, asks_for_proof(advance), f(&r["min_requests"]));
        let flag = |key: &str| s[key] == true;
        let state = StepState {
            advance,
            usable: flag("usable"),
            hold: flag("shared"),
            suspicious: flag("suspicious"),
            limit_breached: flag("limit_breached"),
            ln_total: f(&s["lnE_total"]),
            ln_rollback: -f(&r["alpha"]).ln(),
            canary_requests: f(&s["n_c"]),
            min_requests: f(&r["min_requests"]),
            counted_s: f(&s["counted_s"]),
            for_s: f(&s["for_s"]),
            step_min_s: f(&r["min_step_s"]),
            warm: true,
            proven: s["lnE_ok"].as_object().expect("ok").values().all(|v| f(v) >= ln_ok),
            promote_blocks: list(&s["promote_below"]).iter().any(blocks),
        };
        let got: Vec<&str> = keeps(&state).iter().map(|k| k.name()).collect();
        let want: Vec<&str> = list(&r["want"]).iter().filter_map(Value::as_str).collect();
        d.same(|| at.to_owned(), &want, &got);
    });
}
