//! `canaryd watch`: on a terminal the list, or one rollout's page, redrawn at every decision; elsewhere a line for each
//! decision. A lost connection is taken up again.

use super::client::{self, Client, ServerArgs};
use super::failure::Failure;
use super::feed::{FeedEvent, Parser};
use super::output::{self, OutputArgs};
use super::render;
use super::table::Style;
use crate::api::wire;
use crate::telemetry::words;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// The server sends a comment every 15 s; three of them missing is a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// First wait before a lost connection is taken up again; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest wait.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Cursor home; each line clears its own rest, and what is below goes at the end: no flicker.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what is below.
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears the screen once.
const CLEAR: &str = "\x1b[2J";

/// What `watch` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a rollout, or of its rule: ends when that rollout is over
    #[arg(value_parser = client::name)]
    rollout: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    if let Some(rollout) = &args.rollout {
        // an unknown name is refused now, not waited for for ever
        client.get(&["rollouts", rollout]).await?;
    }
    let mut screen = Screen::new(args.rollout.is_some(), args.output.json());
    let mut wait = RETRY_FIRST;
    let mut first = true;
    loop {
        let heard = screen.heard;
        match follow(&client, args.rollout.as_deref(), &mut screen).await {
            Ok(End::Over) => return Ok(()),
            Ok(End::Lost(why)) => note(&why, args.output.json()),
            // the first try tells what is wrong; later ones wait for the server to come back
            Err(Failure::Unreachable(why)) if !first => note(&why, args.output.json()),
            Err(failure) => return Err(failure),
        }
        first = false;
        wait = if screen.heard > heard { RETRY_FIRST } else { (wait * 2).min(RETRY_MAX) };
        tokio::time::sleep(wait).await;
    }
}

/// On standard error, so that lines and JSON stay what they are.
fn note(why: &str, json: bool) {
    let why = words::printable(why);
    let _ = match json {
        true => writeln!(std::io::stderr(), "{}", serde_json::json!({ "code": "interrupted", "detail": why })),
        false => writeln!(std::io::stderr(), "canaryd: {why}; trying again"),
    };
}

/// How one connection ended.
enum End {
    /// What was watched is over.
    Over,
    /// The connection is gone.
    Lost(String),
}

async fn follow(client: &Client, rollout: Option<&str>, screen: &mut Screen) -> Result<End, Failure> {
    let mut response = client.feed(rollout).await?;
    let mut parser = Parser::default();
    loop {
        let chunk = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
            Err(_) => return Ok(End::Lost(format!("nothing heard for {SILENCE_MAX:?}"))),
            Ok(Err(error)) => return Ok(End::Lost(error.to_string())),
            Ok(Ok(None)) => return Ok(End::Lost("the server ended the feed".to_owned())),
            Ok(Ok(Some(chunk))) => chunk,
        };
        if let Err(why) = parser.push(&chunk) {
            return Ok(End::Lost(why));
        }
        while let Some(event) = parser.pop() {
            screen.show(&event)?;
        }
        if screen.over() {
            return Ok(End::Over);
        }
    }
}

/// What is shown.
struct Screen {
    one: bool,
    json: bool,
    redraw: bool,
    style: Style,
    rollouts: BTreeMap<String, wire::Rollout>,
    heard: u64,
    drawn: bool,
}

impl Screen {
    fn new(one: bool, json: bool) -> Self {
        let redraw = output::terminal() && !json;
        Self { one, json, redraw, style: output::style(), rollouts: BTreeMap::new(), heard: 0, drawn: false }
    }

    /// Nothing more will come: the one rollout that was named is over.
    fn over(&self) -> bool {
        self.one && self.heard > 0 && self.newest().is_some_and(|rollout| rollout.over)
    }

    /// A rule's name may select several of its rollouts: the last opened is meant.
    fn newest(&self) -> Option<&wire::Rollout> {
        self.rollouts.values().max_by_key(|rollout| rollout.opened)
    }

    fn show(&mut self, event: &FeedEvent) -> Result<(), Failure> {
        match event.name.as_str() {
            "rollout" => self.rollout(read(&event.data)?, &event.data),
            "decision" => self.decision(read(&event.data)?, &event.data),
            // `missed` is followed by the rollouts as they are, `bye` by the end
            _ => Ok(()),
        }
    }

    fn rollout(&mut self, rollout: wire::Rollout, data: &str) -> Result<(), Failure> {
        let known = self.rollouts.get(&rollout.id).is_some_and(|old| old.decision == rollout.decision);
        let text = render::line(&rollout);
        self.keep(rollout);
        // after a reconnect the same is told again: not twice to people
        if known && !self.redraw { Ok(()) } else { self.put("rollout", data, &text) }
    }

    fn decision(&mut self, line: wire::EventLine, data: &str) -> Result<(), Failure> {
        let text = render::event(&line, self.style);
        let quiet = line.action == "hold" && self.rollouts.get(&line.rollout).is_some_and(|old| same_to_a_reader(old, &line.view));
        self.keep(line.view);
        if quiet && !self.redraw && !self.json { Ok(()) } else { self.put("decision", data, &text) }
    }

    fn keep(&mut self, rollout: wire::Rollout) {
        self.heard += 1;
        self.rollouts.insert(rollout.id.clone(), rollout);
    }

    fn put(&mut self, name: &str, data: &str, text: &str) -> Result<(), Failure> {
        if self.json {
            return output::write(&format!("{{\"event\":\"{name}\",\"data\":{data}}}\n"));
        }
        if self.redraw { self.draw() } else { output::write(text) }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let frame = self.frame();
        output::write(&frame)
    }

    /// The screen as it is now, drawn over the one before.
    fn frame(&mut self) -> String {
        let text = match self.newest() {
            Some(rollout) if self.one => render::page(rollout, self.style),
            _ => {
                let mut all: Vec<wire::Rollout> = self.rollouts.values().cloned().collect();
                all.sort_by_key(|rollout| std::cmp::Reverse(rollout.opened));
                render::list(&all, self.style)
            }
        };
        let clear = if std::mem::replace(&mut self.drawn, true) { "" } else { CLEAR };
        format!("{clear}{HOME}{}{CLEAR_BELOW}", text.replace('\n', &format!("{CLEAR_LINE}\n")))
    }
}

/// Ticks that change nothing a reader of lines would act on are not worth a line.
fn same_to_a_reader(old: &wire::Rollout, new: &wire::Rollout) -> bool {
    let whys = |rollout: &wire::Rollout| rollout.holds.iter().map(|hold| hold.why.clone()).collect::<Vec<_>>();
    old.state == new.state && old.verdict == new.verdict && old.weight_permille == new.weight_permille && whys(old) == whys(new)
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, Failure> {
    let document: Value =
        serde_json::from_str(data).map_err(|error| Failure::Unreachable(format!("the feed has what is no JSON: {error}")))?;
    client::typed(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawn_over_the_one_before() {
        let mut screen = Screen::new(false, false);
        assert_eq!(screen.frame(), "\x1b[2J\x1b[Hno rollouts\x1b[K\n\x1b[J");
        assert_eq!(screen.frame(), "\x1b[Hno rollouts\x1b[K\n\x1b[J");
    }
}
