//! Sums of numbers given by their logarithms.

use super::fast::{exp_neg, ln_1p};

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
    if gap > 37.0 { a.max(b) } else { a.max(b) + ln_1p(exp_neg(-gap)) }
}

/// `ln(e^l + e^b)` for every `l`.
pub fn ln_add_each<const K: usize>(l: &[f64; K], b: f64) -> [f64; K] {
    if b == f64::NEG_INFINITY {
        return *l;
    }
    let mut out = [0.0; K];
    for k in 0..K {
        let top = if l[k] > b { l[k] } else { b };
        out[k] = top + ln_1p(exp_neg(-(l[k] - b).abs()));
    }
    out
}

/// `ln(sum e^v)`; `-inf` for a list of zeros.
pub fn ln_sum<const K: usize>(v: &[f64; K]) -> f64 {
    let mut top = f64::NEG_INFINITY;
    for x in v {
        top = if *x > top { *x } else { top };
    }
    if top == f64::NEG_INFINITY {
        return top;
    }
    let mut terms = [0.0; K];
    for k in 0..K {
        terms[k] = exp_neg(v[k] - top);
    }
    top + terms.iter().sum::<f64>().ln()
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
