//! Sums of numbers given by their logarithms.

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
    if gap > 37.0 { a.max(b) } else { a.max(b) + (-gap).exp().ln_1p() }
}

/// `ln(sum e^v)`; `-inf` for an empty list or one of zeros.
pub fn ln_sum(v: &[f64]) -> f64 {
    let top = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY { top } else { top + v.iter().map(|x| (x - top).exp()).sum::<f64>().ln() }
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
