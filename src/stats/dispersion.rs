//! How far counts are from independent requests (STATISTICS 3). Errors come in bursts; uncorrected, every count method rolls
//! back healthy canaries (up to 100 % of them, 14.2). Each poll's factor is divided by `phi >= 1`.
//!
//! [`BaselineDispersion`] never looks at the canary, so a faulty canary cannot hide behind it; [`PairedDispersion`] removes
//! what both arms share.

use arrayvec::ArrayVec;

/// Most block lengths: one poll and three scales.
pub const SCALES_MAX: usize = 4;
/// Prior weight of the baseline's dispersion.
const PRIOR_WEIGHT: f64 = 10.0;
/// Prior weight of the paired one, and per block.
const PAIR_WEIGHT: f64 = 20.0;
const PAIR_BLOCKS: f64 = 8.0;

/// Block lengths in polls of `dt_s` seconds: 1 and the scales `blocks_s` rounded up, ascending, each once.
pub fn scales(dt_s: f64, blocks_s: &[f64]) -> ArrayVec<u64, SCALES_MAX> {
    let mut out: ArrayVec<u64, SCALES_MAX> = ArrayVec::new();
    out.push(1);
    for s in blocks_s.iter().take(SCALES_MAX - 1) {
        // a scaled method divides by numbers that binary cannot hold
        let polls = ((s / dt_s - 1e-9).ceil().max(1.0)) as u64;
        if !out.contains(&polls) {
            out.push(polls);
        }
    }
    out.sort_unstable();
    out
}

/// Persisted sums of one scale (section 3: the second rollout has history).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScaleSums {
    /// Polls per block.
    pub polls: u64,
    /// Squared deviations.
    pub num: f64,
    /// Their expectation for independent requests.
    pub den: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    length: u64,
    /// Polls in the open block.
    filled: u64,
    /// Blocks closed.
    closed: u64,
    x: f64,
    n: f64,
    before: Option<(f64, f64)>,
    num: f64,
    den: f64,
}

impl Block {
    fn add(&mut self, x: f64, n: f64) {
        self.x += x;
        self.n += n;
        self.filled += 1;
        if self.filled < self.length {
            return;
        }
        self.filled = 0;
        self.closed += 1;
        if let Some((x0, n0)) = self.before {
            let all = self.n + n0;
            let th = if all > 0.0 { self.n / all } else { 0.5 };
            let m = self.x + x0;
            self.num += (self.x - th * m).powi(2);
            self.den += m * th * (1.0 - th);
        }
        self.before = Some((self.x, self.n));
        (self.x, self.n) = (0.0, 0.0);
    }
}

/// Dispersion of the baseline between neighbouring blocks of several lengths.
#[derive(Clone, Debug)]
pub struct BaselineDispersion {
    blocks: ArrayVec<Block, SCALES_MAX>,
    learning: bool,
}

impl BaselineDispersion {
    /// To be fed with history first; `scales` from [`scales`].
    pub fn with_history(scales: &[u64]) -> Self {
        Self::new(scales, false)
    }

    /// Learned from the live baseline alone: excess at a short scale is assumed to grow linearly with the block length until
    /// enough long blocks say otherwise.
    pub fn learning(scales: &[u64]) -> Self {
        Self::new(scales, true)
    }

    /// With what earlier rollouts left.
    pub fn with_sums(sums: &[ScaleSums]) -> Self {
        let blocks =
            sums.iter().take(SCALES_MAX).map(|s| Block { length: s.polls.max(1), num: s.num, den: s.den, ..Block::default() }).collect();
        Self { blocks, learning: false }
    }

    fn new(scales: &[u64], learning: bool) -> Self {
        let blocks = scales.iter().take(SCALES_MAX).map(|&length| Block { length, ..Block::default() }).collect();
        Self { blocks, learning }
    }

    /// Is it learned from live polls only?
    pub fn is_learning(&self) -> bool {
        self.learning
    }

    /// One poll of the baseline: `x` bad out of `n`.
    pub fn add(&mut self, x: f64, n: f64) {
        self.blocks.iter_mut().for_each(|b| b.add(x, n));
    }

    /// `phi_base >= 1`.
    pub fn phi(&self) -> f64 {
        if self.learning { self.phi_learning() } else { self.phi_history() }
    }

    fn phi_history(&self) -> f64 {
        self.blocks.iter().map(|b| (b.num + PRIOR_WEIGHT) / (b.den + PRIOR_WEIGHT)).fold(1.0, f64::max)
    }

    fn phi_learning(&self) -> f64 {
        let mut largest: f64 = 1.0;
        let (mut prior, mut per_block) = (2.0, 2.0);
        for (i, b) in self.blocks.iter().enumerate() {
            let pairs = b.closed.saturating_sub(1).max(1) as f64;
            let weight = PRIOR_WEIGHT + per_block * b.den / pairs;
            let phi = ((b.num + weight * prior) / (b.den + weight)).max(1.0);
            largest = largest.max(phi);
            if let Some(next) = self.blocks.get(i + 1) {
                let excess = (phi - 1.0 - (2.0 / pairs).sqrt()).max(0.0);
                prior = 1.0 + excess * next.length as f64 / b.length as f64;
                per_block = 4.0;
            }
        }
        largest
    }

    /// What to persist.
    pub fn sums(&self) -> ArrayVec<ScaleSums, SCALES_MAX> {
        self.blocks.iter().map(|b| ScaleSums { polls: b.length, num: b.num, den: b.den }).collect()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct PairBlock {
    length: u64,
    filled: u64,
    closed: u64,
    residual: f64,
    variance: f64,
    num: f64,
    den: f64,
}

/// Dispersion of the canary around what the baseline predicts for the same poll.
#[derive(Clone, Debug)]
pub struct PairedDispersion {
    blocks: ArrayVec<PairBlock, SCALES_MAX>,
    seen: f64,
    expected: f64,
}

impl PairedDispersion {
    /// `scales` from [`scales`].
    pub fn new(scales: &[u64]) -> Self {
        let blocks = scales.iter().take(SCALES_MAX).map(|&length| PairBlock { length, ..PairBlock::default() }).collect();
        Self { blocks, seen: 0.0, expected: 0.0 }
    }

    /// One poll of both arms.
    pub fn add(&mut self, x_b: f64, n_b: f64, x_c: f64, n_c: f64) {
        let rho = (self.seen + 1.0) / (self.expected + 1.0);
        let m = x_b + x_c;
        let all = n_c * rho + n_b;
        let th = if all > 0.0 { n_c * rho / all } else { 0.0 };
        for b in &mut self.blocks {
            b.residual += x_c - th * m;
            b.variance += m * th * (1.0 - th);
            b.filled += 1;
            if b.filled == b.length {
                b.filled = 0;
                b.closed += 1;
                b.num += b.residual.powi(2);
                b.den += b.variance;
                (b.residual, b.variance) = (0.0, 0.0);
            }
        }
        self.seen += x_c;
        if n_b > 0.0 {
            self.expected += x_b * n_c / n_b;
        }
    }

    /// `phi_pair >= 1`, drawn to `phi_base` until each scale has blocks of its own.
    pub fn phi(&self, phi_base: f64) -> f64 {
        let scale = |b: &PairBlock| {
            let count = b.closed.max(1) as f64;
            let weight = PAIR_WEIGHT + PAIR_BLOCKS * b.den / count;
            (b.num + weight * phi_base) / (b.den + weight)
        };
        self.blocks.iter().map(scale).fold(1.0, f64::max)
    }
}

/// Both estimates and the one in use, `clamp(min(base, pair), 1, inf)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phi {
    /// Of the baseline.
    pub base: f64,
    /// Paired.
    pub pair: f64,
    /// In use where both arms are looked at.
    pub used: f64,
}

/// The two estimators of one set of polls.
#[derive(Clone, Debug)]
pub struct Estimators {
    /// Of the baseline.
    pub base: BaselineDispersion,
    /// Paired.
    pub pair: PairedDispersion,
}

impl Estimators {
    /// As estimated so far.
    pub fn phi(&self) -> Phi {
        let base = self.base.phi();
        let pair = self.pair.phi(base);
        Phi { base, pair, used: base.min(pair).max(1.0) }
    }

    /// One poll.
    pub fn add(&mut self, x_b: f64, n_b: f64, x_c: f64, n_c: f64) {
        self.base.add(x_b, n_b);
        self.pair.add(x_b, n_b, x_c, n_c);
    }
}
