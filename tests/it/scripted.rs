//! A scripted HTTP server: says what a real one cannot be made to say.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Response, Uri};
use std::sync::{Arc, Mutex};

/// What to answer to a PromQL query (or, for a GET, to a path).
type Script = dyn Fn(&str) -> Response<Body> + Send + Sync;

/// A running server; it ends with the runtime it was started on.
pub(crate) struct Scripted {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let app = Router::new().fallback(move |uri: Uri, body: Bytes| {
            let form = format!("http://x/?{}", String::from_utf8_lossy(&body));
            let pairs = reqwest::Url::parse(&form).expect("a form");
            let query = pairs.query_pairs().find(|(name, _)| name == "query").map(|(_, value)| value.into_owned());
            let question = query.unwrap_or_else(|| uri.path().to_owned());
            log.lock().expect("log").push(question.clone());
            let answer = script(&question);
            async move { answer }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    /// Every question so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("log").clone()
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).expect("answer")
}

/// An instant vector: `[(labels as JSON, value)]`.
pub(crate) fn vector(rows: &[(String, f64)]) -> String {
    let rows: Vec<String> = rows.iter().map(|(labels, value)| format!(r#"{{"metric":{{{labels}}},"value":[1,"{value}"]}}"#)).collect();
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, rows.join(","))
}
