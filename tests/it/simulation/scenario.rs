//! The scenarios of STATISTICS 15 that are measured here, made poll by poll as the reference's `scen.py` makes them: 60 min of
//! the baseline alone, then 60 min at 5, 25 and 50 %.

use super::dice::Dice;
use canaryd::model::{Buckets, Counts, History, PerArm};
use statrs::function::erf::erfc;
use std::f64::consts::{SQRT_2, TAU};

/// Polls of the history, and of the rollout.
pub(super) const POLLS: usize = 240;
/// Minutes of a poll.
pub(super) const POLL_MIN: f64 = 0.25;
pub(super) const BOUNDS_MS: [f64; 16] =
    [5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0];
const BUCKETS: usize = BOUNDS_MS.len() + 1;
/// Polls of the memory floor's window, 10 min.
const FLOOR: usize = 40;

/// What differs between scenarios.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) requests_per_s: f64,
    pub(super) error_rate: f64,
    /// Mean size of the geometric clumps errors come in; 1 = each by itself.
    pub(super) clump: f64,
    /// Minutes in which both arms suffer, errors and latency times this.
    pub(super) incident: Option<(f64, f64, f64, f64)>,
    /// Each arm and poll with this chance: this part of the requests, so many times slower.
    pub(super) blips: Option<(f64, f64, f64)>,
    /// The canary's errors, latency, CPU and memory, times the baseline's.
    pub(super) errors_times: f64,
    pub(super) latency_times: f64,
    pub(super) cpu_times: f64,
    pub(super) memory_times: f64,
    /// Every request of the canary fails.
    pub(super) outage: bool,
    /// Minute from which the canary is worse.
    pub(super) onset_min: f64,
    /// Standard deviation of what a pod's place costs it.
    pub(super) placement: f64,
    pub(super) pods: PerArm<usize>,
}

/// Steady, 200 requests/s, 0.1 % errors.
pub(super) const STEADY: Scenario = Scenario {
    requests_per_s: 200.0,
    error_rate: 0.001,
    clump: 1.0,
    incident: None,
    blips: None,
    errors_times: 1.0,
    latency_times: 1.0,
    cpu_times: 1.0,
    memory_times: 1.0,
    outage: false,
    onset_min: 0.0,
    placement: 0.02,
    pods: PerArm { baseline: 6, canary: 2 },
};

/// One arm in one poll.
#[derive(Clone, Debug)]
pub(super) struct ArmPoll {
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// Requests in each latency bucket, the last beyond all bounds.
    pub(super) buckets: [u64; BUCKETS],
    pub(super) cpu: f64,
    pub(super) memory: f64,
    pub(super) floor: f64,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) history: History,
    pub(super) polls: Vec<PerArm<ArmPoll>>,
}

/// Step in force at a poll: the schedule of all scenarios.
pub(super) fn step(poll: usize) -> u32 {
    match poll {
        0..60 => 0,
        60..120 => 1,
        _ => 2,
    }
}

fn share(poll: usize) -> f64 {
    [0.05, 0.25, 0.5][step(poll) as usize]
}

/// `P(latency <= bound)` for every bound: lognormal, median 60 ms, sigma .7, stretched.
fn latency_cdf(stretch: f64) -> [f64; BUCKETS] {
    std::array::from_fn(|i| {
        let z = |bound: &f64| (bound.ln() - 60f64.ln() - stretch.ln()) / 0.7;
        BOUNDS_MS.get(i).map_or(1.0, |bound| 0.5 * erfc(-z(bound) / SQRT_2))
    })
}

/// Gauges of pods: log-autoregressive around each pod's own place; `[pod][poll]`, as ratios to 1.
fn pods(dice: &mut Dice, n: usize, polls: usize, placement: f64, (sd, rho): (f64, f64)) -> Vec<Vec<f64>> {
    let innovation = sd * (1.0 - rho * rho).sqrt();
    let pod = |dice: &mut Dice| {
        let place = placement * dice.normal();
        let mut y = sd * dice.normal();
        let mut series = vec![(place + y).exp()];
        for _ in 1..polls {
            y = rho * y + innovation * dice.normal();
            series.push((place + y).exp());
        }
        series
    };
    (0..n).map(|_| pod(dice)).collect()
}

fn mean_at(pods: &[Vec<f64>], poll: usize) -> f64 {
    pods.iter().map(|p| p[poll]).sum::<f64>() / pods.len() as f64
}

/// The minimum of the last 10 min, per pod.
fn floors(pods: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let low = |series: &Vec<f64>, t: usize| series[t.saturating_sub(FLOOR - 1)..=t].iter().fold(f64::INFINITY, |a, b| a.min(*b));
    pods.iter().map(|series| (0..series.len()).map(|t| low(series, t)).collect()).collect()
}

/// A/A log-ratios of the history: as many pods as the canary has, against the others.
fn same_against_same(pods: &[Vec<f64>], canary: usize, from: usize) -> Vec<Option<f64>> {
    let (some, others) = pods.split_at(canary.min(pods.len() / 2));
    (from..POLLS).map(|t| Some((mean_at(some, t) / mean_at(others, t)).ln())).collect()
}

/// One gauge of one arm: over all polls, or from the rollout's start.
struct Gauge {
    baseline: Vec<Vec<f64>>,
    canary: Vec<Vec<f64>>,
}

impl Scenario {
    pub(super) fn run(&self, seed: u64) -> Run {
        let mut dice = Dice::new(seed);
        let phase = TAU * dice.unit();
        let day = |t: usize| 1.0 + 0.3 * (TAU * (minute(t)) / 1440.0 + phase).sin();
        let gauge = |dice: &mut Dice, memory: (f64, f64)| Gauge {
            baseline: pods(dice, self.pods.baseline, 2 * POLLS, self.placement, memory),
            canary: pods(dice, self.pods.canary, POLLS, self.placement, memory),
        };
        let (cpu, memory) = (gauge(&mut dice, (0.10, 0.9)), gauge(&mut dice, (0.02, 0.95)));
        let floor = Gauge { baseline: floors(&memory.baseline), canary: floors(&memory.canary) };
        let mut history = History {
            cpu: same_against_same(&cpu.baseline, self.pods.canary, 0),
            memory: same_against_same(&memory.baseline, self.pods.canary, 0),
            leak: same_against_same(&floor.baseline, self.pods.canary, FLOOR),
            ..History::default()
        };
        for t in 0..POLLS {
            let one = self.arm(&mut dice, t, self.requests_per_s * 15.0 * day(t), false);
            history.requests.push(Some(Counts { total: one.requests as f64, bad: one.errors as f64 }));
            history.buckets.push(Some(cumulative(&one.buckets)));
        }
        let polls = (POLLS..2 * POLLS).map(|t| {
            let (all, w, k) = (self.requests_per_s * 15.0 * day(t), share(t - POLLS), t - POLLS);
            let baseline = ArmPoll {
                cpu: mean_at(&cpu.baseline, t) * day(t),
                memory: mean_at(&memory.baseline, t),
                floor: mean_at(&floor.baseline, t),
                ..self.arm(&mut dice, t, all * (1.0 - w), false)
            };
            let canary = ArmPoll {
                cpu: mean_at(&cpu.canary, k) * day(t) * self.cpu_times,
                memory: mean_at(&memory.canary, k) * self.memory_times,
                floor: mean_at(&floor.canary, k) * self.memory_times,
                ..self.arm(&mut dice, t, all * w, true)
            };
            PerArm { baseline, canary }
        });
        let polls = polls.collect();
        Run { history, polls }
    }

    /// Requests, errors and latencies of one arm in a poll; gauges are left at 1.
    fn arm(&self, dice: &mut Dice, t: usize, mean: f64, canary: bool) -> ArmPoll {
        let worse = canary && minute(t) >= self.onset_min - 1e-9;
        let times = |factor: f64| if worse { factor } else { 1.0 };
        let (mut p, mut stretch) = (self.error_rate * times(self.errors_times), times(self.latency_times));
        if let Some((from, to, errors, latency)) = self.incident
            && (from..to).contains(&minute(t))
        {
            (p, stretch) = (p * errors, stretch * latency);
        }
        if worse && self.outage {
            p = 1.0;
        }
        let requests = dice.poisson(mean);
        let errors = if self.clump > 1.0 { dice.clumps(requests, p, self.clump) } else { dice.binomial(requests, p.min(1.0)) };
        let cells = self.latency_cells(dice, stretch);
        let buckets = dice.multinomial(requests, &cells).try_into().expect("one count per bucket");
        ArmPoll { requests, errors, buckets, cpu: 1.0, memory: 1.0, floor: 1.0 }
    }

    fn latency_cells(&self, dice: &mut Dice, stretch: f64) -> [f64; BUCKETS] {
        let mut cdf = latency_cdf(stretch);
        if let Some((chance, part, slower)) = self.blips
            && dice.chance(chance)
        {
            let slow = latency_cdf(stretch * slower);
            cdf.iter_mut().zip(slow).for_each(|(f, s)| *f += part * (s - *f));
        }
        std::array::from_fn(|i| if i == 0 { cdf[0] } else { (cdf[i] - cdf[i - 1]).max(0.0) })
    }
}

/// Minutes from the rollout's start to the start of a poll counted from the history's first.
fn minute(t: usize) -> f64 {
    (t as f64 - POLLS as f64) * POLL_MIN
}

fn cumulative(buckets: &[u64; BUCKETS]) -> Buckets {
    let mut sum = 0.0;
    buckets
        .iter()
        .map(|n| {
            sum += *n as f64;
            sum
        })
        .collect()
}
