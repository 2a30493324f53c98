//! Seeded chance: the same seed gives the same demo.

/// Steele, Lea and Flood's SplitMix64: small, fast, passes BigCrush. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`, 53 bits.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Mean 0, variance 1 (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right_and_the_seed_repeats() {
        let n = 100_000;
        let mean = |f: &mut dyn FnMut(&mut Chance) -> f64| {
            let mut chance = Chance::new(7);
            (0..n).map(|_| f(&mut chance)).sum::<f64>() / f64::from(n)
        };
        // each bound is above 5 standard errors
        assert!((mean(&mut |c| c.uniform()) - 0.5).abs() < 0.005);
        assert!((mean(&mut |c| c.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut |c| c.normal()).abs() < 0.02);
        assert!((mean(&mut |c| c.normal().powi(2)) - 1.0).abs() < 0.025);
        assert_eq!(Chance::new(3).next(), Chance::new(3).next());
    }
}
