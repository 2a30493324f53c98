//! Windows of a history that look like an incident and are left out (STATISTICS 3). Releases often follow one; a single
//! 5-minute x50 incident raises `phi` to 2 500 and blinds every test (14.13).

use super::dispersion::BaselineDispersion;
use arrayvec::ArrayVec;
use std::ops::Range;

/// One window is left out if that lowers the dispersion more than this.
const RATIO_ONE: f64 = 20.0;
/// Two, if together more than this.
const RATIO_TWO: f64 = 100.0;

/// Lengths of the search in polls.
#[derive(Clone, Debug)]
pub struct Search {
    /// Polls per window.
    pub window: usize,
    /// Polls between starts.
    pub stride: usize,
    /// Fewest polls that must stay.
    pub keep: usize,
    /// Block lengths of the dispersion.
    pub scales: ArrayVec<u64, { super::dispersion::SCALES_MAX }>,
}

/// `phi_base` of the polls `(x, n)` without those in `drop`.
pub fn phi_without(history: &[(f64, f64)], scales: &[u64], drop: &[Range<usize>]) -> f64 {
    let mut d = BaselineDispersion::with_history(scales);
    for (i, &(x, n)) in history.iter().enumerate() {
        if !drop.iter().any(|w| w.contains(&i)) {
            d.add(x, n);
        }
    }
    d.phi()
}

/// The windows of one series to leave out: one that lowers `phi_base` more than 20 times; else two disjoint ones, if
/// `phi_base` exceeds 100 and they lower it more than 100 times; else none. The first in ascending order wins a tie.
pub fn windows(history: &[(f64, f64)], search: &Search) -> ArrayVec<Range<usize>, 2> {
    let (w, n) = (search.window, history.len());
    let mut out = ArrayVec::new();
    if n < search.keep + w {
        return out;
    }
    let starts = || (0..=n - w).step_by(search.stride.max(1));
    let whole = phi_without(history, &search.scales, &[]);
    let best = first_least(starts(), |&a| phi_without(history, &search.scales, std::slice::from_ref(&(a..a + w))));
    if let Some((phi, a)) = best
        && whole > RATIO_ONE * phi
    {
        out.push(a..a + w);
        return out;
    }
    if whole <= RATIO_TWO || n < search.keep + 2 * w {
        return out;
    }
    let pairs = starts().flat_map(|a| starts().filter(move |&b| b >= a + w).map(move |b| (a, b)));
    let best = first_least(pairs, |&(a, b)| phi_without(history, &search.scales, &[a..a + w, b..b + w]));
    if let Some((phi, (a, b))) = best
        && whole > RATIO_TWO * phi
    {
        out.extend([a..a + w, b..b + w]);
    }
    out
}

fn first_least<T>(items: impl Iterator<Item = T>, value: impl Fn(&T) -> f64) -> Option<(f64, T)> {
    let mut best: Option<(f64, T)> = None;
    for item in items {
        let v = value(&item);
        if best.as_ref().is_none_or(|(least, _)| v < *least) {
            best = Some((v, item));
        }
    }
    best
}

/// Positions of the polls that stay after each of `series` (all of one length) was searched, each on what the earlier left.
pub fn keep(series: &[Vec<(f64, f64)>], search: &Search) -> Vec<usize> {
    let mut left: Vec<usize> = (0..series.first().map_or(0, Vec::len)).collect();
    for s in series {
        let rows: Vec<(f64, f64)> = left.iter().filter_map(|&i| s.get(i).copied()).collect();
        let drop = windows(&rows, search);
        let mut at = 0;
        left.retain(|_| {
            at += 1;
            !drop.iter().any(|w| w.contains(&(at - 1)))
        });
    }
    left
}
