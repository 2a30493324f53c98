//! What the source and the router answer to one rule right now; nothing is moved, nothing is kept.

use crate::app;
use crate::config::Settings;
use crate::model::{Arm, History, PerArm, Rule, Side, Weight};
use crate::router::Means;
use crate::runtime::{self, parts};
use crate::source::{Packs, SetUp, Source, SourceError, Subscription};
use kube::Client;
use std::time::Duration;

/// Ticks that are looked at to count requests, after the first, which only notes raw values.
const TICKS_LOOKED_AT: u32 = 2;

/// What the world answers to one rule.
#[derive(Default)]
pub(super) struct Live {
    /// What is asked.
    pub(super) queries: Vec<String>,
    pub(super) scrape_interval: Option<Duration>,
    /// Length of a tick; zero if the source could not be looked at.
    pub(super) interval: Duration,
    pub(super) settle: Duration,
    /// Requests of each arm.
    pub(super) per_minute: PerArm<Option<f64>>,
    /// Sentences for the operator.
    pub(super) notes: Vec<String>,
    /// The source answers, and does not take what the rule asks: no rollout could begin.
    pub(super) refused: bool,
    /// Bounds of the latency buckets, ms.
    pub(super) bounds_ms: Vec<f64>,
    /// The baseline's past, if it could be read.
    pub(super) history: Option<History>,
    /// Ready pods of each arm, as last seen.
    pub(super) pods: PerArm<Option<u32>>,
}

impl Live {
    /// Requests of both arms together, if any were seen.
    pub(super) fn total_per_minute(&self) -> Option<f64> {
        let total = self.per_minute.baseline.unwrap_or(0.0) + self.per_minute.canary.unwrap_or(0.0);
        (total > 0.0).then_some(total)
    }
}

/// Asks the router and the source of a rule; takes a few ticks.
pub(super) async fn look(settings: &Settings, packs: &Packs, rule: &Rule) -> Live {
    crate::tls::install();
    let mut live = Live::default();
    let cluster = cluster(settings, &mut live).await;
    let canary = traffic(cluster.clone(), rule, &mut live).await;
    if let Some(client) = cluster {
        super::workloads::look(&client, (rule, canary), settings.cluster.resources.is_some(), &mut live.notes).await;
    }
    match app::source(settings, packs, rule, None) {
        Ok(source) => numbers(source, settings.time_scale, (rule, canary), &mut live).await,
        Err(why) => live.notes.push(why),
    }
    live
}

async fn cluster(settings: &Settings, live: &mut Live) -> Option<Client> {
    let connected = app::cluster(settings).await;
    connected.unwrap_or_else(|e| {
        live.notes.push(format!("cluster: {e}"));
        None
    })
}

/// Asks the router who carries the traffic, and whether it can represent every step.
async fn traffic(cluster: Option<Client>, rule: &Rule, live: &mut Live) -> Side {
    let router = match crate::router::open(&rule.traffic, &Means { cluster, ..Means::default() }) {
        Ok(router) => router,
        Err(e) => {
            live.notes.push(format!("traffic: {e}"));
            return Side::Second;
        }
    };
    let finest = router.granularity_permille().max(1);
    for step in rule.steps.iter().filter(|s| s.weight.permille() % finest != 0) {
        live.notes.push(format!(
            "traffic: {} moves in steps of {}.{}%, and a step asks for {}",
            router.name(),
            finest / 10,
            finest % 10,
            step.weight
        ));
    }
    let weights: Vec<Weight> = rule.steps.iter().map(|step| step.weight).collect();
    // what cannot be read is said below
    let foretold = router.foretell(&weights).await.unwrap_or_default();
    live.notes.extend(foretold.into_iter().map(|said| format!("traffic: {said}")));
    match router.read(Side::Second).await {
        Ok(reading) => {
            let name = rule.workloads.name(Side::Second);
            live.notes.push(format!("traffic: {name} carries {} now", reading.weight));
            if reading.weight.is_full() { Side::First } else { Side::Second }
        }
        Err(e) => {
            live.notes.push(format!("traffic: {e}"));
            Side::Second
        }
    }
}

async fn numbers(mut source: Box<dyn Source>, scale: f64, (rule, canary): (&Rule, Side), live: &mut Live) {
    let wanted = parts::subscription(rule, canary, 1, scale);
    let set_up = match source.set_up(&wanted, runtime::now()).await {
        Ok(set_up) => set_up,
        Err(e) => {
            live.refused = !matches!(e, SourceError::Down { .. });
            return live.notes.push(format!("source: {e}"));
        }
    };
    live.interval = parts::interval(rule, set_up.scrape_interval);
    live.scrape_interval = set_up.scrape_interval;
    live.queries = set_up.queries.clone();
    past(&mut *source, scale, (&wanted, &set_up), live).await;
    live.notes.extend(set_up.warnings);
    live.bounds_ms = set_up.bounds_ms.clone();
    source.subscribe(wanted, set_up.bounds_ms);
    count(&mut *source, live).await;
    live.settle = source.settle();
}

/// The history a rollout would start with.
async fn past(source: &mut dyn Source, scale: f64, (wanted, set_up): (&Subscription, &SetUp), live: &mut Live) {
    let length = Duration::from_secs_f64(parts::method(scale).history_s);
    let end = runtime::now().floor_to(live.interval);
    match source.history(wanted, end, length, live.interval, &set_up.bounds_ms).await {
        Ok(history) => live.history = Some(history),
        Err(e) => live.notes.push(format!("no history could be read ({e})")),
    }
}

/// Requests per minute of each arm over the next ticks.
async fn count(source: &mut dyn Source, live: &mut Live) {
    let mut at = runtime::now().floor_to(live.interval);
    let mut seen = PerArm::from_fn(|_: Arm| None::<f64>);
    for tick in 0..=TICKS_LOOKED_AT {
        at = at + live.interval;
        tokio::time::sleep((at + source.settle()).since(runtime::now())).await;
        let Some(sample) = source.tick(at).await.into_iter().next() else { continue };
        for arm in Arm::BOTH {
            live.pods[arm] = sample.arms[arm].pods.or(live.pods[arm]);
            match sample.arms[arm].requests {
                Ok(counts) if tick > 0 => seen[arm] = Some(seen[arm].unwrap_or(0.0) + counts.total),
                Ok(_) => {}
                Err(_) if tick == TICKS_LOOKED_AT && !sample.detail.is_empty() => {
                    live.notes.push(format!("{}: {}", arm.name(), sample.detail))
                }
                Err(why) if tick == TICKS_LOOKED_AT => live.notes.push(format!("{}: nothing was seen ({})", arm.name(), why.name())),
                Err(_) => {}
            }
        }
    }
    let minutes = live.interval.as_secs_f64() * f64::from(TICKS_LOOKED_AT) / 60.0;
    live.per_minute = seen.map(|n| n.map(|n| n / minutes));
}
