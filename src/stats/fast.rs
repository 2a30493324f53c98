//! `exp` and `ln_1p` two at a time and without branches. Judging is made of little else: some 140 of each per poll and service,
//! which called one by one would cost more than everything beside them. Within 1e-15 of the library's (tested), over the ranges
//! the processes use.
//!
//! Reduction and coefficients are those of fdlibm (`e_exp.c`, `e_log.c`; Sun Microsystems, freely usable with this notice).

use std::f64::consts::LOG2_E;
use wide::{f64x2, u64x2};

/// `1.5 * 2^52`: adding it rounds to an integer and leaves that in the low bits.
const TO_INTEGER: f64 = 6_755_399_441_055_744.0;
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const BIAS: u64 = 1023;
const MANTISSA: u32 = 52;

const P: [f64; 5] = [
    1.666_666_666_666_660_2e-1,
    -2.777_777_777_701_559_3e-3,
    6.613_756_321_437_934e-5,
    -1.653_390_220_546_525_2e-6,
    4.138_136_797_057_238_5e-8,
];
const Q: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];

#[inline(always)]
fn both(x: f64) -> f64x2 {
    f64x2::splat(x)
}

/// `c[0] + x (c[1] + x (...))`.
#[inline(always)]
fn polynomial<const N: usize>(c: &[f64; N], x: f64x2) -> f64x2 {
    let mut sum = both(c[N - 1]);
    for k in (0..N - 1).rev() {
        sum = both(c[k]) + x * sum;
    }
    sum
}

#[inline(always)]
fn exp_pair(x: f64x2) -> f64x2 {
    let x = x.fast_max(both(-708.0));
    let shifted = x * both(LOG2_E) + both(TO_INTEGER);
    let k = shifted - both(TO_INTEGER);
    let (high, low) = (x - k * both(LN2_HIGH), k * both(LN2_LOW));
    let r = high - low;
    let t = r * r;
    let c = r - t * polynomial(&P, t);
    let y = both(1.0) - ((low - (r * c) / (both(2.0) - c)) - high);
    y * f64x2::from_bits((shifted.to_bits() + u64x2::splat(BIAS)) << MANTISSA)
}

#[inline(always)]
fn ln_1p_pair(y: f64x2) -> f64x2 {
    const SQRT_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
    const TWO_52: u64 = 0x4330_0000_0000_0000;
    let bits = (both(1.0) + y).to_bits();
    // 1 + y = 2^k m, m in [sqrt(1/2), sqrt(2))
    let biased = (bits + u64x2::splat((BIAS << MANTISSA) - SQRT_HALF)) >> MANTISSA;
    let k = f64x2::from_bits(u64x2::splat(TWO_52) | biased) - both(4_503_599_627_370_496.0 + 1023.0);
    let m = f64x2::from_bits(bits + u64x2::splat(BIAS << MANTISSA) - (biased << MANTISSA));
    let f = m - both(1.0);
    let s = f / (both(2.0) + f);
    let z = s * s;
    let r = z * polynomial(&Q, z);
    let half = both(0.5) * f * f;
    k * both(LN2_HIGH) - ((half - (s * (half + r) + k * both(LN2_LOW))) - f)
}

#[inline(always)]
fn each<const K: usize>(v: &[f64; K], f: impl Fn(f64x2) -> f64x2) -> [f64; K] {
    let mut out = [0.0; K];
    let (pairs, rest) = v.as_chunks::<2>();
    let (out_pairs, out_rest) = out.as_chunks_mut::<2>();
    for (o, p) in out_pairs.iter_mut().zip(pairs) {
        *o = f(f64x2::new(*p)).to_array();
    }
    if let ([o], [x]) = (out_rest, rest) {
        *o = f(both(*x)).to_array()[0];
    }
    out
}

/// `e^x` for each `x <= 700`; below -708 it is 3e-308, which is nothing beside the 1 of every sum here. `-inf` included; not NaN.
#[inline(always)]
pub fn exp_each<const K: usize>(x: &[f64; K]) -> [f64; K] {
    each(x, exp_pair)
}

/// `ln(1 + y)` for each `-1 < y`, `1 + y` neither subnormal nor infinite. The digits of `y` that `1 + y` cannot hold are lost: an
/// error of at most 2e-16 beside the exact `ln_1p`. It multiplies counts of bad events, or is added to numbers near 1: 1e-11 nats
/// at 100 000 errors per poll.
#[inline(always)]
pub fn ln_1p_each<const K: usize>(y: &[f64; K]) -> [f64; K] {
    each(y, ln_1p_pair)
}

/// `ln(1 + e^x)` for each `x <= 0`.
#[inline(always)]
pub fn ln_1p_exp_each<const K: usize>(x: &[f64; K]) -> [f64; K] {
    each(x, |x| ln_1p_pair(exp_pair(x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_are_exact() {
        let [one, nothing, _] = exp_each(&[0.0, f64::NEG_INFINITY, -1.0]);
        assert_eq!(one, 1.0);
        assert!(nothing < 1e-307);
        assert_eq!(ln_1p_each(&[0.0; 3]), [0.0; 3]);
    }

    proptest! {
        #[test]
        fn as_the_library_says(x in -700.0..700.0f64, small in -1e-3..1e-3f64, y in -0.999..200.0f64) {
            let close = |got: f64, want: f64| (got - want).abs() <= 2e-16 + 1e-15 * want.abs();
            for (got, x) in exp_each(&[x, small.min(0.0), x / 700.0]).into_iter().zip([x, small.min(0.0), x / 700.0]) {
                prop_assert!((got - x.exp()).abs() <= 1e-15 * x.exp(), "exp {x}");
            }
            for (got, y) in ln_1p_each(&[small, y, y / 200.0]).into_iter().zip([small, y, y / 200.0]) {
                prop_assert!(close(got, y.ln_1p()), "ln_1p {y}: {got}");
            }
            let x = -x.abs();
            prop_assert!(close(ln_1p_exp_each(&[x])[0], x.exp().ln_1p()), "ln_1p exp {x}");
        }
    }
}
