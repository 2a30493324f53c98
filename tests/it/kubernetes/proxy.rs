//! Something between the daemon and the API server that does not always pass on what it is given.

use crate::rig::kubernetes::{ControlPlane, client_of};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::http;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What happens to one request.
pub(super) enum Fault {
    /// It is answered so, and not passed on.
    Answer(u16),
    /// The same, with the request to wait so many seconds.
    Wait(u16, u64),
    /// It is passed on, and then answered so.
    AnswerAfter(u16),
    /// It is passed on after this was done.
    After(Box<dyn FnOnce() + Send>),
    /// It is passed on, this is done, and nothing comes back.
    Then(Box<dyn FnOnce() + Send>),
    /// Nothing ever comes back.
    Hang,
}

/// Is it this write, by its path and its operations? Of what is made new those are none.
pub(super) type Like = fn(&str, &[Value]) -> bool;

/// A running proxy. It asks as one client, mostly the administrator, whoever asks it.
pub(super) struct Proxy {
    pub(super) client: Client,
    /// Names it as the cluster.
    pub(super) kubeconfig: PathBuf,
    state: Arc<Shared>,
}

struct Shared {
    behind: Client,
    down: AtomicBool,
    /// Requests whose path has this in it get no answer.
    silent: Mutex<Option<&'static str>>,
    faults: Mutex<VecDeque<Fault>>,
    /// How the first write that is like this fares.
    one: Mutex<Option<(Like, Fault)>>,
    /// What watches are answered with, in place of what they asked for.
    watches: Mutex<VecDeque<&'static str>>,
    /// Ends what is being passed on.
    cut: watch::Sender<()>,
    passed: Mutex<Vec<(u16, Instant)>>,
    /// Watches that are being passed on, by kind of object.
    watching: Mutex<BTreeMap<String, usize>>,
}

impl Proxy {
    /// Before the API server of a control plane.
    pub(super) async fn start(plane: &'static ControlPlane) -> Self {
        Self::start_as(plane, plane.client("admin").await).await
    }

    /// The same, asking as this client does.
    pub(super) async fn start_as(plane: &'static ControlPlane, behind: Client) -> Self {
        let state = Arc::new(Shared {
            behind,
            down: AtomicBool::new(false),
            silent: Mutex::default(),
            faults: Mutex::default(),
            one: Mutex::default(),
            watches: Mutex::default(),
            cut: watch::Sender::new(()),
            passed: Mutex::default(),
            watching: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(pass).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let kubeconfig = plane.kubeconfig_at(&address);
        Self { client: client_of(&kubeconfig).await, kubeconfig, state }
    }

    /// The next writes fare so, in this order; reads are passed on.
    pub(super) fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.lock().extend(faults);
    }

    /// The first write that is like this fares so.
    pub(super) fn one_write(&self, like: Like, fault: Fault) {
        *self.state.one.lock() = Some((like, fault));
    }

    /// It has not come yet.
    pub(super) fn awaits_one(&self) -> bool {
        self.state.one.lock().is_some()
    }

    /// The next watches bring this text and end.
    pub(super) fn next_watches(&self, texts: impl IntoIterator<Item = &'static str>) {
        self.state.watches.lock().extend(texts);
    }

    /// So many of them have not been met yet.
    pub(super) fn watches_left(&self) -> usize {
        self.state.watches.lock().len()
    }

    /// Breaks every connection over which something is being passed on.
    pub(super) fn cut(&self) {
        self.state.cut.send_replace(());
    }

    /// Watches that are being passed on, by kind of object.
    pub(super) fn watching(&self) -> BTreeMap<String, usize> {
        self.state.watching.lock().clone()
    }

    /// From now on nothing is passed on, or everything again.
    pub(super) fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Release);
    }

    /// From now on requests whose path has this in it get no answer.
    pub(super) fn silence(&self, path: &'static str) {
        *self.state.silent.lock() = Some(path);
    }

    /// Codes of the answers to the writes that were passed on, and forgets them.
    pub(super) fn passed(&self) -> Vec<u16> {
        self.passed_at().into_iter().map(|(code, _)| code).collect()
    }

    /// The same with when each was answered.
    pub(super) fn passed_at(&self) -> Vec<(u16, Instant)> {
        std::mem::take(&mut self.state.passed.lock())
    }

    /// Faults that nobody has met yet.
    pub(super) fn left(&self) -> usize {
        self.state.faults.lock().len()
    }
}

async fn pass(State(state): State<Arc<Shared>>, request: Request) -> Response {
    if state.down.load(Ordering::Acquire) {
        return answer(503, &[]);
    }
    let silent = *state.silent.lock();
    if silent.is_some_and(|path| request.uri().path().contains(path)) {
        return std::future::pending().await;
    }
    let is_write = request.method() == http::Method::PATCH;
    if let Some(text) = is_watch(request.uri()).then(|| state.watches.lock().pop_front()).flatten() {
        return text.into_response();
    }
    let may_be_one = is_write || request.method() == http::Method::POST;
    let (request, one) = if may_be_one { met(&state, request).await } else { (request, None) };
    let fault = one.or_else(|| if is_write { state.faults.lock().pop_front() } else { None });
    match fault {
        None => forward(&state, request).await,
        Some(Fault::Answer(code)) => answer(code, &[]),
        Some(Fault::Wait(code, seconds)) => answer(code, &[("retry-after", &seconds.to_string())]),
        Some(Fault::AnswerAfter(code)) => {
            forward(&state, request).await;
            answer(code, &[])
        }
        Some(Fault::After(work)) => {
            tokio::task::spawn_blocking(work).await.expect("it does not panic");
            forward(&state, request).await
        }
        Some(Fault::Then(work)) => {
            forward(&state, request).await;
            tokio::task::spawn_blocking(work).await.expect("it does not panic");
            answer(504, &[])
        }
        Some(Fault::Hang) => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            answer(504, &[])
        }
    }
}

/// The fault of this write, if it is the one that is waited for.
async fn met(state: &Shared, request: Request) -> (Request, Option<Fault>) {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a whole request").to_bytes();
    let operations: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
    let fault = state.one.lock().take_if(|(like, _)| like(parts.uri.path(), &operations)).map(|(_, fault)| fault);
    (Request::from_parts(parts, body.into()), fault)
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|q| q.contains("watch=true"))
}

/// A watch that is being passed on, until this is dropped.
struct Watching {
    state: Arc<Shared>,
    kind: String,
}

impl Watching {
    fn begin(state: &Arc<Shared>, path: &str) -> Self {
        let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
        *state.watching.lock().entry(kind.clone()).or_default() += 1;
        Self { state: Arc::clone(state), kind }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(count) = self.state.watching.lock().get_mut(&self.kind) {
            *count -= 1;
        }
    }
}

fn answer(code: u16, headers: &[(&str, &str)]) -> Response {
    let body = format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"made up by the proxy","code":{code}}}"#);
    let mut response = (http::StatusCode::from_u16(code).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    response
}

async fn forward(state: &Arc<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let is_write = parts.method == http::Method::PATCH;
    let watching = is_watch(&parts.uri).then(|| Watching::begin(state, parts.uri.path()));
    let body = body.collect().await.expect("a whole request").to_bytes();
    let mut onward = http::Request::builder().method(parts.method).uri(parts.uri.path_and_query().unwrap().as_str());
    if let Some(kind) = parts.headers.get("content-type") {
        onward = onward.header("content-type", kind);
    }
    let answered = state.behind.send(onward.body(Body::from(body.to_vec())).unwrap()).await.expect("the API server answers");
    let code = answered.status();
    if is_write {
        state.passed.lock().push((code.as_u16(), Instant::now()));
    }
    (code, axum::body::Body::from_stream(until_cut(state, answered.into_body(), watching))).into_response()
}

/// The body as it comes; a watch's never ends.
fn until_cut(state: &Shared, body: Body, watching: Option<Watching>) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let parts = (body.into_data_stream(), state.cut.subscribe(), watching);
    futures_util::stream::unfold(parts, |(mut body, mut cut, watching)| async {
        let piece = tokio::select! {
            piece = body.next() => piece?.map_err(io::Error::other),
            _ = cut.changed() => Err(io::Error::other("cut")),
        };
        Some((piece, (body, cut, watching)))
    })
}
