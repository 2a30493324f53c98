//! One question on one connection: HAProxy answers a line and closes. Bounded in time and size.

use crate::router::RouterError;
use std::io::{Error, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// For a whole exchange; it answers in milliseconds.
const EXCHANGE_MAX: Duration = Duration::from_secs(3);
/// Most bytes of one answer: a line of state and one of statistics are under 1 KiB for each server of the backend.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Socket {
    /// A path, or `host:port`.
    address: String,
}

impl Socket {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// `HAProxy /run/haproxy/admin.sock`, for errors.
    pub(super) fn what(&self) -> String {
        format!("HAProxy {}", self.address)
    }

    /// The whole answer to a line of commands. It ends with a blank line, or it is not whole.
    pub(super) async fn ask(&self, line: &str) -> Result<String, RouterError> {
        let exchange = async {
            if self.address.starts_with('/') {
                let stream = UnixStream::connect(&self.address).await.map_err(|e| self.no_connection(&e))?;
                self.exchange(stream, line).await
            } else {
                let stream = TcpStream::connect(&self.address).await.map_err(|e| self.no_connection(&e))?;
                self.exchange(stream, line).await
            }
        };
        let answered = timeout(EXCHANGE_MAX, exchange).await;
        answered.unwrap_or_else(|_| Err(self.unreachable(format!("no answer within {} s", EXCHANGE_MAX.as_secs()))))
    }

    async fn exchange(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> Result<String, RouterError> {
        let broke = |e: Error| self.unreachable(format!("the connection broke: {e}"));
        stream.write_all(format!("{line}\n").as_bytes()).await.map_err(broke)?;
        let mut answer = Vec::new();
        let most = ANSWER_BYTES_MAX as u64 + 1;
        stream.take(most).read_to_end(&mut answer).await.map_err(broke)?;
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(self.unreachable(format!("answers more than {ANSWER_BYTES_MAX} bytes")));
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if !answer.ends_with("\n\n") {
            return Err(self.unreachable(format!("the connection ended within the answer, after {} bytes", answer.len())));
        }
        Ok(answer)
    }

    fn no_connection(&self, error: &Error) -> RouterError {
        match error.kind() {
            ErrorKind::PermissionDenied => RouterError::Object {
                what: self.what(),
                why: "permission denied: run canaryd in the socket's group, such as stats socket ... mode 660 group haproxy".to_owned(),
            },
            ErrorKind::NotFound => {
                self.unreachable("there is no such socket: is HAProxy running, with this stats socket in its global section?".to_owned())
            }
            ErrorKind::ConnectionRefused => self.unreachable("nobody listens there: HAProxy has ended".to_owned()),
            _ => self.unreachable(error.to_string()),
        }
    }

    fn unreachable(&self, cause: String) -> RouterError {
        RouterError::Unreachable { what: self.what(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests may run as root, whom no socket forbids anything.
    #[test]
    fn a_socket_of_others_says_what_to_do() {
        let error = Socket::new("/run/haproxy/admin.sock").no_connection(&Error::from(ErrorKind::PermissionDenied));
        assert!(matches!(error, RouterError::Object { .. }), "time does not mend it: {error}");
        let words = "HAProxy /run/haproxy/admin.sock: permission denied: run canaryd in the socket's group, such as stats socket ... mode 660 \
                     group haproxy";
        assert_eq!(error.to_string(), words);
    }
}
