//! Reads server-sent events, chunk by chunk.

use std::collections::VecDeque;

/// Largest event that is read: a rollout with all its metrics is some kilobytes.
const EVENT_MAX: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FeedEvent {
    /// Its name.
    pub(super) name: String,
    /// Its data.
    pub(super) data: String,
}

/// Takes bytes as they come, gives events once they are whole.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: FeedEvent,
    ready: VecDeque<FeedEvent>,
}

impl Parser {
    /// More bytes.
    ///
    /// # Errors
    /// If an event exceeds 4 MiB.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_of_line(),
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.event.data.len() > EVENT_MAX {
                return Err(format!("an event of the feed exceeds {EVENT_MAX} bytes"));
            }
        }
        Ok(())
    }

    /// The next whole event.
    pub(super) fn pop(&mut self) -> Option<FeedEvent> {
        self.ready.pop_front()
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if !event.data.is_empty() {
                self.ready.push_back(event);
            }
            return;
        }
        // a line that begins with a colon is a comment: field name empty
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "data" if self.event.data.is_empty() => self.event.data = value.to_owned(),
            "data" => self.event.data.extend(["\n", value]),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        chunks.iter().for_each(|chunk| parser.push(chunk.as_bytes()).unwrap());
        std::iter::from_fn(|| parser.pop()).map(|e| (e.name, e.data)).collect()
    }

    #[test]
    fn an_event_may_come_in_pieces_and_between_comments() {
        let got = read(&[":\n\nevent: dec", "ision\r\nda", "ta: {\"a\":1}\r\n\r\n: keep\n\nevent: bye\ndata: {}\n\nevent: half\ndata: x"]);
        assert_eq!(got, [("decision".to_owned(), "{\"a\":1}".to_owned()), ("bye".to_owned(), "{}".to_owned())]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 64 * 1024];
        let pushed: Result<Vec<()>, String> = (0..100).map(|_| parser.push(&chunk)).collect();
        assert!(pushed.unwrap_err().contains("exceeds 4194304 bytes"));
    }
}
