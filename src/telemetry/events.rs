//! One type per thing that happens. Each has one method, `emit`, which writes the log line and moves the metrics: neither can
//! be forgotten, and a reader of the code sees an event, not two calls. Emitting never fails, never waits on I/O.

mod cluster;
mod daemon;
mod lease;
mod notify;
mod resources;
mod rollout;
mod traffic;

pub use cluster::{WatchBegan, WatchBroke, WatchChanged, WatchDropped, WatchMended};
pub use daemon::{
    DecisionsDiffer, EvidenceLost, LimitMoved, NotRecovered, Pruned, ReleaseNoted, ReleaseRenamed, ReleaseSeen, ReloadRefused, Reloaded,
    StoppedEarly, StoreAppended, StoreFailed, TicksSkipped, WorkloadIdled,
};
pub use lease::{LeaseLost, LeaseTaken, StandsBy};
pub use notify::{AlertsExpired, AlertsReceived, ReceiverFailure, ReceiverMissed, ReceiverTold};
pub use resources::{NotShown, ObjectRefused, RuleMisses, RulesNotWatched, ShownInCluster};
pub use rollout::{Decided, HookCalled, Notice, NoticeLost, RolloutOpened, RuleGone, WeightSeen};
pub use traffic::{
    ConnectionClosed, ConnectionOpened, EffectEnded, HeldStill, MailRefused, MutationAsked, PollLeftOut, PushRefused, QueryEnded,
    QueueLength, RequestServed, RouteUnwatched, TickBlind, Ticked,
};
