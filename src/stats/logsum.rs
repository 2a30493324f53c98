//! Sums of numbers given by their logarithms.

use super::fast::{exp_each, ln_1p_exp_each};

/// `ln(e^a + e^b)`; `-inf` stands for zero.
pub fn ln_add(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY {
        return b;
    }
    if b == f64::NEG_INFINITY {
        return a;
    }
    let gap = (a - b).abs();
    // e^-37 is below half an ulp of 1: the smaller one does not show
    if gap > 37.0 { a.max(b) } else { a.max(b) + ln_1p_exp_each(&[-gap])[0] }
}

/// `ln(e^l + e^b)` for every `l`.
pub fn ln_add_each<const K: usize>(l: &[f64; K], b: f64) -> [f64; K] {
    if b == f64::NEG_INFINITY {
        return *l;
    }
    let mut out = ln_1p_exp_each(&l.map(|l| -(l - b).abs()));
    for (o, l) in out.iter_mut().zip(l) {
        *o += if *l > b { *l } else { b };
    }
    out
}

/// `ln(sum e^v)`; `-inf` for a list of zeros.
pub fn ln_sum<const K: usize>(v: &[f64; K]) -> f64 {
    let top = largest(v);
    if top == f64::NEG_INFINITY { top } else { top + scaled_sum(v, top).ln() }
}

/// `ln(sum e^v + rest)`, `rest >= 0` a plain number.
pub fn ln_sum_with<const K: usize>(v: &[f64; K], rest: f64) -> f64 {
    if rest <= 0.0 {
        return ln_sum(v);
    }
    let top = largest(v);
    if top <= 0.0 { (scaled_sum(v, 0.0) + rest).ln() } else { top + (scaled_sum(v, top) + rest * exp_each(&[-top])[0]).ln() }
}

fn largest<const K: usize>(v: &[f64; K]) -> f64 {
    v.iter().fold(f64::NEG_INFINITY, |top, x| if *x > top { *x } else { top })
}

/// `sum e^(v - top)`; no `v` above `top`.
fn scaled_sum<const K: usize>(v: &[f64; K], top: f64) -> f64 {
    exp_each(&v.map(|x| x - top)).iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_minus_infinity() {
        assert_eq!(ln_add(f64::NEG_INFINITY, 2.0), 2.0);
        assert_eq!(ln_add(2.0, f64::NEG_INFINITY), 2.0);
        assert_eq!(ln_sum(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
    }

    #[test]
    fn very_large_logarithms_do_not_overflow() {
        assert!((ln_add(1e6, 1e6) - (1e6 + 2f64.ln())).abs() < 1e-9);
        assert!((ln_sum(&[-1e6, -1e6]) - (-1e6 + 2f64.ln())).abs() < 1e-9);
        assert_eq!(ln_add(1e6, 0.0), 1e6);
    }
}
