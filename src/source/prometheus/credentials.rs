//! Who we are to a server, and whom we take it for: token or password, certificate authorities, our own certificate. All from
//! files, read again when they change: secrets are rotated by whoever made them, and nobody restarts a daemon for it.
//!
//! A file is looked at before each query (its identity and time, not its content) and read when it is another one; and when
//! the server refuses us, once more whatever it looks like.

use super::PrometheusSettings;
use super::fault::Fault;
use super::validity;
use crate::telemetry::words;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use parking_lot::Mutex;
use prometheus_http_query as api;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Identity, redirect};
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How a server is told who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer` with the content of this file.
    BearerTokenFile(PathBuf),
    /// Basic authentication.
    Basic {
        /// User.
        user: String,
        /// File of the password.
        password_file: PathBuf,
    },
}

/// Certificates of a connection; nothing here for plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the only certificate authorities to trust; `None` = those of the machine.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate (with what leads to its authority) and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// One file as it was last read.
#[derive(Debug)]
struct Held {
    what: &'static str,
    path: PathBuf,
    stamp: Option<Stamp>,
    bytes: Vec<u8>,
}

/// What tells one file from another of the same name without reading it. Mounted secrets are swapped by symlink: another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Held {
    fn new(what: &'static str, path: &Path) -> Self {
        Self { what, path: path.to_owned(), stamp: None, bytes: Vec::new() }
    }

    /// Reads it if it is another one than before, or `anyway`. True if it says something else now.
    fn look(&mut self, anyway: bool) -> Result<bool, String> {
        let unread = |e: std::io::Error| format!("{self}: {e}");
        let found = std::fs::metadata(&self.path).map_err(unread)?;
        let stamp = Stamp { modified: found.modified().ok(), length: found.len(), inode: found.ino() };
        if !anyway && self.stamp == Some(stamp) {
            return Ok(false);
        }
        let bytes = std::fs::read(&self.path).map_err(unread)?;
        let differs = bytes != self.bytes;
        (self.stamp, self.bytes) = (Some(stamp), bytes);
        Ok(differs)
    }

    /// Its one line, such as a token.
    fn line(&self) -> Result<&str, String> {
        let text = std::str::from_utf8(&self.bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() || text.contains(|c: char| c.is_control()) {
            Err(format!("{self} holds no single line of text"))
        } else {
            Ok(text)
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.path.display())
    }
}

/// The files, and what was made of them.
struct State {
    secret: Option<Held>,
    ca: Option<Held>,
    identity: Option<(Held, Held)>,
    api: api::Client,
}

/// Everything that says who we are.
pub(super) struct Credentials {
    base: String,
    https: bool,
    auth: Auth,
    state: Mutex<State>,
}

impl Credentials {
    /// # Errors
    /// A sentence: a file of the settings cannot be used.
    pub(super) fn new(settings: &PrometheusSettings, base: &str, https: bool) -> Result<Self, String> {
        let secret = match &settings.auth {
            Auth::None => None,
            Auth::BearerTokenFile(file) => Some(Held::new("bearer_token_file", file)),
            Auth::Basic { password_file, .. } => Some(Held::new("password_file", password_file)),
        };
        let mut ca = settings.tls.ca_file.as_deref().map(|file| Held::new("ca_file", file));
        let mut identity = settings.tls.identity.as_ref().map(|(cert, key)| (Held::new("cert_file", cert), Held::new("key_file", key)));
        look(&mut ca, &mut identity, true)?;
        let api = connection(base, https, ca.as_ref(), identity.as_ref())?;
        let state = Mutex::new(State { secret, ca, identity, api });
        Ok(Self { base: base.to_owned(), https, auth: settings.auth.clone(), state })
    }

    /// The connections to use and the `Authorization` to send now.
    ///
    /// # Errors
    /// There is no secret to send.
    pub(super) fn now(&self) -> Result<(api::Client, Option<HeaderValue>), Fault> {
        let mut state = self.state.lock();
        // one that cannot be read just now may be in the middle of its change: what was there goes on
        if let Err(why) = self.renew(&mut state, false) {
            tracing::warn!(url = %self.base, %why, "changed certificates cannot be used: those before them are");
        }
        let authorization = self.authorization(&mut state).map_err(Fault::Unauthorized)?;
        Ok((state.api.clone(), authorization))
    }

    /// The server has refused us: reads every file, and says whether any tells something else than before.
    pub(super) fn refresh(&self) -> bool {
        let mut state = self.state.lock();
        let secret = state.secret.as_mut().is_some_and(|held| held.look(true).unwrap_or(false));
        self.renew(&mut state, true).unwrap_or(false) || secret
    }

    /// New connections where certificates are new.
    fn renew(&self, state: &mut State, anyway: bool) -> Result<bool, String> {
        let State { ca, identity, api, .. } = state;
        let differs = look(ca, identity, anyway)?;
        if differs {
            *api = connection(&self.base, self.https, ca.as_ref(), identity.as_ref())?;
            tracing::info!(url = %self.base, "certificates were read again");
        }
        Ok(differs)
    }

    fn authorization(&self, state: &mut State) -> Result<Option<HeaderValue>, String> {
        let Some(held) = &mut state.secret else { return Ok(None) };
        if let Err(why) = held.look(false)
            && held.bytes.is_empty()
        {
            return Err(why);
        }
        let secret = held.line()?;
        let text = match &self.auth {
            Auth::Basic { user, .. } => format!("Basic {}", BASE64.encode(format!("{user}:{secret}"))),
            Auth::BearerTokenFile(_) | Auth::None => format!("Bearer {secret}"),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| format!("{held} holds characters no header may have"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What to say to HTTP 401 and 403: whose secret was not taken, never which.
    pub(super) fn refused(&self) -> String {
        match &self.auth {
            Auth::None => "no credentials are sent: set bearer_token_file or basic".to_owned(),
            Auth::BearerTokenFile(file) => format!("the token in {} is not taken", file.display()),
            Auth::Basic { user, password_file } => format!("user {user:?} with the password in {} is not taken", password_file.display()),
        }
    }

    /// A failed exchange as a fault: certificates are named with their files.
    pub(super) fn fault(&self, error: &(dyn Error + 'static)) -> Fault {
        let state = self.state.lock();
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                let by = state.ca.as_ref().map_or_else(|| "the authorities of this machine (set ca_file)".to_owned(), Held::to_string);
                Fault::Certificate(format!("the server's certificate is not accepted by {by}: {}", plain(why)))
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                let ours = state.identity.as_ref().map(|(cert, _)| own_certificate(cert, jiff::Timestamp::now()));
                let ours = ours.unwrap_or_else(|| "none is sent: set cert_file and key_file".to_owned());
                Fault::Certificate(format!("the server does not accept our certificate ({ours}): {alert:?}"))
            }
            Some(other) => Fault::Certificate(format!("no TLS connection: {other}")),
            None => Fault::Down(words::root_cause(error)),
        }
    }
}

/// Our certificate, and what is plainly wrong with it.
fn own_certificate(held: &Held, now: jiff::Timestamp) -> String {
    match validity::ends(&held.bytes) {
        Some(end) if end < now => format!("{held}, which has expired on {end}"),
        Some(end) => format!("{held}, valid until {end}: is its authority one the server trusts?"),
        None => held.to_string(),
    }
}

/// Reads what is new of these; true if something is.
fn look(ca: &mut Option<Held>, identity: &mut Option<(Held, Held)>, anyway: bool) -> Result<bool, String> {
    let mut differs = false;
    for held in ca.iter_mut().chain(identity.iter_mut().flat_map(|(cert, key)| [cert, key])) {
        differs |= held.look(anyway)?;
    }
    Ok(differs)
}

fn connection(base: &str, https: bool, ca: Option<&Held>, identity: Option<&(Held, Held)>) -> Result<api::Client, String> {
    crate::tls::install();
    // a 302 would turn the POST into a GET
    let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(redirect::Policy::none());
    builder = match ca {
        Some(held) => {
            let certificates = Certificate::from_pem_bundle(&held.bytes).map_err(|e| format!("{held}: {}", words::root_cause(&e)))?;
            if certificates.is_empty() {
                return Err(format!("{held} holds no certificate in PEM form"));
            }
            builder.tls_certs_only(certificates)
        }
        // an image without certificates is no reason to fail where none are needed
        None if !https => builder.tls_certs_only([]),
        None => builder,
    };
    if let Some((cert, key)) = identity {
        let pem = [cert.bytes.as_slice(), b"\n", &key.bytes].concat();
        let identity = Identity::from_pem(&pem).map_err(|e| format!("{cert} and {key}: {}", words::root_cause(&e)))?;
        builder = builder.identity(identity);
    }
    let http = builder.build().map_err(|e| match identity {
        Some((cert, key)) => format!("{cert} and {key}: {}", words::root_cause(&e)),
        None => words::root_cause(&e),
    })?;
    api::Client::from(http, base).map_err(|e| e.to_string())
}

/// The TLS error somewhere below an error; `io::Error` hides what it holds from its chain of sources.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let held = one.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        let held = held.map(|inner| inner as &(dyn Error + 'static));
        if let Some(found) = one.downcast_ref().or_else(|| held.and_then(|inner| inner.downcast_ref())) {
            return Some(found);
        }
        // what an io::Error holds may be one too
        cause = held.filter(|inner| inner.is::<std::io::Error>()).or_else(|| one.source());
    }
    None
}

/// A certificate's fault in a word; what rustls prints of it spells structures.
fn plain(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => format!("it has expired ({why})"),
        Why::NotValidYet | Why::NotValidYetContext { .. } => format!("it is not valid yet ({why})"),
        Why::UnknownIssuer => "it was signed by an authority not in that file".to_owned(),
        Why::NotValidForName | Why::NotValidForNameContext { .. } => format!("it is for another name ({why})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let mut held = Held::new("bearer_token_file", &file);
        assert!(held.look(false).unwrap_err().contains("token: No such file"));
        std::fs::write(&file, "one\n").unwrap();
        assert_eq!((held.look(false), held.line()), (Ok(true), Ok("one")));
        assert_eq!(held.look(false), Ok(false));
        // swapped as a mounted secret is: the same length, perhaps within the same tick of the file system's clock
        std::fs::write(dir.path().join("next"), "two\n").unwrap();
        std::fs::rename(dir.path().join("next"), &file).unwrap();
        assert_eq!((held.look(false), held.line()), (Ok(true), Ok("two")));
        std::fs::write(&file, "\n").unwrap();
        assert!(held.look(true).is_ok() && held.line().unwrap_err().contains("holds no single line"));
    }
}
