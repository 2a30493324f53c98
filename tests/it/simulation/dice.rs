//! Random numbers that are the same in every build: a seed kept for a regression must mean the same world next year.

use statrs::function::gamma::ln_gamma;

/// xoshiro256++, seeded by splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Dice([u64; 4]);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    pub(super) fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// In `(0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// In `0..n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n - 1)
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Standard normal (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Poisson: products of uniforms for small means, PTRS (Hormann 1993) else.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean < 10.0 {
            let (limit, mut product, mut k) = ((-mean).exp(), self.unit(), 0);
            while product > limit {
                product *= self.unit();
                k += 1;
            }
            return k;
        }
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.02483 * b;
        let (inv_alpha, v_r) = (1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0));
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= v_r {
                return k as u64;
            }
            if k < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            if v.ln() + inv_alpha.ln() - (a / (us * us) + b).ln() <= k * mean.ln() - mean - ln_gamma(k + 1.0) {
                return k as u64;
            }
        }
    }

    /// Binomial: inversion for small means, BTRS (Hormann 1993) else.
    pub(super) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p <= 0.0 {
            return 0;
        }
        if p >= 1.0 {
            return n;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        if n as f64 * p < 10.0 { self.binomial_by_inversion(n, p) } else { self.binomial_by_rejection(n, p) }
    }

    fn binomial_by_inversion(&mut self, n: u64, p: f64) -> u64 {
        let (odds, mut u) = (p / (1.0 - p), self.unit());
        let (mut mass, mut k) = ((n as f64 * (-p).ln_1p()).exp(), 0);
        while u > mass && k < n {
            u -= mass;
            k += 1;
            mass *= odds * (n - k + 1) as f64 / k as f64;
        }
        k
    }

    fn binomial_by_rejection(&mut self, n: u64, p: f64) -> u64 {
        let (n, q) = (n as f64, 1.0 - p);
        let spq = (n * p * q).sqrt();
        let b = 1.15 + 2.53 * spq;
        let a = -0.0873 + 0.0248 * b + 0.01 * p;
        let (c, v_r, alpha, ln_odds) = (n * p + 0.5, 0.92 - 4.2 / b, (2.83 + 5.1 / b) * spq, (p / q).ln());
        let mode = ((n + 1.0) * p).floor();
        let h = ln_gamma(mode + 1.0) + ln_gamma(n - mode + 1.0);
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + c).floor();
            if us >= 0.07 && v <= v_r {
                return k as u64;
            }
            if k < 0.0 || k > n {
                continue;
            }
            if (v * alpha / (a / (us * us) + b)).ln() <= h - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) + (k - mode) * ln_odds {
                return k as u64;
            }
        }
    }

    /// `n` things over cells of these probabilities (sum 1).
    pub(super) fn multinomial(&mut self, n: u64, cells: &[f64]) -> Vec<u64> {
        let (mut left, mut mass) = (n, 1.0);
        let mut out = Vec::with_capacity(cells.len());
        for p in cells {
            let k = if mass > 0.0 { self.binomial(left, (p / mass).min(1.0)) } else { 0 };
            out.push(k);
            left -= k;
            mass -= p;
        }
        if let Some(last) = out.last_mut() {
            *last += left;
        }
        out
    }

    /// Poisson many clumps of geometric size with this mean: `n p` things on average, at most `n`.
    pub(super) fn clumps(&mut self, n: u64, p: f64, mean: f64) -> u64 {
        let clumps = self.poisson(n as f64 * p / mean);
        let ln_more = (1.0 - 1.0 / mean).ln();
        let size = |dice: &mut Self| 1 + (dice.unit().ln() / ln_more).floor() as u64;
        (0..clumps).map(|_| size(self)).sum::<u64>().min(n)
    }
}

/// Mean and variance of 40 000 draws, against the distribution's; 5 standard errors of each.
#[test]
fn draws_have_the_moments_of_their_distribution() {
    let mut dice = Dice::new(1);
    let mut check = |name: &str, mean: f64, variance: f64, mut draw: Box<dyn FnMut(&mut Dice) -> f64>| {
        let n = 40_000;
        let draws: Vec<f64> = (0..n).map(|_| draw(&mut dice)).collect();
        let m = draws.iter().sum::<f64>() / n as f64;
        let squares: Vec<f64> = draws.iter().map(|x| (x - m).powi(2)).collect();
        let v = squares.iter().sum::<f64>() / n as f64;
        let v_sd = (squares.iter().map(|s| (s - v).powi(2)).sum::<f64>() / n as f64 / n as f64).sqrt();
        assert!((m - mean).abs() < 5.0 * (variance / n as f64).sqrt(), "{name}: mean {m}, not {mean}");
        assert!((v - variance).abs() < 5.0 * v_sd, "{name}: variance {v}, not {variance}");
    };
    check("normal", 0.0, 1.0, Box::new(Dice::normal));
    for mean in [0.3, 7.0, 10.0, 40.0, 3000.0] {
        check("poisson", mean, mean, Box::new(move |d| d.poisson(mean) as f64));
    }
    for (n, p) in [(20u64, 0.3), (3000, 0.001), (150, 0.2), (3000, 0.4), (3000, 0.9)] {
        let (mean, variance) = (n as f64 * p, n as f64 * p * (1.0 - p));
        check("binomial", mean, variance, Box::new(move |d| d.binomial(n, p) as f64));
    }
    // a clump of geometric size g: E g^2 = 2 mean^2 - mean
    let (n, p, mean) = (100_000u64, 0.001, 5.0);
    check("clumps", 100.0, 20.0 * (2.0 * mean * mean - mean), Box::new(move |d| d.clumps(n, p, mean) as f64));
    check("multinomial", 60.0, 60.0 * 0.4, Box::new(|d| d.multinomial(100, &[0.1, 0.6, 0.3])[1] as f64));
}
