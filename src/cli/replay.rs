//! `canaryd replay`: a recording under a rule, tick by tick in virtual time; or a rollout of the journal, decided again.

use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::render;
use super::run::settings as read_settings;
use crate::api::wire;
use crate::app;
use crate::config::{Flags, Known, read_rule};
use crate::model::journal::Opened;
use crate::model::{Begin, RolloutId, Rule, Side};
use crate::runtime;
use crate::runtime::replay::{Rehearsal, rebuild};
use crate::source::Recording;
use crate::source::recording::RecordedTick;
use crate::store::{Sqlite, Store};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Largest recording read, bytes.
const RECORDING_MAX: u64 = 1 << 30;

/// What `replay` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A recording (JSON lines), or the name of a rollout in the journal
    #[arg(value_name = "FILE|ROLLOUT")]
    what: String,
    /// Judge a recording by this rule
    #[arg(long, value_name = "FILE")]
    rule: Option<PathBuf>,
    /// Folder of the journal, for a rollout
    #[arg(long, value_name = "DIR", default_value = "canaryd-data")]
    data: PathBuf,
    /// How many times faster than real time the recording's clock ran
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    time_scale: f64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let settings = read_settings(None, Flags::new())?;
    let known = Known { without_settings: true, ..app::known(&settings, &app::packs(&settings)?) };
    match &args.rule {
        Some(rule) => recording(&args, rule, &known),
        None if Path::new(&args.what).is_file() => {
            Err(Failure::Usage("a recording is judged by a rule: give one with --rule FILE".to_owned()))
        }
        None => journal(&args, &known).await,
    }
}

fn recording(args: &Args, rule_file: &Path, known: &Known) -> Result<(), Failure> {
    if !(args.time_scale.is_finite() && args.time_scale > 0.0) {
        return Err(Failure::Usage(format!("time scale {} is not above 0: 1 is real time", args.time_scale)));
    }
    let (rule, text) = read_rule(rule_file, known).map_err(|report| Failure::Refused(report.to_string()))?;
    let recording = Recording::parse(&read(Path::new(&args.what))?).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(|p| format!("{}: {p}", args.what)).collect();
        Failure::Refused(all.join("\n"))
    })?;
    let opened = opened(args, &rule, text.to_string(), &recording);
    let mut rehearsal = Rehearsal::begin(&rule, &opened, recording.header.start).map_err(Failure::Refused)?;
    for tick in recording.ticks {
        say(&mut rehearsal, tick, args.output)?;
        if rehearsal.is_over() {
            break;
        }
    }
    if args.output.json() { Ok(()) } else { output::write(&render::page(&wire::Rollout::from(rehearsal.view()), output::style())) }
}

fn opened(args: &Args, rule: &Rule, rule_text: String, recording: &Recording) -> Opened {
    Opened {
        id: RolloutId("replay".to_owned()),
        rule: rule.name.clone(),
        rule_text,
        attached: rule.attached.clone(),
        file: rule.file.display().to_string(),
        interval: recording.header.interval,
        bounds_ms: recording.header.bounds_ms.clone(),
        scale: args.time_scale,
        incarnation: 0,
        history: recording.history.clone(),
        begin: Begin::new(Side::Second, "", "replay"),
        kept: None,
    }
}

/// One tick: a line of JSON with evidence, verdicts and the decision, or a line of text where something was decided.
fn say(rehearsal: &mut Rehearsal, tick: RecordedTick, output: OutputArgs) -> Result<(), Failure> {
    let rehearsed = rehearsal.tick(tick.at, tick.arms, tick.step);
    let rollout = wire::Rollout::from(rehearsal.view());
    if output.json() {
        let line = json!({
            "at-ms": tick.at.as_millis(),
            "step": rehearsed.poll.step,
            "t-s": rehearsed.judgement.t_s,
            "keep": rehearsed.judgement.keep.iter().map(|k| k.name()).collect::<Vec<_>>(),
            "action": rehearsed.decision.action.name(),
            "rollout": rollout,
        });
        return output::write(&format!("{line}\n"));
    }
    match rehearsed.decision.action {
        crate::model::Action::Hold => Ok(()),
        _ => output::write(&render::line(&rollout)),
    }
}

/// Invariant 1, for one rollout of the journal.
async fn journal(args: &Args, known: &Known) -> Result<(), Failure> {
    let store = Sqlite::open(&args.data).map_err(anyhow::Error::from)?;
    let id = RolloutId(args.what.clone());
    let entries = store.load(&id).await.map_err(|e| Failure::Refused(e.to_string()))?;
    let rebuilt = rebuild(&entries, known, runtime::now()).map_err(|why| Failure::Refused(format!("{id}: {why}")))?;
    let differing = rebuilt.differing.len();
    let summary = json!({
        "rollout": id.0,
        "lines": entries.len(),
        "state": rebuilt.left.decision.state.name(),
        "differing": rebuilt.differing,
    });
    if args.output.json() {
        output::write_json(&summary)?;
    } else {
        let state = rebuilt.left.decision.state.name();
        output::write(&format!("{id}: {} lines, {state}: {differing} decisions would be made differently\n", entries.len()))?;
    }
    match differing {
        0 => Ok(()),
        n => Err(Failure::Refused(format!("{n} recorded decisions of {id} are not made again by this build"))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > RECORDING_MAX {
        return Err(wrong(format!("{size} bytes exceed {RECORDING_MAX}")));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))
}
