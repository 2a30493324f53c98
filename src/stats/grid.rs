//! The alternatives each mixture is made of, with their logarithms written out: the hot path takes none of a constant.

use std::f64::consts::{LN_2, LN_10};

/// `K` alternatives with their logarithms and the logarithms of their weights (which sum to 1).
#[derive(Clone, Copy, Debug)]
pub struct Grid<const K: usize> {
    /// The alternatives.
    pub g: [f64; K],
    /// `ln g`.
    pub ln_g: [f64; K],
    /// Logarithm of each one's weight.
    pub ln_pi: [f64; K],
}

/// Alternatives of counts.
pub const K_UP: usize = 9;
/// Alternatives of non-inferiority.
pub const K_DOWN: usize = 7;
/// Alternatives of gauges.
pub const K_MU: usize = 6;
/// Alternatives of labels.
pub const K_LABEL: usize = 6;

const LN_SEVENTH: f64 = -1.9459101490553135;
const LN_SIXTH: f64 = -1.791759469228055;

/// Harm: how many times worse than tolerated (STATISTICS 2.1), weights `[1,2,3,4,4,3,2,1,1]/21`.
pub const UP: Grid<K_UP> = Grid {
    g: [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0],
    ln_g: [
        0.09531017980432493,
        0.22314355131420976,
        0.4054651081081644,
        LN_2,
        1.0986122886681098,
        1.6094379124341003,
        LN_10,
        3.4011973816621555,
        4.605170185988092,
    ],
    ln_pi: [
        -3.044522437723423,
        -2.3513752571634776,
        -1.9459101490553135,
        -1.6582280766035324,
        -1.6582280766035324,
        -1.9459101490553135,
        -2.3513752571634776,
        -3.044522437723423,
        -3.044522437723423,
    ],
};

/// Non-inferiority: how many times better than the margin (2.3), uniform weights.
pub const DOWN: Grid<K_DOWN> = Grid {
    g: [0.9, 0.8, 0.65, 0.5, 0.3, 0.1, 0.01],
    ln_g: [
        -0.10536051565782628,
        -0.2231435513142097,
        -0.4307829160924542,
        -LN_2,
        -1.2039728043259361,
        -2.3025850929940455,
        -4.605170185988091,
    ],
    ln_pi: [LN_SEVENTH; K_DOWN],
};

/// Gauges: shift of the innovation in units of its scale (6), uniform weights. `ln_g` is not used.
pub const MU: Grid<K_MU> = Grid { g: [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], ln_g: [0.0; K_MU], ln_pi: [LN_SIXTH; K_MU] };

/// Labels (7.2): the alternatives of [`UP`] from 2 on, because smaller ones would take an hour to clear; weights
/// `[4,4,3,2,1,1]/15`.
pub const LABEL: Grid<K_LABEL> = Grid {
    g: [2.0, 3.0, 5.0, 10.0, 30.0, 100.0],
    ln_g: [LN_2, 1.0986122886681098, 1.6094379124341003, LN_10, 3.4011973816621555, 4.605170185988092],
    ln_pi: [-1.3217558399823195, -1.3217558399823195, -1.6094379124341003, -2.0149030205422647, -2.70805020110221, -2.70805020110221],
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const K: usize>(grid: &Grid<K>, logs: bool) {
        let total: f64 = grid.ln_pi.iter().map(|l| l.exp()).sum();
        assert!((total - 1.0).abs() < 1e-15, "weights sum to {total}");
        for k in 0..K {
            assert!(!logs || (grid.ln_g[k] - grid.g[k].ln()).abs() < 1e-15, "ln {}", grid.g[k]);
        }
    }

    #[test]
    fn the_written_logarithms_are_those_of_the_alternatives() {
        check(&UP, true);
        check(&DOWN, true);
        check(&MU, false);
        check(&LABEL, true);
    }
}
