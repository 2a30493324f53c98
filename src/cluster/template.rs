//! Pod templates as plain JSON: what a person calls one, and what its pods may use. Which two are the same is `apiserver`'s to say.

use crate::apiserver::identity;
use crate::model::Resources;
use serde_json::Value;

/// Longest version told, in characters.
const VERSION_MAX: usize = 120;

/// Identity of what a template's pods run: equal for two Deployments of the same program, whose labels differ, and with them whatever
/// selects by labels.
pub(super) fn program(template: &Value) -> String {
    let mut pod = template.get("spec").cloned().unwrap_or_default();
    if let Some(fields) = pod.as_object_mut() {
        for by_labels in ["affinity", "topologySpreadConstraints"] {
            fields.shift_remove(by_labels);
        }
    }
    identity(&pod)
}

/// What a person calls it: its images, each with its tag and without its registry: `web:v2`.
pub(super) fn version(template: &Value) -> String {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    let images = containers.into_iter().flatten().filter_map(|c| c.get("image")?.as_str());
    images.map(short).collect::<Vec<_>>().join(", ").chars().take(VERSION_MAX).collect()
}

/// `registry:5000/team/web:v2@sha256:0123...` is `web:v2`; without a tag some of the digest stands in for it.
fn short(image: &str) -> String {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let name = name.rsplit('/').next().unwrap_or(name);
    match digest {
        Some(digest) if !name.contains(':') => format!("{name}@{}", digest.chars().take(19).collect::<String>()),
        _ => name.to_owned(),
    }
}

/// What a pod of it asks for and may use: the sums over its containers and those beside them that go on running, or what is said of
/// the pod as a whole. What one of them does not say, the sum does not.
pub(super) fn resources(template: &Value) -> Resources {
    let of = |which: &str, what: &str| {
        let said = |about: &Value| quantity(about.pointer(&format!("/resources/{which}/{what}"))?);
        // what is not asked for is what may be used, as the API server fills it in
        let asked = |about: &Value| said(about).or_else(|| quantity(about.pointer(&format!("/resources/limits/{what}"))?));
        let pod = template.get("spec")?;
        asked(pod).or_else(|| running(pod).map(asked).try_fold(0.0, |sum, one| Some(sum + one?)))
    };
    // no pod without a container: an empty sum is no sum
    let any = template.get("spec").is_some_and(|pod| running(pod).next().is_some());
    let of = |which, what, scale: f64| of(which, what).filter(|_| any).map(|value| (value * scale).round() as u64);
    Resources {
        cpu_request: of("requests", "cpu", 1000.0),
        cpu_limit: of("limits", "cpu", 1000.0),
        memory_request: of("requests", "memory", 1.0),
        memory_limit: of("limits", "memory", 1.0),
    }
}

/// The containers that run as long as the pod does.
fn running(pod: &Value) -> impl Iterator<Item = &Value> {
    let list = |name: &str| pod.get(name).and_then(Value::as_array).into_iter().flatten();
    let beside = list("initContainers").filter(|c| c.get("restartPolicy").and_then(Value::as_str) == Some("Always"));
    list("containers").chain(beside)
}

/// A number as Kubernetes writes one: `500m`, `0.5`, `128Mi`, `1e9`. Cores, or bytes.
fn quantity(value: &Value) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let (number, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale))).unwrap_or((text, 1.0));
    number.parse::<f64>().ok().map(|n| n * scale).filter(|n| n.is_finite() && *n >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_that_differ_by_what_tells_them_apart_run_the_same_program() {
        let of = |track: &str, image: &str| {
            let spread = json!([{"labelSelector": {"matchLabels": {"track": track}}}]);
            program(&json!({"metadata": {"labels": {"track": track}},
                "spec": {"containers": [{"image": image}], "topologySpreadConstraints": spread}}))
        };
        assert_eq!(of("stable", "web:v2"), of("canary", "web:v2"));
        assert_ne!(of("stable", "web:v1"), of("stable", "web:v2"));
    }

    #[test]
    fn a_person_reads_the_images() {
        let of = |images: &[&str]| {
            let containers: Vec<_> = images.iter().map(|image| json!({"image": image})).collect();
            version(&json!({"spec": {"containers": containers}}))
        };
        assert_eq!(of(&["registry.example:5000/team/web:v2"]), "web:v2");
        assert_eq!(of(&["web:v2@sha256:0123456789abcdef0123", "docker.io/proxy"]), "web:v2, proxy");
        assert_eq!(of(&["r/web@sha256:0123456789abcdef0123"]), "web@sha256:0123456789ab");
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["x".repeat(500).as_str()]).len(), VERSION_MAX);
    }

    #[test]
    fn what_a_pod_may_use_is_the_sum_of_what_goes_on_running() {
        let template = json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}}},
                {"resources": {"limits": {"cpu": "0.5", "memory": "1G"}}}],
            "initContainers": [
                {"resources": {"limits": {"cpu": "64", "memory": "1Ti"}}},
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "0.1"}, "limits": {"cpu": "100m"}}}]}});
        let found = resources(&template);
        assert_eq!((found.cpu_request, found.cpu_limit), (Some(850), Some(1600)), "a request not made is the limit");
        assert_eq!((found.memory_request, found.memory_limit), (None, None), "one beside them says nothing of memory");
        let whole = json!({"spec": {"resources": {"limits": {"cpu": "2", "memory": "1e9"}}, "containers": [{}]}});
        let found = resources(&whole);
        assert_eq!((found.cpu_limit, found.memory_request, found.memory_limit), (Some(2000), Some(1_000_000_000), Some(1_000_000_000)));
        assert_eq!(resources(&json!({"spec": {"containers": []}})), Resources::default());
        assert_eq!(resources(&json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}})), Resources::default());
    }
}
