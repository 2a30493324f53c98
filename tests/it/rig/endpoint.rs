//! A user's HTTP endpoint: what it is asked is kept, what it answers a test decides. On a real socket, with a runtime of its own.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path with query, such as `GET /split?canary=v2`.
    pub(crate) line: String,
    headers: HeaderMap,
    /// Body, null if it is no JSON.
    pub(crate) body: Value,
}

impl Asked {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Duration,
}

impl Reply {
    /// With this body.
    pub(crate) fn new(status: u16, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string(), after: Duration::ZERO }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// So much later.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// A page of metrics of the clusters `v1` and `v2` as an Envoy shows them, whose counters stand still; its port. It is there as long as the
/// runtime of whoever asked for it.
pub(crate) async fn standing_page() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let counter = |cluster: &str| {
        format!(
            "envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"2\",envoy_cluster_name=\"{cluster}\"}} 1000\n\
            envoy_cluster_upstream_rq_completed{{envoy_cluster_name=\"{cluster}\"}} 1000\n"
        )
    };
    let text = format!("# TYPE envoy_cluster_upstream_rq_xx counter\n{}{}", counter("v1"), counter("v2"));
    let app = Router::new().fallback(move || async move { text });
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

type Answerer = Box<dyn FnMut(&Asked) -> Reply + Send>;

/// What it knows, shared with its tasks.
struct Life {
    asked: Vec<Asked>,
    answer: Answerer,
}

/// A running endpoint.
pub(crate) struct Endpoint {
    /// Its address, `http://127.0.0.1:port`.
    pub(crate) url: String,
    life: Arc<Mutex<Life>>,
    runtime: Option<Runtime>,
}

impl Endpoint {
    /// One that answers so.
    pub(crate) fn start(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let life = Arc::new(Mutex::new(Life { asked: Vec::new(), answer: Box::new(answer) }));
        let app = Router::new().fallback(serve).with_state(Arc::clone(&life));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, life, runtime: Some(runtime) }
    }

    /// One that keeps the weight it is told, as the contract says, and moves the traffic: `shift` gets the second version's
    /// share in permille.
    pub(crate) fn keeper(shift: impl FnMut(u64) + Send + 'static) -> Self {
        Self::start(keeps(shift))
    }

    /// It answers otherwise from now on.
    pub(crate) fn answer(&self, answer: impl FnMut(&Asked) -> Reply + Send + 'static) {
        self.life.lock().answer = Box::new(answer);
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.life.lock().asked.clone()
    }

    /// Closes the listener and every connection.
    pub(crate) fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.die();
    }
}

/// A user's endpoint as the contract asks for it.
fn keeps(mut shift: impl FnMut(u64) + Send + 'static) -> impl FnMut(&Asked) -> Reply + Send + 'static {
    let (mut second, mut generation) = (0, None::<u64>);
    move |asked| {
        if asked.line.starts_with("POST ") {
            let told = asked.body["generation"].as_u64().expect("a generation");
            if generation.is_some_and(|there| there > told) {
                return Reply::new(409, json!({ "error": "a newer weight is there" }));
            }
            let permille = asked.body["weight-permille"].as_u64().expect("a weight");
            second = if asked.body["canary"] == "v2" { permille } else { 1000 - permille };
            generation = Some(told);
            shift(second);
            return Reply::new(202, "taken");
        }
        let mut answer = json!({ "canary": "v2", "weight-permille": second });
        if let Some(generation) = generation {
            answer["generation"] = generation.into();
        }
        Reply::new(200, answer)
    }
}

async fn serve(State(life): State<Arc<Mutex<Life>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<String> {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let asked = Asked { line: format!("{method} {uri}"), headers, body };
    let reply = {
        let mut life = life.lock();
        let reply = (life.answer)(&asked);
        life.asked.push(asked);
        reply
    };
    tokio::time::sleep(reply.after).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(reply.body).expect("an answer")
}
