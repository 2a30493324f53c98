//! A child process that cannot outlive its handle, nor the test process.
//!
//! Each child has a thread of its own that spawned it and lives until the handle is dropped: the kernel's parent-death
//! signal, which PyPI's Envoy asks for and `setpriv` gives the others, is sent when the parent *thread* ends.

use super::{READY_MAX, http, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest a component may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Lines of its log shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    hold: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `program`; both its outputs are appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn spawn(name: &str, program: &Path, arguments: &[OsString], log: &Path) -> Self {
        Self::spawn_with(name, program, arguments, &[], log)
    }

    /// The same with environment variables.
    pub(crate) fn spawn_with(name: &str, program: &Path, arguments: &[OsString], environment: &[(&str, &str)], log: &Path) -> Self {
        let mut command = mortal(program);
        let out = File::options().create(true).append(true).open(log).expect("the log can be opened");
        command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("a second handle")).stderr(out);
        let (hold, released) = channel();
        let (child, keeper) = keep(name, command, released);
        let child = child.unwrap_or_else(|e| panic!("{} cannot be started: {e}", program.display()));
        Self { name: name.to_owned(), child, log: log.to_owned(), hold: Some(hold), keeper: Some(keeper), ended: None }
    }

    /// What it was called when it was started.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child can be waited for");
        }
        self.ended
    }

    /// Waits until `GET path` on its port answers 200.
    ///
    /// # Panics
    /// If it ends first or takes longer than [`READY_MAX`]; its log is in the message.
    pub(crate) fn wait_ready(&mut self, port: u16, path: &str) {
        let ready = poll(READY_MAX, || {
            if let Some(status) = self.ended() {
                panic!("{} ended before it was ready ({status}):\n{}", self.name, self.log_tail());
            }
            let answer = http::get(port, path, Duration::from_secs(2)).ok()?;
            (answer.status == 200).then_some(())
        });
        assert!(ready.is_some(), "{} was not ready on {port}{path} within {READY_MAX:?}:\n{}", self.name, self.log_tail());
    }

    /// # Panics
    /// If it has ended; its log is in the message.
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}):\n{}", self.name, self.log_tail());
        }
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Panics
    /// If it does not end within [`STOP_MAX`] (it is killed first).
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let ended = poll(STOP_MAX, || self.ended());
        ended.unwrap_or_else(|| {
            self.kill();
            panic!("{} did not end within {STOP_MAX:?} of SIGTERM:\n{}", self.name, self.log_tail())
        })
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Sends a signal, such as `Signal::STOP` for a process that hangs; nothing if it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // a number that was not waited for is still ours: no other process can have it
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        drop(self.hold.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        if thread::panicking() {
            eprintln!("--- the end of the log of {} ---\n{}", self.name, self.log_tail());
        }
    }
}

/// The command that gets SIGKILL when the thread that started it ends, where `setpriv` (util-linux) is there to ask for it.
fn mortal(program: &Path) -> Command {
    match super::in_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Spawns on a new thread that stays until `released` hangs up.
fn keep(name: &str, mut command: Command, released: Receiver<()>) -> (std::io::Result<Child>, JoinHandle<()>) {
    let (tell, told) = channel();
    let keeper = thread::Builder::new().name(format!("keeper of {name}"));
    let keeper = keeper
        .spawn(move || {
            let _ = tell.send(command.spawn());
            let _ = released.recv();
        })
        .expect("a thread");
    (told.recv().expect("the keeper answers"), keeper)
}
