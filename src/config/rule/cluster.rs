//! What only a cluster can carry out: keys that read or change workloads in it, and routers that are objects of it. Each says so
//! where it is read ([`Out::in_cluster`]); here it is held against the workloads, and against the other keys.

use super::{Fields, Out, word};
use crate::config::report::Problem;
use crate::config::walk::{At, Place};
use crate::model::rule::{AfterRollback, NotRun, Promotion, Replicas, Step, Target, Traffic, WorkloadForm, Workloads};

pub(super) const REPLICAS: &[(&str, Replicas)] = &[("external", Replicas::External), ("follow", Replicas::Follow)];
pub(super) const AFTER_ROLLBACK: &[(&str, AfterRollback)] =
    &[("leave", AfterRollback::Leave), ("undo", AfterRollback::Undo), ("scale-down", AfterRollback::ScaleDown)];
/// Longest name of a Deployment.
const NAME_MAX: usize = 253;
const NAMED: &str = "name its deployment: and its namespace: under workloads";

/// A part that only a cluster can carry out.
pub(super) struct Need {
    place: Place,
    path: String,
    /// What it is, as the subject of a sentence.
    what: String,
    /// What to write where there is no cluster.
    otherwise: &'static str,
    /// It reads or changes the workloads' Deployments; else another object, which it names itself.
    deployments: bool,
}

impl Out<'_> {
    /// Notes a part that needs a cluster with a Deployment for each workload.
    pub(super) fn in_cluster(&mut self, at: &At<'_>, what: &str, otherwise: &'static str) {
        self.need(at, what.to_owned(), otherwise, true);
    }

    /// Notes a router whose object is in a cluster.
    pub(super) fn routed_in_cluster(&mut self, at: &At<'_>, router: &str) {
        self.need(at, format!("router {router}"), "name what moves the traffic outside of one, or write traffic: none", false);
    }

    fn need(&mut self, at: &At<'_>, what: String, otherwise: &'static str, deployments: bool) {
        self.needs.push(Need { place: at.node.place.clone(), path: at.path.clone(), what, otherwise, deployments });
    }
}

pub(super) fn replicas(fields: &Fields<'_>, out: &mut Out<'_>) -> Replicas {
    let replicas = word(fields, "replicas", REPLICAS, out).unwrap_or_default();
    if let Some(at) = fields.get("replicas").filter(|_| replicas == Replicas::Follow) {
        out.in_cluster(&at, "replicas: follow", "leave it out: capacity is yours to keep");
    }
    replicas
}

pub(super) fn after_rollback(fields: &Fields<'_>, out: &mut Out<'_>) -> AfterRollback {
    let after = word(fields, "after-rollback", AFTER_ROLLBACK, out).unwrap_or_default();
    if let Some(at) = fields.get("after-rollback").filter(|_| after != AfterRollback::Leave) {
        out.in_cluster(&at, &format!("after-rollback: {}", at.scalar()), "leave it out: the canary stays as it is, without traffic");
    }
    after
}

/// Holds every part that needs a cluster against there being one, and against how the workloads are named.
pub(super) fn check(fields: &Fields<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) {
    let needs = std::mem::take(&mut out.needs);
    let of_deployments: Vec<&Need> = needs.iter().filter(|need| need.deployments).collect();
    if let (Some(workloads), false) = (workloads, of_deployments.is_empty()) {
        deployments(fields, workloads, &of_deployments, out);
    }
    // whatever an object names is looked for in the cluster
    if let (Some(workloads), true) = (workloads, out.namespace.is_some() || !of_deployments.is_empty()) {
        names(fields, workloads, out);
    }
    if !out.known.cluster {
        out.not_run.extend(needs.iter().map(Need::without));
    }
}

impl Need {
    /// What `run` says where there is no cluster.
    fn without(&self) -> NotRun {
        let Self { what, otherwise, .. } = self;
        let settings =
            "name one in the settings (cluster: { kubeconfig: ... }), or run as a pod of it that has its service account's token";
        let why = format!("there is no cluster, and {what} needs one: {settings}; else {otherwise}");
        NotRun { path: self.path.clone(), line: self.place.line, why }
    }

    fn wrong(&self, what: String, way_out: String) -> Problem {
        Problem { file: self.place.file.to_string(), line: self.place.line, path: self.path.clone(), what, way_out }
    }
}

/// Each workload must be a Deployment of its own whose name can be asked for.
fn deployments(fields: &Fields<'_>, workloads: &Workloads, needs: &[&Need], out: &mut Out<'_>) {
    let [first, second] = &workloads.sides;
    let named = |target: &Target| ["deployment", "namespace"].iter().all(|field| target.fields.contains_key(*field));
    if !(named(first) && named(second)) {
        let unnamed = |need: &&Need| {
            need.wrong(format!("{} needs the Deployment of each workload", need.what), format!("{NAMED}, or {}", need.otherwise))
        };
        return out.report.problems.extend(needs.iter().map(unnamed));
    }
    let Some(at) = fields.get("workloads") else { return };
    let same = |field: &str| first.fields.get(field) == second.fields.get(field);
    if workloads.form != WorkloadForm::One && same("deployment") && same("namespace") {
        let what = format!("both are Deployment {}", said(first));
        at.wrong(&mut out.report, what, "name two Deployments, or one: { deployment: ... } for a rolling update");
    }
}

/// `namespace/deployment`.
fn said(target: &Target) -> String {
    let field = |name: &str| target.fields.get(name).map_or("?", String::as_str);
    format!("{}/{}", field("namespace"), field("deployment"))
}

/// They become parts of addresses: `../../other/deployments/web` would be another's.
fn names(fields: &Fields<'_>, workloads: &Workloads, out: &mut Out<'_>) {
    let Some(at) = fields.get("workloads") else { return };
    for target in if workloads.form == WorkloadForm::One { &workloads.sides[..1] } else { &workloads.sides[..] } {
        for (field, most) in [("deployment", NAME_MAX), ("namespace", 63)] {
            let Some(text) = target.fields.get(field) else { continue };
            if !super::is_name(text, most) {
                at.wrong(&mut out.report, format_args!("{text:?} is no name of a {field}"), super::name_way_out(most));
            }
        }
    }
}

/// What a rule asks for that may not go together.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub workloads: Option<&'a Workloads>,
    pub traffic: Option<&'a Traffic>,
    pub steps: Option<&'a [Step]>,
    pub promotion: Option<Promotion>,
    pub replicas: Replicas,
    pub after_rollback: AfterRollback,
}

/// One thing that does not go with another: where, what, and the way out.
type Clash = (&'static str, &'static str, &'static str);

/// Tells all of them.
pub(super) fn check_together(fields: &Fields<'_>, asked: &Asked<'_>, out: &mut Out<'_>) {
    let says_after = fields.get("after-rollback").is_some();
    let clashes =
        [of_one(asked), of_rolling_update(asked, says_after), of_form(asked), of_shares_by_replicas(asked), of_telling_only(asked)];
    for (key, what, way_out) in clashes.into_iter().flatten() {
        if let Some(at) = fields.get(key).or_else(|| fields.get("workloads")) {
            at.wrong(&mut out.report, what, way_out);
        }
    }
}

impl Asked<'_> {
    fn form(&self) -> Option<WorkloadForm> {
        self.workloads.map(|workloads| workloads.form)
    }

    pub(super) fn leads(&self) -> bool {
        self.traffic.is_some_and(Traffic::leads_rolling_update)
    }

    fn scales_the_old(&self) -> bool {
        matches!(self.promotion, Some(Promotion::Swap { idle: Some(_), .. }))
    }
}

/// One Deployment: its old pods make room for its new ones.
fn of_one(asked: &Asked<'_>) -> Vec<Clash> {
    if asked.form() != Some(WorkloadForm::One) {
        return Vec::new();
    }
    let mut clashes = Vec::new();
    if asked.promotion.is_some_and(|promotion| promotion != Promotion::Leave) {
        clashes.push(("promotion", "one Deployment has nothing to promote: its rolling update ends by itself", "leave promotion out"));
    }
    if asked.replicas == Replicas::Follow {
        clashes.push(("replicas", "a rolling update keeps the replicas itself", "leave replicas out"));
    }
    if asked.after_rollback == AfterRollback::ScaleDown && !asked.leads() {
        clashes.push(("after-rollback", "would scale down what carries the traffic", "write after-rollback: undo"));
    }
    if asked.traffic.is_some_and(|traffic| *traffic != Traffic::None) && !asked.leads() {
        let way_out = "write traffic: rolling-update, or none to tell only, or name two workloads with pair";
        clashes.push(("traffic", "one Deployment has no two workloads to weigh", way_out));
    }
    clashes
}

/// Where canaryd leads the rolling update, weight 0 is its undoing.
fn of_rolling_update(asked: &Asked<'_>, says_after: bool) -> Vec<Clash> {
    if !asked.leads() {
        return Vec::new();
    }
    let mut clashes = Vec::new();
    if says_after && asked.after_rollback != AfterRollback::Undo {
        clashes.push(("after-rollback", "the traffic of a rolling update is taken back by undoing it", "leave after-rollback out"));
    }
    if asked.steps.is_some_and(|steps| steps.iter().any(|step| step.weight.is_zero())) {
        clashes.push(("steps", "a step of 0% would undo the rolling update", "begin with a weight above 0%"));
    }
    clashes
}

/// A pair takes turns, stable and canary do not.
fn of_form(asked: &Asked<'_>) -> Vec<Clash> {
    match (asked.form(), asked.promotion) {
        (Some(WorkloadForm::Pair), Some(Promotion::Copy)) => {
            vec![("promotion", "a pair takes turns, nothing is copied", "write promotion: swap, or name the workloads stable: and canary:")]
        }
        (Some(WorkloadForm::StableCanary), _) if asked.scales_the_old() => {
            vec![("promotion", "idle-replicas would scale what is always stable", "name the workloads as a pair, or leave it out")]
        }
        _ => Vec::new(),
    }
}

/// Where the share is made of replicas nobody else may count them.
fn of_shares_by_replicas(asked: &Asked<'_>) -> Vec<Clash> {
    let by_replicas =
        asked.traffic.is_some_and(|traffic| traffic.is_of_replicas() || matches!(traffic, Traffic::Other(word) if word == "replicas"));
    if !by_replicas {
        return Vec::new();
    }
    let mut clashes = Vec::new();
    if asked.replicas == Replicas::Follow {
        clashes.push(("replicas", "the share of the traffic is made of replicas", "leave replicas out"));
    }
    if asked.promotion == Some(Promotion::Copy) {
        clashes.push(("promotion", "replicas of stable would take traffic before all of them are ready", "write promotion: swap"));
    }
    if asked.scales_the_old() {
        clashes.push(("promotion", "idle replicas would take traffic", "leave idle-replicas out"));
    }
    clashes
}

/// Nothing is touched where canaryd only tells.
fn of_telling_only(asked: &Asked<'_>) -> Vec<Clash> {
    if asked.traffic != Some(&Traffic::None) {
        return Vec::new();
    }
    let way_out = "leave it out, or name what moves the traffic";
    let mut clashes = Vec::new();
    if asked.replicas == Replicas::Follow {
        clashes.push(("replicas", "traffic: none only tells, and scales nothing", way_out));
    }
    // a rolling update has no router, and its undo is what takes the traffic back
    if asked.after_rollback != AfterRollback::Leave && asked.form() != Some(WorkloadForm::One) {
        clashes.push(("after-rollback", "traffic: none only tells, and undoes nothing", way_out));
    }
    if asked.promotion == Some(Promotion::Copy) {
        clashes.push(("promotion", "traffic: none only tells, and copies nothing", "write promotion: external or leave"));
    }
    if asked.scales_the_old() {
        clashes.push(("promotion", "traffic: none only tells, and scales nothing", "leave idle-replicas out"));
    }
    clashes
}
