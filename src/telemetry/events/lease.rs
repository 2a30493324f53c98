//! Which of several processes acts.

/// A process waits for the lease.
#[derive(Clone, Copy, Debug)]
pub struct StandsBy<'a> {
    /// Which.
    pub lease: &'a str,
    /// Who holds it, or why it cannot be had.
    pub news: &'a str,
}

impl StandsBy<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::info!(lease = self.lease, "stands by: {}", self.news);
    }
}

/// The lease is ours.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTaken<'a> {
    /// Which.
    pub lease: &'a str,
    /// How often it had changed hands.
    pub epoch: u64,
}

impl LeaseTaken<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::info!(lease = self.lease, epoch = self.epoch, "holds the lease: takes up the rollouts");
    }
}

/// The lease is lost: everything stops.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLost<'a> {
    /// Why.
    pub why: &'a str,
}

impl LeaseLost<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::error!("{}: everything stops before others may act", self.why);
    }
}
