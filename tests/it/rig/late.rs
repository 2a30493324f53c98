//! How late this machine is, so that a bound on what the code may take is not one on what the machine gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is asked of the machine, again and again; what it takes beyond that is its lateness.
const PAUSE: Duration = Duration::from_millis(5);

/// Time that passes, without that in which a thread with next to nothing to do had to wait for a processor.
pub(crate) struct Timed {
    begun: Instant,
    over: Arc<AtomicBool>,
    late: JoinHandle<Duration>,
}

impl Timed {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&over);
        let late = thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(PAUSE);
                late += begun.elapsed().saturating_sub(PAUSE);
            }
            late
        });
        Self { begun: Instant::now(), over, late }
    }

    /// How long it took, less the machine's lateness, and that.
    pub(crate) fn end(self) -> (Duration, Duration) {
        let took = self.begun.elapsed();
        self.over.store(true, Ordering::Relaxed);
        let late = self.late.join().expect("it only sleeps");
        (took.saturating_sub(late), late)
    }
}
