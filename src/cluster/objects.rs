//! What is kept of the API server's objects: the few fields that are looked at, read straight from their JSON. Lenient, for a field
//! of another cluster's version must not end a watch.

use super::template;
use crate::apiserver::identity;
use crate::model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// Longest text of somebody else that is kept, in characters.
const TEXT_MAX: usize = 160;
/// Why a container waits when an image or a configuration does not come (kubelet's words).
const IMAGE_PULLS: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
];
/// When a Ready condition turned false so long after its pod began, it had been true before.
const NEVER_READY_MS: i64 = 10_000;

/// The reason of the condition `Progressing` when a Deployment's `progressDeadlineSeconds` have passed.
const DEADLINE: &str = "ProgressDeadlineExceeded";

/// A Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawWorkload")]
pub(super) struct Deployment {
    pub(super) name: String,
    pub(super) uid: String,
    /// Rises whenever somebody writes its specification, and only then.
    pub(super) generation: i64,
    /// Replicas asked for.
    pub(super) wanted: u32,
    /// Those of them that the controller has made from the present template.
    pub(super) updated: u32,
    /// The controller has not seen the present specification yet.
    pub(super) behind: bool,
    /// What the controller says when the pods did not become ready in the time the Deployment gives them.
    pub(super) stalled: Option<String>,
    /// Why the controller makes no pods now: it is paused, or they are refused (a quota, an admission policy).
    pub(super) held: Option<String>,
    /// Identity of its template.
    pub(super) template: String,
    /// Identity of what its pods run.
    pub(super) program: String,
    /// The same for people.
    pub(super) version: String,
}

/// A ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawWorkload")]
pub(super) struct Set {
    pub(super) uid: String,
    /// The Deployment it belongs to.
    pub(super) owner: Option<Owner>,
    /// Replicas asked for.
    pub(super) wanted: u32,
    /// Identity of its template.
    pub(super) template: String,
    /// Which release of the Deployment it was, rising.
    pub(super) revision: u64,
}

/// What an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) uid: String,
}

/// A pod as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawPod")]
pub(super) struct PodNow {
    pub(super) name: String,
    pub(super) uid: String,
    /// The ReplicaSet it belongs to; empty = it belongs to none.
    pub(super) set: String,
    pub(super) ip: Option<String>,
    pub(super) created: Timestamp,
    /// It is on its way out, or has ended.
    pub(super) ending: bool,
    pub(super) ready: bool,
    /// A time at which it is known to have been ready.
    pub(super) was_ready: Option<Timestamp>,
    /// Not ready though every container runs: its probes say so.
    pub(super) probed_down: bool,
    /// Restarts of all its containers.
    pub(super) restarts: u32,
    /// When a container was last ended before it was restarted.
    pub(super) ended: Option<Timestamp>,
    /// When a container was last ended for want of memory.
    pub(super) oom: Option<Timestamp>,
    /// The container that waits in a crash loop, and the reason.
    pub(super) crash: Option<String>,
    /// The container that waits for an image or a configuration, and the reason.
    pub(super) image: Option<String>,
    /// Why it is not ready; empty if it is, or nobody says.
    pub(super) unready: String,
}

/// Failed probes of a pod, as the kubelet tells them: one event, counted up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawEvent")]
pub(super) struct Unhealthy {
    pub(super) uid: String,
    /// The pod's.
    pub(super) pod: String,
    /// So often until now.
    pub(super) count: u32,
    pub(super) first: Option<Timestamp>,
    /// A startup probe: it fails until the program is up.
    pub(super) startup: bool,
    pub(super) text: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta {
    name: String,
    uid: String,
    generation: i64,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    annotations: Option<RawAnnotations>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawAnnotations {
    #[serde(rename = "deployment.kubernetes.io/revision")]
    revision: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOwner {
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

impl RawMeta {
    /// The controller that made it, if it is of this kind.
    fn owner(&mut self, kind: &str) -> Option<Owner> {
        let owners = self.owner_references.take().unwrap_or_default();
        let owner = owners.into_iter().find(|o| o.controller == Some(true) && o.kind == kind)?;
        Some(Owner { name: owner.name, uid: owner.uid })
    }

    fn revision(&self) -> u64 {
        self.annotations.as_ref().and_then(|a| a.revision.as_ref()?.parse().ok()).unwrap_or(0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawWorkload {
    metadata: RawMeta,
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
struct RawSpec {
    replicas: Option<u32>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    template: Value,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    observed_generation: i64,
    updated_replicas: u32,
    conditions: Option<Vec<RawCondition>>,
}

impl RawStatus {
    /// Its progress deadline has passed.
    fn stalled(&self) -> Option<String> {
        let is = |c: &&RawCondition| c.kind == "Progressing" && c.status == "False" && c.reason.as_deref() == Some(DEADLINE);
        let found = self.conditions.iter().flatten().find(is)?;
        let said = found.message.as_deref().filter(|m| !m.is_empty()).map_or_else(String::new, |m| format!(": {m}"));
        Some(text(&format!("{DEADLINE}{said}")))
    }
}

impl RawStatus {
    /// Its pods are refused.
    fn refused(&self) -> Option<String> {
        let found = self.conditions.iter().flatten().find(|c| c.kind == "ReplicaFailure" && c.status == "True")?;
        Some(text(found.message.as_deref().filter(|m| !m.is_empty()).unwrap_or("its pods are refused")))
    }
}

impl From<RawWorkload> for Deployment {
    fn from(raw: RawWorkload) -> Self {
        let RawWorkload { metadata, spec, status } = raw;
        Self {
            held: status.refused().or_else(|| spec.paused.then(|| "the Deployment is paused".to_owned())),
            behind: status.observed_generation < metadata.generation,
            generation: metadata.generation,
            stalled: status.stalled().filter(|_| status.observed_generation >= metadata.generation),
            name: metadata.name,
            uid: metadata.uid,
            wanted: spec.replicas.unwrap_or(1),
            updated: status.updated_replicas,
            template: identity(&spec.template),
            program: template::program(&spec.template),
            version: template::version(&spec.template),
        }
    }
}

impl From<RawWorkload> for Set {
    fn from(mut raw: RawWorkload) -> Self {
        Self {
            owner: raw.metadata.owner("Deployment"),
            revision: raw.metadata.revision(),
            uid: raw.metadata.uid,
            wanted: raw.spec.replicas.unwrap_or(1),
            template: identity(&raw.spec.template),
        }
    }
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawMeta,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawPodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    start_time: Option<String>,
    conditions: Option<Vec<RawCondition>>,
    init_container_statuses: Option<Vec<RawContainer>>,
    container_statuses: Option<Vec<RawContainer>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    last_transition_time: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    name: String,
    ready: bool,
    started: Option<bool>,
    restart_count: u32,
    state: RawState,
    last_state: RawState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawState {
    waiting: Option<RawWaiting>,
    running: Option<RawRunning>,
    terminated: Option<RawTerminated>,
}

#[derive(Deserialize)]
struct RawRunning {}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawWaiting {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    reason: Option<String>,
    finished_at: Option<String>,
}

impl RawTerminated {
    fn at(&self) -> Option<Timestamp> {
        time(self.finished_at.as_deref())
    }
}

impl RawContainer {
    /// Every end of it that is still told.
    fn ends(&self) -> impl Iterator<Item = &RawTerminated> {
        self.state.terminated.iter().chain(&self.last_state.terminated)
    }

    /// `container app: CrashLoopBackOff: back-off 10s restarting failed container`, if it waits for such a reason.
    fn waits(&self, reasons: &[&str]) -> Option<String> {
        let waiting = self.state.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|r| reasons.contains(r))?;
        let said = waiting.message.as_deref().filter(|m| !m.is_empty()).map_or_else(String::new, |m| format!(": {m}"));
        Some(text(&format!("container {}: {reason}{said}", self.name)))
    }
}

impl From<RawPod> for PodNow {
    fn from(raw: RawPod) -> Self {
        let RawPod { mut metadata, status } = raw;
        let init = status.init_container_statuses.as_deref().unwrap_or_default();
        let main = status.container_statuses.as_deref().unwrap_or_default();
        let all = || init.iter().chain(main);
        let ready = status.condition("Ready").is_some_and(|c| c.status == "True");
        let oom = all().flat_map(RawContainer::ends).filter(|e| e.reason.as_deref() == Some("OOMKilled"));
        let created = time(metadata.creation_timestamp.as_deref()).unwrap_or_default();
        Self {
            set: metadata.owner("ReplicaSet").map(|o| o.uid).unwrap_or_default(),
            ending: metadata.deletion_timestamp.is_some() || matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            ready,
            was_ready: status.was_ready(),
            // a container that has not passed its startup probe is not asked whether it is ready
            probed_down: !ready
                && main.iter().any(|c| !c.ready)
                && main.iter().all(|c| c.ready || (c.state.running.is_some() && c.started != Some(false))),
            restarts: all().map(|c| c.restart_count).fold(0, u32::saturating_add),
            ended: all().filter_map(|c| c.last_state.terminated.as_ref()?.at()).max(),
            oom: oom.map(|e| e.at().unwrap_or(created)).max(),
            crash: all().find_map(|c| c.waits(&["CrashLoopBackOff"])),
            image: all().find_map(|c| c.waits(&IMAGE_PULLS)),
            unready: if ready { String::new() } else { status.unready() },
            name: metadata.name,
            uid: metadata.uid,
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            created,
        }
    }
}

impl RawPodStatus {
    fn condition(&self, kind: &str) -> Option<&RawCondition> {
        self.conditions.iter().flatten().find(|c| c.kind == kind)
    }

    /// Conditions tell only when they last changed. One that turned false well after the pod began had been true.
    fn was_ready(&self) -> Option<Timestamp> {
        let ready = self.condition("Ready")?;
        let at = time(ready.last_transition_time.as_deref())?;
        let began = time(self.start_time.as_deref());
        let had_been = began.is_some_and(|began| at.as_millis() - began.as_millis() >= NEVER_READY_MS);
        (ready.status == "True" || had_been).then_some(at)
    }

    fn unready(&self) -> String {
        let said = |kind: &str| self.condition(kind).filter(|c| c.status != "True")?.message.as_deref().filter(|m| !m.is_empty());
        text(said("PodScheduled").or_else(|| said("Ready")).unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
    metadata: RawMeta,
    #[serde(default)]
    involved_object: RawOwner,
    count: Option<u32>,
    series: Option<RawSeries>,
    first_timestamp: Option<String>,
    event_time: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct RawSeries {
    count: Option<u32>,
}

impl From<RawEvent> for Unhealthy {
    fn from(raw: RawEvent) -> Self {
        let said = raw.message.unwrap_or_default();
        Self {
            uid: raw.metadata.uid,
            pod: raw.involved_object.uid,
            count: raw.series.and_then(|s| s.count).or(raw.count).unwrap_or(0).max(1),
            first: time(raw.first_timestamp.as_deref()).or_else(|| time(raw.event_time.as_deref())),
            startup: said.starts_with("Startup"),
            text: text(&said),
        }
    }
}

/// As the API server writes times (RFC 3339).
fn time(text: Option<&str>) -> Option<Timestamp> {
    Some(Timestamp::from_millis(text?.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
}

/// One line, not too long.
fn text(said: &str) -> String {
    let mut short: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_MAX + 1).collect();
    if short.chars().count() > TEXT_MAX {
        short.pop();
        short.push('…');
    }
    short.retain(|c| !c.is_control());
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: Value) -> PodNow {
        let owners = json!([{"kind": "ReplicaSet", "name": "web-1", "uid": "set-1", "controller": true}]);
        let metadata = json!({"name": "web-1-x", "uid": "pod-1", "creationTimestamp": "2026-11-21T10:00:00Z", "ownerReferences": owners});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        time(Some(text)).unwrap()
    }

    #[test]
    fn a_deployment_has_given_up_when_it_says_so_of_what_it_is_now() {
        let of = |observed: u64, status: &str, reason: &str| {
            let said =
                json!({"type": "Progressing", "status": status, "reason": reason, "message": "ReplicaSet \"web-2\" has timed\n out"});
            let conditions = json!([{"type": "Available", "status": "False", "reason": "ProgressDeadlineExceeded"}, said]);
            let object = json!({"metadata": {"name": "web", "uid": "d", "generation": 3}, "spec": {"template": {}},
                "status": {"observedGeneration": observed, "conditions": conditions}});
            serde_json::from_value::<Deployment>(object).unwrap().stalled
        };
        let said = of(3, "False", "ProgressDeadlineExceeded");
        assert_eq!(said.as_deref(), Some("ProgressDeadlineExceeded: ReplicaSet \"web-2\" has timed out"));
        assert_eq!(of(2, "False", "ProgressDeadlineExceeded"), None, "of the release before");
        assert_eq!(of(3, "True", "NewReplicaSetAvailable"), None);
        assert_eq!(of(3, "False", "FailedCreate"), None, "that is tried again");
    }

    #[test]
    fn no_pods_are_made_of_what_is_paused_or_refused() {
        let of = |paused: bool, status: &str| {
            let refused = json!({"type": "ReplicaFailure", "status": status, "reason": "FailedCreate",
                "message": "pods \"web-\" is forbidden: exceeded quota: small"});
            let object = json!({"metadata": {"name": "web", "uid": "d", "generation": 3}, "spec": {"template": {}, "paused": paused},
                "status": {"observedGeneration": 3, "conditions": [refused]}});
            serde_json::from_value::<Deployment>(object).unwrap().held
        };
        assert_eq!(of(false, "False"), None);
        assert_eq!(of(true, "False").as_deref(), Some("the Deployment is paused"));
        assert_eq!(of(true, "True").as_deref(), Some("pods \"web-\" is forbidden: exceeded quota: small"));
    }

    #[test]
    fn a_pod_that_has_only_just_been_made_is_nothing_wrong() {
        let now = pod(json!({}));
        assert_eq!((now.set.as_str(), now.created), ("set-1", at("2026-11-21T10:00:00Z")));
        assert!(!now.ready && !now.ending && !now.probed_down && now.was_ready.is_none() && now.ip.is_none());
        assert_eq!((now.crash, now.image, now.oom, now.restarts), (None, None, None, 0));
    }

    #[test]
    fn a_crash_loop_names_its_container_and_adds_up_restarts() {
        let now = pod(json!({"phase": "Running",
            "initContainerStatuses": [{"name": "proxy", "restartCount": 1, "ready": true, "state": {"running": {}}}],
            "containerStatuses": [
                {"name": "app", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "finishedAt": "2026-11-21T10:05:00Z", "exitCode": 137}}}]}));
        assert_eq!(now.crash.as_deref(), Some("container app: CrashLoopBackOff: back-off 10s"));
        assert_eq!((now.restarts, now.oom, now.ended), (4, Some(at("2026-11-21T10:05:00Z")), Some(at("2026-11-21T10:05:00Z"))));
        assert!(!now.probed_down, "it does not run: no probe asks it");
    }

    #[test]
    fn an_image_or_a_configuration_that_does_not_come_is_told() {
        for reason in IMAGE_PULLS {
            let now = pod(json!({"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason}}}]}));
            assert_eq!(now.image, Some(format!("container app: {reason}")));
        }
        let starts = pod(json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]}));
        assert_eq!((starts.image, starts.crash), (None, None));
    }

    #[test]
    fn a_probe_is_told_from_a_gate_and_from_a_container_that_does_not_run() {
        let of = |ready: bool, started: Value, state: Value| {
            pod(json!({"conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "app", "ready": ready, "started": started, "state": state}]}))
            .probed_down
        };
        assert!(of(false, json!(true), json!({"running": {}})));
        assert!(!of(true, json!(true), json!({"running": {}})), "a readiness gate, or the node is lost");
        assert!(!of(false, json!(false), json!({"running": {}})), "it still starts");
        assert!(!of(false, json!(true), json!({"terminated": {"reason": "Error"}})));
    }

    #[test]
    fn a_pod_that_turned_unready_late_had_been_ready() {
        let of = |status: &str, when: &str| {
            pod(json!({"startTime": "2026-11-21T10:00:01Z",
                "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": when, "message": "not\n yet"}]}))
        };
        assert_eq!(of("False", "2026-11-21T10:00:02Z").was_ready, None);
        assert_eq!(of("False", "2026-11-21T10:00:02Z").unready, "not yet");
        assert_eq!(of("False", "2026-11-21T10:09:00Z").was_ready, Some(at("2026-11-21T10:09:00Z")));
        let ready = of("True", "2026-11-21T10:00:03Z");
        assert_eq!((ready.was_ready, ready.unready.as_str()), (Some(at("2026-11-21T10:00:03Z")), ""));
    }

    #[test]
    fn a_pod_that_is_deleted_or_has_ended_is_on_its_way_out() {
        assert!(pod(json!({"phase": "Failed"})).ending);
        let raw =
            json!({"metadata": {"name": "x", "uid": "y", "deletionTimestamp": "2026-11-21T10:00:00Z"}, "status": {"phase": "Running"}});
        let now: PodNow = serde_json::from_value(raw).unwrap();
        assert!(now.ending && now.set.is_empty());
    }

    #[test]
    fn events_count_by_their_series() {
        let of = |fields: Value| {
            let mut event = json!({"metadata": {"uid": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "uid": "pod-1"}});
            event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            serde_json::from_value::<Unhealthy>(event).unwrap()
        };
        let old =
            of(json!({"count": 4, "firstTimestamp": "2026-11-21T10:00:00Z", "eventTime": null, "message": "Startup probe failed: x"}));
        assert_eq!((old.pod.as_str(), old.count, old.startup, old.first), ("pod-1", 4, true, Some(at("2026-11-21T10:00:00Z"))));
        let new =
            of(json!({"series": {"count": 7}, "firstTimestamp": null, "eventTime": "2026-11-21T10:00:00.123456Z", "message": "Readiness"}));
        assert_eq!((new.count, new.startup, new.first), (7, false, Some(at("2026-11-21T10:00:00.123Z"))));
        assert_eq!(of(json!({})).count, 1);
    }

    #[test]
    fn workloads_keep_their_template_by_identity_only() {
        let template = json!({"metadata": {"labels": {"pod-template-hash": "5f6c"}}, "spec": {"containers": [{"image": "web:v2"}]}});
        let set: Set = serde_json::from_value(json!({
            "metadata": {"uid": "s", "annotations": {"deployment.kubernetes.io/revision": "12", "other": {"odd": 1}},
                "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d", "controller": true}]},
            "spec": {"replicas": 0, "template": template}}))
        .unwrap();
        assert_eq!((set.revision, set.wanted, set.owner.unwrap().name.as_str()), (12, 0, "web"));
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": "web", "uid": "d", "generation": 3},
            "spec": {"template": {"metadata": {"labels": {}}, "spec": {"containers": [{"image": "web:v2"}]}}},
            "status": {"observedGeneration": 2}}))
        .unwrap();
        assert_eq!((deployment.wanted, deployment.behind, deployment.version.as_str()), (1, true, "web:v2"));
        assert_eq!(deployment.template, set.template);
    }

    #[test]
    fn what_others_say_is_one_short_line() {
        assert_eq!(text("a\r\n\tb\u{1b}[2J"), "a b[2J");
        assert_eq!(text(&"x".repeat(500)).chars().count(), TEXT_MAX + 1);
    }
}
