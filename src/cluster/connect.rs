//! Who we are to the API server, and how long we wait for it.

use super::lease::Fence;
use hyper::Method;
use hyper::http::Request;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tower::filter::FilterLayer;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a piece of an answer. A watch is silent while nothing happens, and whoever calls bounds its calls much closer:
/// this ends what nobody waits for any more.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a piece of a request to leave.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Set by the kubelet in every container.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";
/// What makes a pod one of the cluster to the API server; absent where `automountServiceAccountToken` is false.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How the API server is reached. `Default`: as a pod of the cluster, where this process is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// A kubeconfig file. `None`: the pod's own service account. Never a person's default kubeconfig: a daemon that is started
    /// at a desk must not write into whatever cluster that happens to name.
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file; `None` = its current one.
    pub context: Option<String>,
}

impl ClusterSettings {
    /// Is there a cluster: one that is named, or that of this pod? Nothing is asked of it.
    pub fn has_one(&self) -> bool {
        self.kubeconfig.is_some() || is_pod()
    }
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {cause}")]
    Kubeconfig { path: String, cause: String },
    /// This is a pod, and its service account's files cannot be used.
    #[error("the pod's service account: {cause}: give it one that can be read, or name a kubeconfig")]
    ServiceAccount { cause: String },
    /// The certificates or the address cannot be used.
    #[error("the way to the API server: {cause}")]
    Client { cause: String },
}

/// A client, if the settings name a cluster or this process is a pod of one. Nothing is asked of the API server yet; service account
/// tokens and certificate authorities are read again as they are rotated.
///
/// The defaults of `kube` are changed: it would repeat a request up to 15 times with waits up to 1000 s, and wait for an answer
/// for ever. What is repeated, and when, is the caller's decision.
///
/// # Errors
/// A kubeconfig or service account that is there and cannot be used.
pub async fn connect(settings: &ClusterSettings) -> Result<Option<Client>, ClusterError> {
    let Some(config) = config(settings).await? else { return Ok(None) };
    Client::try_from(config).map(Some).map_err(unusable)
}

/// The same for one who acts by a lease: what writes does not leave this process once the lease may be another's.
///
/// # Errors
/// As [`connect`].
pub async fn connect_fenced(settings: &ClusterSettings, fence: Arc<Fence>) -> Result<Option<Client>, ClusterError> {
    let layer = FilterLayer::new(move |request: Request<Body>| match fence.check() {
        Err(why) if *request.method() != Method::GET => Err(why),
        _ => Ok(request),
    });
    let Some(config) = config(settings).await? else { return Ok(None) };
    let builder = ClientBuilder::try_from(config).map_err(unusable)?;
    Ok(Some(builder.with_layer(&layer).build()))
}

async fn config(settings: &ClusterSettings) -> Result<Option<Config>, ClusterError> {
    let config = match &settings.kubeconfig {
        Some(path) => from_kubeconfig(path, settings.context.clone()).await?,
        None if is_pod() => Config::incluster().map_err(|e| ClusterError::ServiceAccount { cause: e.to_string() })?,
        None => return Ok(None),
    };
    Ok(Some(bounded(config)))
}

fn unusable(error: kube::Error) -> ClusterError {
    ClusterError::Client { cause: error.to_string() }
}

/// A pod that was given no token, a sidecar for one, has no cluster to act in.
fn is_pod() -> bool {
    std::env::var_os(IN_CLUSTER).is_some() && Path::new(TOKEN).exists()
}

async fn from_kubeconfig(path: &Path, context: Option<String>) -> Result<Config, ClusterError> {
    let wrong = |cause: String| ClusterError::Kubeconfig { path: path.display().to_string(), cause };
    let file = Kubeconfig::read_from(path).map_err(|e| wrong(e.to_string()))?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(|e| wrong(e.to_string()))
}

fn bounded(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_MAX);
    config.read_timeout = Some(ANSWER_MAX);
    config.write_timeout = Some(REQUEST_MAX);
    // or the time a connection lay idle would count
    config.reset_reader_on_write = true;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::{Object, Resource};
    use std::time::Instant;

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named() {
        let settings = |path: &str| ClusterSettings { kubeconfig: Some(path.into()), context: Some("other".to_owned()) };
        let missing = connect(&settings("/nowhere/kubeconfig")).await.err().unwrap().to_string();
        assert!(missing.starts_with("kubeconfig /nowhere/kubeconfig: "), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        std::fs::write(&path, "apiVersion: v1\nkind: Config\ncurrent-context: x\n").unwrap();
        let error = connect(&settings(path.to_str().unwrap())).await.err().unwrap().to_string();
        assert!(error.contains("other"), "{error}");
    }

    #[tokio::test]
    async fn what_writes_does_not_leave_one_who_may_not_act() {
        crate::tls::install();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        // nobody listens there
        let text = "{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}],
            users: [{name: u, user: {}}], contexts: [{name: x, context: {cluster: c, user: u}}]}";
        std::fs::write(&path, text).unwrap();
        let fence = Arc::new(Fence::new(Instant::now()));
        let settings = ClusterSettings { kubeconfig: Some(path), context: None };
        let client = connect_fenced(&settings, Arc::clone(&fence)).await.unwrap().unwrap();
        let object = Object::new(client, Resource::DEPLOYMENT, "shop", "web");
        let refused = |why: &str| why.contains("another daemon may act");
        let (read, written) = (object.get().await.unwrap_err().to_string(), object.patch(&[]).await.unwrap_err().to_string());
        assert!(!refused(&read) && !refused(&written), "{read}; {written}");
        fence.close();
        let (read, written) = (object.get().await.unwrap_err().to_string(), object.patch(&[]).await.unwrap_err().to_string());
        assert!(!refused(&read) && refused(&written), "{read}; {written}");
    }

    #[test]
    fn every_wait_is_bounded_and_nothing_is_repeated() {
        let config = bounded(Config::new("https://127.0.0.1:1".parse().unwrap()));
        assert!(!config.default_retry && config.reset_reader_on_write);
        assert!(config.connect_timeout.is_some() && config.read_timeout.is_some() && config.write_timeout.is_some());
    }
}
