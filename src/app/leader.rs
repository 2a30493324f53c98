//! One of several processes acts, and a Lease of the cluster says which, and where. The others stand by: they pass on what they are
//! asked, open no journal and read nothing.
//!
//! A holder that loses the lease has until others may take it to become still: it stops as it does on SIGTERM, for [`STOP_MAX`], and
//! ends with [`LEASE_LOST`]. A thread of its own, which nothing in the daemon can delay, ends the process if that did not happen.
//! A process that was stopped whole, by a signal or with its container, and goes on later asks its lease before each write ([`Fence`]),
//! and by a clock that ran on: it writes nothing. What is left to chance is a machine whose clock was stopped with it: its writes meet a
//! newer generation and are refused.

use super::cluster;
use crate::api;
use crate::cluster::lease::{Candidate, Fence, Held, LASTS, Lost, RENEW_WITHIN};
use crate::config::Settings;
use crate::config::settings::LeaderElection;
use crate::telemetry::{Metrics, events};
use anyhow::Context;
use arc_swap::ArcSwap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Exit code of a daemon that lost its lease.
pub const LEASE_LOST: u8 = 4;
/// Longest a holder that lost its lease may take to stop.
pub(super) const STOP_MAX: Duration = Duration::from_secs(3);
/// So long after its last renewal the process is ended, whatever it does.
const STILL_AFTER: Duration = Duration::from_millis(13_500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

const _: () =
    assert!(RENEW_WITHIN.as_millis() + STOP_MAX.as_millis() < STILL_AFTER.as_millis() && STILL_AFTER.as_millis() < LASTS.as_millis());

/// The lease is lost: this process may not act any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}: this daemon stops, and stands by when it is started again")]
pub struct LeaseLost(Arc<Lost>);

/// The right to act.
pub(super) struct Seat(Option<Kept>);

/// A lease that is being renewed.
struct Kept {
    fence: Arc<Fence>,
    lost: watch::Receiver<Option<LeaseLost>>,
    leave: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Seat {
    /// The right to act: at once where no lease is asked for, else when it is ours.
    ///
    /// # Errors
    /// There is no cluster to have a lease in, or the address cannot be listened on.
    pub(super) async fn take(settings: &Settings) -> anyhow::Result<Self> {
        let Some(wanted) = &settings.cluster.leader_election else { return Ok(Self(None)) };
        crate::tls::install();
        let candidate = candidate(settings, wanted).await.context("leader election")?;
        let held = stand_by(settings, candidate).await?;
        Ok(Self(Some(Kept::begin(held).context("leader election")?)))
    }

    /// What is to be asked before each write, where there is a lease.
    pub(super) fn fence(&self) -> Option<Arc<Fence>> {
        self.0.as_ref().map(|kept| Arc::clone(&kept.fence))
    }

    /// Ends when it is lost; never, where there is no lease.
    pub(super) async fn lost(&self) -> LeaseLost {
        let Some(kept) = &self.0 else { return std::future::pending().await };
        let mut lost = kept.lost.clone();
        let found = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        match found {
            Some(lost) => lost,
            // the keeper ends without a word only when the seat is left
            None => std::future::pending().await,
        }
    }

    /// What comes of this work, unless the lease is lost first.
    pub(super) async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        tokio::select! {
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Gives the right to whoever waits for it. Nothing may act any more.
    pub(super) async fn leave(self) {
        if let Some(Kept { leave, keeper, .. }) = self.0 {
            // a keeper that has lost it is gone
            let _ = leave.send(());
            let _ = keeper.await;
        }
    }
}

impl Kept {
    fn begin(mut held: Held) -> std::io::Result<Self> {
        let (tell, lost) = watch::channel(None);
        let (leave, left) = oneshot::channel();
        let over = Arc::new(AtomicBool::new(false));
        let (fence, closing) = (held.fence(), held.fence());
        watchdog(Arc::clone(&fence), Arc::clone(&over))?;
        let keeper = tokio::spawn(async move {
            tokio::select! {
                why = held.keep() => {
                    closing.close();
                    events::LeaseLost { why: &why.to_string() }.emit();
                    drop(tell.send(Some(LeaseLost(Arc::new(why)))));
                }
                _ = left => {
                    over.store(true, Ordering::Release);
                    held.release().await;
                }
            }
        });
        Ok(Self { fence, lost, leave, keeper })
    }
}

/// Ends the process when the lease was not renewed for so long that others may soon act. A thread, because what hangs may be the
/// threads that everything else runs on.
fn watchdog(fence: Arc<Fence>, over: Arc<AtomicBool>) -> std::io::Result<()> {
    let watch = move || {
        while !over.load(Ordering::Acquire) {
            if fence.age() > STILL_AFTER {
                events::StoppedEarly { what: "the end of a daemon that lost its lease" }.emit();
                std::process::exit(LEASE_LOST.into());
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("lease".to_owned()).spawn(watch).map(drop)
}

async fn candidate(settings: &Settings, wanted: &LeaderElection) -> anyhow::Result<Candidate> {
    let client = cluster(settings).await?;
    let client = client.context("there is no cluster to have a lease in: write cluster: { kubeconfig: ... }, or leave it out")?;
    let namespace = wanted.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    Ok(Candidate::new(client, &namespace, &wanted.lease, &identity(), address(settings.listen)))
}

/// Where other pods reach this one, if it was told.
fn address(listen: SocketAddr) -> Option<SocketAddr> {
    let ip: IpAddr = std::env::var("POD_IP").ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, listen.port()))
}

/// The pod's name, which no other process has while it lives; elsewhere the machine's and a random number.
fn identity() -> String {
    let told = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let random =
        || format!("{}_{:016x}", told("HOSTNAME").or_else(host).unwrap_or_else(|| "canaryd".to_owned()), RandomState::new().hash_one(()));
    told("POD_NAME").unwrap_or_else(random)
}

/// Answers as a standby until the lease is ours.
async fn stand_by(settings: &Settings, candidate: Candidate) -> anyhow::Result<Held> {
    let listener = TcpListener::bind(settings.listen).await.with_context(|| format!("listening on {}", settings.listen))?;
    let what = candidate.what();
    let begin = api::Standing { why: format!("it waits for {what}"), leader: None };
    let turn: api::Turn = Arc::new(ArcSwap::from_pointee(begin));
    let ready = CancellationToken::new();
    let page = tokio::spawn(api::stand_by(listener, Arc::clone(&turn), Metrics::new(), ready.clone()));
    let told = |news: &str, leader: Option<SocketAddr>| {
        events::StandsBy { lease: &what, news }.emit();
        turn.store(Arc::new(api::Standing { why: format!("{what} is not ours: {news}"), leader }));
    };
    let held = candidate.win(told).await;
    events::LeaseTaken { lease: &what, epoch: held.epoch() }.emit();
    ready.cancel();
    // the daemon listens there next
    let _ = page.await;
    Ok(held)
}
