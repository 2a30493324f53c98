//! A small blocking HTTP/1.1 client on 127.0.0.1: one deadline for the whole exchange, a bound on the answer.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Largest answer read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request<'a> {
    /// Method; empty = GET.
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Further headers.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub(crate) body: &'a [u8],
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    headers: String,
    /// Body, decoded from chunks.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header's value; names in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}), status {}: {}", self.status, self.text()))
    }
}

/// GET on a connection of its own.
pub(crate) fn get(port: u16, path: &str, timeout: Duration) -> io::Result<Response> {
    send(port, &Request { path, ..Request::default() }, timeout)
}

/// One exchange on a connection of its own.
pub(crate) fn send(port: u16, request: &Request<'_>, timeout: Duration) -> io::Result<Response> {
    Client::new(port).send(request, timeout)
}

/// Percent-encodes a query value.
pub(crate) fn encode(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Keeps its connection between requests.
pub(crate) struct Client {
    port: u16,
    stream: Option<TcpStream>,
}

impl Client {
    /// Connects at the first request.
    pub(crate) fn new(port: u16) -> Self {
        Self { port, stream: None }
    }

    /// One exchange. `TimedOut` when it took longer than `timeout` altogether; the connection is then given up.
    pub(crate) fn send(&mut self, request: &Request<'_>, timeout: Duration) -> io::Result<Response> {
        let deadline = Instant::now() + timeout;
        if self.stream.is_some() {
            match self.exchange(request, deadline) {
                // the server closed an idle connection under us: not an answer to this request, ask again on a new one
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected) => {}
                other => return other,
            }
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        self.exchange(request, deadline)
    }

    fn exchange(&mut self, request: &Request<'_>, deadline: Instant) -> io::Result<Response> {
        let mut stream = self.stream.take().ok_or(ErrorKind::NotConnected)?;
        stream.set_write_timeout(Some(left(deadline)?))?;
        stream.write_all(&written(request))?;
        let (response, reusable) = read_response(&mut stream, deadline)?;
        if reusable {
            self.stream = Some(stream);
        }
        Ok(response)
    }
}

fn written(request: &Request<'_>) -> Vec<u8> {
    let method = if request.method.is_empty() { "GET" } else { request.method };
    let mut text = format!("{method} {} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n", request.path, request.body.len());
    for (name, value) in request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(request.body);
    bytes
}

fn left(deadline: Instant) -> io::Result<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or_else(|| ErrorKind::TimedOut.into())
}

/// Reads more into `buffer`; false at the end of the stream.
fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<bool> {
    if buffer.len() > ANSWER_BYTES_MAX {
        return Err(Error::other(format!("answer exceeds {ANSWER_BYTES_MAX} bytes")));
    }
    let mut piece = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece) {
            Ok(count) => {
                buffer.extend_from_slice(&piece[..count]);
                return Ok(count > 0);
            }
            // a process that was stopped and goes on finds its reading interrupted
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        }
    }
}

fn cut_short() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the connection ended within the answer")
}

fn read_response(stream: &mut TcpStream, deadline: Instant) -> io::Result<(Response, bool)> {
    let mut buffer = Vec::new();
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if !more(stream, &mut buffer, deadline)? {
            return Err(if buffer.is_empty() { ErrorKind::ConnectionReset.into() } else { cut_short() });
        }
    };
    let headers = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| Error::other(format!("no status in {headers:?}")))?;
    let mut response = Response { status, headers, body: buffer.split_off(head_end + 4) };
    let reusable = read_body(stream, &mut response, deadline)?;
    Ok((response, reusable))
}

/// Completes the body; true if the connection may be used again.
fn read_body(stream: &mut TcpStream, response: &mut Response, deadline: Instant) -> io::Result<bool> {
    let chunked = response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length: Option<usize> = response.header("content-length").and_then(|v| v.parse().ok());
    let closes = response.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    if chunked {
        loop {
            if let Some(body) = dechunked(&response.body)? {
                response.body = body;
                return Ok(!closes);
            }
            if !more(stream, &mut response.body, deadline)? {
                return Err(cut_short());
            }
        }
    }
    let empty = response.status == 204 || response.status == 304;
    let Some(length) = length.or(empty.then_some(0)) else {
        while more(stream, &mut response.body, deadline)? {}
        return Ok(false);
    };
    while response.body.len() < length {
        if !more(stream, &mut response.body, deadline)? {
            return Err(cut_short());
        }
    }
    Ok(!closes)
}

/// The body behind its chunks; `None` while some are missing. Starts over at each piece: answers here are small.
fn dechunked(mut rest: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = rest.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&rest[..line_end]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Error::other(format!("bad chunk size {line:?}")))?;
        let start = line_end + 2;
        let end = start.saturating_add(size);
        if rest.len() < end.saturating_add(2) {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&rest[start..end]);
        rest = &rest[end + 2..];
    }
}
