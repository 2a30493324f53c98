//! All objects of a kind in a namespace: list them in pages, and watch what changes. Answers are read into the caller's type, which
//! names the fields it needs: of 15 kB of a pod a few hundred bytes are kept. Every wait and every size is bounded.

use super::CallError;
use super::object::{Resource, causes, denied};
use http_body_util::{BodyExt, Limited};
use hyper::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use url::form_urlencoded;

/// Longest wait for one page, and for a watch to begin.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Objects of a page.
const PAGE_OBJECTS: usize = 250;
/// Largest page read: each of its objects may have 128 kB.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Most pages of a list: a quarter of a million objects.
const PAGES_MAX: usize = 1000;
/// Longest piece of a watch: etcd keeps no object above 1.5 MB.
const LINE_BYTES_MAX: usize = 4 << 20;
/// The server is asked to end a watch after so long: then it was looked until that moment, which a silent one cannot say.
const WATCH_LASTS: Duration = Duration::from_secs(45);
/// A watch that is silent for so long has broken: its end would have come.
const SILENT_MAX: Duration = Duration::from_secs(55);

/// Why a list or a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The server has forgotten what happened since (410), or was put back to before it: list again.
    Expired,
    /// It could not be carried out.
    Failed(CallError),
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Broken::Failed(error)
    }
}

/// One piece of a watch.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// The object is new, or another.
    Put(T),
    /// It is gone; as it was.
    Gone(T),
    /// Nothing happened until now.
    Nothing,
}

/// All objects of a kind in a namespace, or in all.
#[derive(Clone)]
pub struct Collection {
    client: Client,
    resource: Resource,
    /// `None` = all.
    namespace: Option<String>,
    fields: Option<String>,
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())
    }
}

impl Collection {
    /// Nothing is asked yet. Without a namespace those of all, which needs a ClusterRoleBinding.
    pub fn new(client: Client, resource: Resource, namespace: Option<&str>) -> Self {
        Self { client, resource, namespace: namespace.map(str::to_owned), fields: None }
    }

    /// Only those with these fields, such as `reason=Unhealthy`.
    pub fn with_fields(self, fields: impl Into<String>) -> Self {
        Self { fields: Some(fields.into()), ..self }
    }

    /// What an operator calls it: `pods of namespace shop`.
    pub fn what(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} of namespace {namespace}", self.resource.plural),
            None => format!("{} of all namespaces", self.resource.plural),
        }
    }

    /// All of them with these labels (a selector as kubectl takes it; empty = any).
    ///
    /// # Errors
    /// They could not be listed; never [`CallError::Conflict`].
    pub async fn list<T: DeserializeOwned>(&self, labels: &str) -> Result<Vec<T>, CallError> {
        match self.list_at(labels).await {
            Ok((objects, _)) => Ok(objects),
            Err(Broken::Failed(e)) => Err(e),
            Err(Broken::Expired) => Err(CallError::Unreachable("the API server forgot the list between two pages of it".to_owned())),
        }
    }

    /// The same, with the version from which a watch goes on.
    pub(super) async fn list_at<T: DeserializeOwned>(&self, labels: &str) -> Result<(Vec<T>, String), Broken> {
        let (mut objects, mut go_on) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let limit = PAGE_OBJECTS.to_string();
            let query = [("limit", limit.as_str()), ("labelSelector", labels), ("continue", go_on.as_str())];
            let page = tokio::time::timeout(ANSWER_MAX, self.page::<T>(&query)).await.map_err(|_| no_answer())??;
            objects.extend(page.items.unwrap_or_default());
            match page.metadata.go_on {
                Some(more) if !more.is_empty() => go_on = more,
                _ => return Ok((objects, page.metadata.resource_version)),
            }
        }
        Err(CallError::Refused(format!("there are more than {} objects", PAGES_MAX * PAGE_OBJECTS)).into())
    }

    /// Is the server's present older than this version? So it is when etcd was put back to an earlier state. A watch that goes on from a
    /// version still to come says nothing of what was put back, and nothing of what comes until then. One that has counted past it again
    /// by now cannot be told from one that went on: that is what `--bump-revision` of who restores it is for.
    pub(super) async fn is_ahead(&self, version: &str) -> Result<bool, Broken> {
        let page = self.page::<IgnoredAny>(&[("limit", "1")]);
        let now = tokio::time::timeout(ANSWER_MAX, page).await.map_err(|_| no_answer())??.metadata.resource_version;
        // versions are numbers that rise; should they be something else one day, nothing follows
        Ok(version.parse::<u64>().is_ok_and(|seen| now.parse::<u64>().is_ok_and(|now| now < seen)))
    }

    async fn page<T: DeserializeOwned>(&self, query: &[(&str, &str)]) -> Result<Page<T>, Broken> {
        let answer = self.ask("list", query).await?;
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|e| CallError::Unreachable(format!("its answer: {e}")))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| CallError::Unreachable(format!("its answer is no list: {e}")).into())
    }

    /// What changes after this version.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch, Broken> {
        let lasts = WATCH_LASTS.as_secs().to_string();
        let query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", lasts.as_str()), ("resourceVersion", version)];
        let answer = tokio::time::timeout(ANSWER_MAX, self.ask("watch", &query)).await.map_err(|_| no_answer())??;
        Ok(Watch { body: answer.into_body(), lines: Lines::default(), version: version.to_owned() })
    }

    /// An answer of 200, whose body is still to be read.
    async fn ask(&self, verb: &str, query: &[(&str, &str)]) -> Result<Response<Body>, Broken> {
        let request = Request::get(self.path(query)).header("accept", "application/json");
        let request = request.body(Body::empty()).map_err(|e| CallError::Refused(e.to_string()))?;
        let answer = self.client.send(request).await.map_err(|e| CallError::Unreachable(causes(&e)))?;
        if answer.status().as_u16() == 200 { Ok(answer) } else { Err(self.refused(verb, answer).await) }
    }

    async fn refused(&self, verb: &str, answer: Response<Body>) -> Broken {
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LINE_BYTES_MAX).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = format!("{} ({status})", body.get("message").and_then(Value::as_str).unwrap_or("no reason given"));
        let Resource { api, plural, .. } = self.resource;
        Broken::Failed(match status {
            410 => return Broken::Expired,
            401 | 403 => denied(status, verb, self.resource, self.namespace.as_deref(), &message),
            404 => CallError::Missing(format!("the cluster does not serve {plural} of {api}: install its custom resource definitions")),
            429 | 500.. => CallError::Unreachable(message),
            _ => CallError::Refused(message),
        })
    }

    fn path(&self, query: &[(&str, &str)]) -> String {
        let Resource { api, plural, .. } = self.resource;
        let root = if api.contains('/') { "apis" } else { "api" };
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
        text.extend_pairs(self.fields.as_deref().map(|fields| ("fieldSelector", fields)));
        let namespace = self.namespace.as_ref().map_or_else(String::new, |n| format!("/namespaces/{n}"));
        format!("/{root}/{api}{namespace}/{plural}?{}", text.finish())
    }
}

fn no_answer() -> Broken {
    CallError::Unreachable(format!("the API server gave no answer within {} s", ANSWER_MAX.as_secs())).into()
}

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMeta,
    /// `null` where there are none.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
    #[serde(rename = "continue", default)]
    go_on: Option<String>,
}

/// What every line of a watch has, or a Status in its place.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    object: HeadObject,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HeadObject {
    metadata: HeadMeta,
    code: u16,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct HeadMeta {
    resource_version: String,
}

#[derive(Deserialize)]
struct Line<T> {
    object: T,
}

/// A running watch: lines of JSON.
pub(super) struct Watch {
    body: Body,
    lines: Lines,
    /// Everything until this version has been told.
    pub(super) version: String,
}

impl Watch {
    /// The next change; `None` = the server has ended the watch, as it was asked to.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Change<T>>, Broken> {
        match tokio::time::timeout(SILENT_MAX, self.line()).await {
            Ok(line) => line?.map(|line| self.change(line)).transpose(),
            Err(_) => Err(CallError::Unreachable(format!("a watch was silent for {} s", SILENT_MAX.as_secs())).into()),
        }
    }

    async fn line(&mut self) -> Result<Option<Range<usize>>, CallError> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(Some(line));
            }
            if self.lines.bytes.len() > LINE_BYTES_MAX {
                return Err(CallError::Unreachable(format!("a watch brought an object of more than {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.lines.bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(e)) => return Err(CallError::Unreachable(causes(&e))),
            }
        }
    }

    fn change<T: DeserializeOwned>(&mut self, line: Range<usize>) -> Result<Change<T>, Broken> {
        let line = self.lines.bytes.get(line).unwrap_or_default();
        let wrong = |e: serde_json::Error| Broken::Failed(CallError::Unreachable(format!("a watch brought no JSON we know: {e}")));
        let Head { kind, object } = serde_json::from_slice(line).map_err(wrong)?;
        let whole = || serde_json::from_slice(line).map(|Line { object }| object).map_err(wrong);
        let change = match kind.as_str() {
            "ADDED" | "MODIFIED" => Change::Put(whole()?),
            "DELETED" => Change::Gone(whole()?),
            "ERROR" if object.code == 410 => return Err(Broken::Expired),
            "ERROR" => return Err(CallError::Unreachable(format!("{} ({})", object.message, object.code)).into()),
            // a bookmark, or what a newer server says besides
            _ => Change::Nothing,
        };
        if !object.metadata.resource_version.is_empty() {
            self.version = object.metadata.resource_version;
        }
        Ok(change)
    }
}

/// What was read, cut into lines.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// Until here there is no end of it.
    searched: usize,
}

impl Lines {
    /// Where the next whole line lies; valid until it is asked again.
    fn next(&mut self) -> Option<Range<usize>> {
        let found = self.bytes.iter().skip(self.searched).position(|b| *b == b'\n');
        match found {
            Some(after) => {
                let end = self.searched + after + 1;
                self.searched = end;
                Some(std::mem::replace(&mut self.begin, end)..end)
            }
            None => {
                self.bytes.drain(..self.begin);
                (self.begin, self.searched) = (0, self.bytes.len());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let text = b"one\n\ntwo and more\nthr";
        for size in 1..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                lines.bytes.extend_from_slice(piece);
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8(lines.bytes[line].to_vec()).unwrap());
                }
            }
            assert_eq!(found, ["one\n", "\n", "two and more\n"], "in pieces of {size}");
            assert_eq!(lines.bytes, b"thr");
        }
    }
}
