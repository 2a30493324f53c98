//! What may be asked of one server: how many queries at once, how many a minute, none during a pause it asked for. Shared by
//! everything in this process that asks the same source.

use super::fault::Fault;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Queries a minute a source takes, unless its settings say otherwise. A hundred rollouts ask about 20; a dashboard of thirty
/// panels at 5 s asks 360, and a server of any size answers that without being noticed.
const QUERIES_PER_MINUTE: u32 = 1200;
/// Most queries in flight: more only wait in the server (PACKS 1.1).
pub const IN_FLIGHT_MAX: usize = 4;
/// Longest pause a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The allowance of one source.
#[derive(Debug)]
pub struct Allowance {
    in_flight: Semaphore,
    state: Mutex<State>,
}

/// The books. Takes the time from outside.
#[derive(Debug)]
struct State {
    per_minute: f64,
    /// Queries that may be sent now; below zero where some wait for their turn. At most a minute's.
    left: f64,
    /// When that was so.
    at: Instant,
    /// The server asked not to be asked before this.
    not_before: Option<Instant>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new(QUERIES_PER_MINUTE, IN_FLIGHT_MAX)
    }
}

impl Allowance {
    /// At least one of each.
    pub fn new(per_minute: u32, in_flight_max: usize) -> Self {
        Self { in_flight: Semaphore::new(in_flight_max.max(1)), state: Mutex::new(State::new(per_minute, Instant::now())) }
    }

    /// A place for one query; waits for its turn.
    ///
    /// # Errors
    /// The server's pause lasts, or the turn would come after more than `patience`: the fault is [`Fault::Busy`].
    pub(super) async fn admit(&self, patience: Duration) -> Result<SemaphorePermit<'_>, Fault> {
        self.state.lock().refuse_in_pause(Instant::now())?;
        let turn = self.state.lock().turn(Instant::now(), patience)?;
        tokio::time::sleep(turn).await;
        let closed = |_| Fault::Busy("the source is being closed".to_owned());
        let place = self.in_flight.acquire().await.map_err(closed)?;
        // those before this one may have been told to pause meanwhile
        self.state.lock().refuse_in_pause(Instant::now())?;
        Ok(place)
    }

    /// The server asked for a pause.
    pub(super) fn pause(&self, length: Duration) {
        self.state.lock().pause(Instant::now(), length);
    }
}

impl State {
    fn new(per_minute: u32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        Self { per_minute, left: per_minute, at: now, not_before: None }
    }

    /// Never shortens a pause: answers come in any order.
    fn pause(&mut self, now: Instant, length: Duration) {
        self.not_before = self.not_before.max(Some(now + length.min(PAUSE_MAX)));
    }

    fn refuse_in_pause(&self, now: Instant) -> Result<(), Fault> {
        let left = self.not_before.map_or(Duration::ZERO, |t| t.saturating_duration_since(now));
        if left.is_zero() {
            return Ok(());
        }
        Err(Fault::Busy(format!("the server asked for a pause (Retry-After), {} s of it are left", left.as_secs_f64().ceil())))
    }

    /// Books one query; how long until it may be sent.
    fn turn(&mut self, now: Instant, patience: Duration) -> Result<Duration, Fault> {
        let per_second = self.per_minute / 60.0;
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.left = (self.left + gained).min(self.per_minute);
        self.at = now;
        let wait = Duration::from_secs_f64(((1.0 - self.left) / per_second).max(0.0));
        if wait > patience {
            return Err(Fault::Busy(format!(
                "the source's budget of {} queries a minute is spent: raise its queries_per_minute, or lengthen the rules' ticks",
                self.per_minute
            )));
        }
        self.left -= 1.0;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_minutes_queries_at_once_then_one_after_the_other() {
        let now = Instant::now();
        let mut state = State::new(60, now);
        for _ in 0..60 {
            assert_eq!(state.turn(now, 10 * S), Ok(Duration::ZERO));
        }
        assert_eq!((state.turn(now, 10 * S), state.turn(now, 10 * S)), (Ok(S), Ok(2 * S)), "one after the other");
        let refused = state.turn(now, 2 * S).unwrap_err().to_string();
        assert!(refused.contains("60 queries a minute") && refused.contains("queries_per_minute"), "{refused}");
        // one that was refused has taken nothing
        assert_eq!(state.turn(now + 3 * S, Duration::ZERO), Ok(Duration::ZERO));
        // a quiet hour saves up no more than a minute's
        let later = now + 3600 * S;
        assert_eq!((0..200).filter(|_| state.turn(later, Duration::ZERO).is_ok()).count(), 60);
    }

    #[test]
    fn a_pause_is_kept_whatever_others_were_told() {
        let now = Instant::now();
        let mut state = State::new(60, now);
        state.pause(now, 30 * S);
        state.pause(now, S);
        let words = state.refuse_in_pause(now + 10 * S).unwrap_err().to_string();
        assert!(words.contains("20 s of it are left"), "{words}");
        state.pause(now, 86_400 * S);
        assert!(state.refuse_in_pause(now + PAUSE_MAX).is_ok(), "no server pauses us for a day");
    }

    #[test]
    fn who_waited_for_a_place_learns_of_the_pause_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let allowance = Allowance::new(600, 1);
            let first = allowance.admit(Duration::ZERO).await.unwrap();
            let second = allowance.admit(Duration::ZERO);
            let told = async {
                allowance.pause(9 * S);
                drop(first);
            };
            let (second, ()) = tokio::join!(second, told);
            assert!(matches!(second, Err(Fault::Busy(_))), "and only one is in flight");
        });
    }
}
