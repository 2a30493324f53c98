//! The two acts, and how they are shown.

use super::stage::Stage;
use crate::api::wire;
use crate::cli::client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::render;
use serde_json::json;
use std::time::{Duration, Instant};

/// Longest an act may take; a healthy rollout of the demo takes about 35 s.
const ACT_MAX: Duration = Duration::from_secs(75);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// Share of failing requests of the faulty version.
const ERRORS_OF_ACT_TWO: f64 = 0.15;

/// What one act shows.
struct Act {
    title: &'static str,
    version: &'static str,
    errors: f64,
    ends: &'static str,
    /// It ends earlier in what it must not.
    moral: &'static str,
}

const ACTS: [Act; 2] = [
    Act {
        title: "Act one: a healthy canary",
        version: "2.0.0",
        errors: super::stage::ERRORS_HEALTHY,
        ends: "succeeded",
        moral: "it went to 100 % step by step and was promoted: the roles are swapped",
    },
    Act {
        title: "Act two: the next release fails one request in seven",
        version: "2.1.0",
        errors: ERRORS_OF_ACT_TWO,
        ends: "rolled-back",
        moral: "its weight is back at 0, and the version that worked has all the traffic again",
    },
];

/// Plays both; was each as it should be?
pub(super) async fn play(stage: &Stage, json: bool) -> Result<bool, Failure> {
    for act in &ACTS {
        match json {
            true => output::write_event("act", &json!({ "title": act.title, "version": act.version, "errors": act.errors }))?,
            false => output::write(&format!("\n{}\n\n", act.title))?,
        }
        stage.set_canary_errors(act.errors).await?;
        let last = play_one(stage, act, json).await?;
        close(stage, act, &last, json)?;
        if last.state != act.ends {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What became of an act, and of its users.
fn close(stage: &Stage, act: &Act, last: &wire::Rollout, json: bool) -> Result<(), Failure> {
    let users = stage.users();
    if json {
        let counts = json!({ "requests": users.sent, "failed": users.failed, "given-up": users.given_up });
        let data = json!({ "title": act.title, "as-expected": last.state == act.ends, "users": counts, "rollout": last });
        return output::write_event("act-over", &data);
    }
    output::write(&format!(
        "{}\n  {}\n  users so far: {} requests, {} failed, {} given up\n",
        render::page(last, output::style()),
        if last.state == act.ends { act.moral } else { "this is not how the act should end" },
        users.sent,
        users.failed,
        users.given_up
    ))
}

async fn play_one(stage: &Stage, act: &Act, json: bool) -> Result<wire::Rollout, Failure> {
    let client = stage.client();
    let started = client.post(&["rules", super::stage::RULE, "start"], &json!({ "version": act.version })).await?;
    let id = client::typed::<wire::Started>(started)?.rollout;
    let mut screen = Screen { json, ..Screen::default() };
    let began = Instant::now();
    loop {
        let view: wire::Rollout = client::typed(client.get(&["rollouts", &id]).await?)?;
        if view.over || began.elapsed() > ACT_MAX {
            screen.clear()?;
            return Ok(view);
        }
        screen.show(&view)?;
        tokio::time::sleep(FRAME).await;
    }
}

/// On a terminal the page of the rollout, redrawn in place; elsewhere a line whenever something changed.
#[derive(Default)]
struct Screen {
    json: bool,
    lines: usize,
    said: String,
}

impl Screen {
    fn show(&mut self, view: &wire::Rollout) -> Result<(), Failure> {
        if self.json {
            let line = render::line(view);
            return if line == self.said { Ok(()) } else { self.event(view, line) };
        }
        if output::terminal() {
            let page = render::page(view, output::style());
            let redraw = format!("{}{}", self.up(), page.lines().map(|l| format!("{l}\x1b[K\n")).collect::<String>());
            self.lines = page.lines().count();
            return output::write(&redraw);
        }
        let line = render::line(view);
        if line != self.said {
            output::write(&line)?;
            self.said = line;
        }
        Ok(())
    }

    fn event(&mut self, view: &wire::Rollout, line: String) -> Result<(), Failure> {
        self.said = line;
        output::write_event("rollout", &json!(view))
    }

    fn clear(&mut self) -> Result<(), Failure> {
        let up = self.up();
        self.lines = 0;
        if up.is_empty() { Ok(()) } else { output::write(&up) }
    }

    /// Back to where the last page began, with everything below it gone.
    fn up(&self) -> String {
        if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) }
    }
}
