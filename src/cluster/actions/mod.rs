//! What is done to workloads, one file per action: each reads what is there, writes what is missing, and says whether it is so
//! now. Level-triggered: doing it twice is doing it once, and what takes longer (pods that become ready) is asked for again.
//!
//! What is written is one JSON Patch that tests the object's uid and version and replaces only what the action is about, as field
//! manager `canaryd`. A Deployment's template is moved as plain JSON: no field of a newer cluster is lost.
//!
//! Reading order: this file, `change.rs`, `undo.rs`, `copy.rs`.

mod autoscaler;
mod change;
mod copy;
mod deployment;
mod idle;
mod labels;
mod replicas;
mod undo;

pub(super) use autoscaler::raised_from;
pub use idle::{Idled, idle_due};

use crate::apiserver::{CallError, Object, Resource};
use crate::model::rule::{Target, WorkloadForm, Workloads};
use crate::model::{Noted, Outcome, Retry, RolloutId, Side, WorkloadAction};
use kube::Client;
use std::time::Duration;

/// Longest one action may take before it is asked for again.
const ACT_MAX: Duration = Duration::from_secs(30);
/// Wait that is proposed where the API server did not answer, or others have to do something first.
const AGAIN: Duration = Duration::from_secs(1);

/// One action on a workload of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The rule's.
    pub workloads: &'a Workloads,
    /// Which of them is on trial.
    pub canary: Side,
    /// What was found when the rollout was prepared.
    pub noted: &'a Noted,
    /// What shall be so.
    pub action: WorkloadAction,
    /// Whose it is.
    pub rollout: &'a RolloutId,
}

/// Makes it so. Bounded in time: what is not so yet is `Failed` with `Retry::After`, and goes on where it was when it is asked
/// for again. `Retry::Never`: a person has to do something, which the text says.
pub async fn act(client: &Client, job: &Job<'_>) -> Outcome {
    let done = match tokio::time::timeout(ACT_MAX, job.carry_out(client)).await {
        Ok(done) => done,
        Err(_) => Err(Stop::again(format!("not done within {} s", ACT_MAX.as_secs()))),
    };
    match done {
        Ok(()) => Outcome::Done,
        Err(Stop { text, retry }) => Outcome::Failed { text: format!("{}: {text}", job.action.name()), retry },
    }
}

/// Identity of the canary's template, where it is the one from before the release: after an undo it is no release, whatever fields the
/// API server has filled in. `None`: another one is there, or none from before is known.
///
/// # Errors
/// Why that cannot be told now.
pub async fn given_back(client: &Client, job: &Job<'_>) -> Result<Option<String>, String> {
    let asked = async { undo::given_back(&job.deployment(client, job.canary)?, job.noted).await };
    asked.await.map_err(|Stop { text, .. }| text)
}

impl Job<'_> {
    async fn carry_out(&self, client: &Client) -> Result<(), Stop> {
        let baseline = self.canary.other();
        match self.action {
            WorkloadAction::Copy => copy::copy(client, self).await,
            WorkloadAction::Undo => undo::undo(&self.deployment(client, self.canary)?, self.noted).await,
            WorkloadAction::ScaleCanaryDown => {
                self.two("scaling the only one to 0 would end the service")?;
                replicas::none(client, self.place(self.canary)?, self.noted).await
            }
            WorkloadAction::RestoreBaseline => replicas::at_least(client, self.place(baseline)?, self.noted.baseline_ready).await.map(drop),
            WorkloadAction::HoldBaseline => autoscaler::hold(client, self.place(baseline)?, self.noted.baseline_ready).await,
            WorkloadAction::ReleaseScalers => {
                autoscaler::release(client, self.place(self.canary)?).await?;
                autoscaler::release(client, self.place(baseline)?).await
            }
            WorkloadAction::ScaleCanary { replicas } => {
                autoscaler::raise(client, self.place(self.canary)?, replicas).await?;
                replicas::at_least(client, self.place(self.canary)?, replicas).await.map(drop)
            }
            WorkloadAction::IdleBaseline { replicas, after } => {
                self.two("it carries all the traffic")?;
                idle::note(&self.deployment(client, baseline)?, self.rollout, replicas, after).await
            }
        }
    }

    fn place(&self, side: Side) -> Result<Place<'_>, Stop> {
        Place::of(self.workloads.side(side))
    }

    fn deployment(&self, client: &Client, side: Side) -> Result<Object, Stop> {
        self.place(side).map(|place| place.deployment(client))
    }

    /// The two workloads must be two.
    fn two(&self, why: &str) -> Result<(), Stop> {
        match self.workloads.form {
            WorkloadForm::One => Err(Stop::never(format!("both versions are of one Deployment: {why}"))),
            WorkloadForm::Pair | WorkloadForm::StableCanary => Ok(()),
        }
    }
}

/// Where a workload is.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    namespace: &'a str,
    deployment: &'a str,
}

impl<'a> Place<'a> {
    fn of(target: &'a Target) -> Result<Self, Stop> {
        let field = |key: &str| target.fields.get(key).map(String::as_str);
        match (field("namespace"), field("deployment")) {
            (Some(namespace), Some(deployment)) => Ok(Self { namespace, deployment }),
            _ => Err(Stop::never(format!(
                "the rule does not say which Deployment {} is: give the workload a namespace and a deployment",
                target.name()
            ))),
        }
    }

    fn deployment(self, client: &Client) -> Object {
        Object::new(client.clone(), Resource::DEPLOYMENT, self.namespace, self.deployment)
    }

    fn scale(self, client: &Client) -> Object {
        Object::scale_of_deployment(client.clone(), self.namespace, self.deployment)
    }
}

/// Why an action is not done.
#[derive(Debug)]
struct Stop {
    text: String,
    retry: Retry,
}

impl Stop {
    /// A person must do something.
    fn never(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry: Retry::Never }
    }

    /// It may be so soon.
    fn again(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry: Retry::After(AGAIN) }
    }

    /// A call brought nothing.
    fn call(object: &Object, error: CallError) -> Self {
        Self::new(&object.what(), error)
    }

    fn new(what: &str, error: CallError) -> Self {
        let text = format!("{what}: {error}");
        match error {
            CallError::Unreachable(_) => Self::again(text),
            CallError::Missing(_) | CallError::Denied(_) | CallError::Refused(_) | CallError::Conflict(_) => Self::never(text),
        }
    }
}
