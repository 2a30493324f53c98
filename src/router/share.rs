//! Shares and the whole numbers routers keep instead of them.

use crate::model::{Side, Weight};

/// The share of the canary, given that of the workload named second; and that of the second, given the canary's.
pub fn canary_share(canary: Side, second: Weight) -> Weight {
    match canary {
        Side::Second => second,
        Side::First => Weight::from_permille(1000 - second.permille()).unwrap_or(Weight::ZERO),
    }
}

/// The share of the second of two weights, to the nearest permille; 0 only for 0, 1000 only if the first has none. `None` if
/// both are 0: then nobody is served.
pub(super) fn second_share([first, second]: [u64; 2]) -> Option<Weight> {
    let sum = u128::from(first) + u128::from(second);
    if sum == 0 {
        return None;
    }
    let nearest = (u128::from(second) * 1000 + sum / 2) / sum;
    let lowest = u128::from(second > 0);
    let highest = 1000 - u128::from(first > 0);
    Weight::from_permille(nearest.clamp(lowest.min(highest), highest) as u16).ok()
}

/// Both weights of `total` for this share of the second; `None` if the share is no whole number of it.
pub(super) fn parts(second: Weight, total: u64) -> Option<[u64; 2]> {
    let product = u64::from(second.permille()).checked_mul(total)?;
    product.is_multiple_of(1000).then(|| [total - product / 1000, product / 1000])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(permille: u16) -> Weight {
        Weight::from_permille(permille).unwrap()
    }

    #[test]
    fn a_share_is_read_to_the_nearest_permille_and_zero_only_for_zero() {
        let cases = [([100, 0], 0), ([0, 1], 1000), ([2, 1], 333), ([1, 2], 667), ([100_000, 1], 1), ([1, 100_000], 999), ([950, 50], 50)];
        for (weights, permille) in cases {
            assert_eq!(second_share(weights), Some(weight(permille)), "{weights:?}");
        }
        assert_eq!(second_share([0, 0]), None);
        assert_eq!(second_share([u64::MAX, u64::MAX]), Some(weight(500)));
    }

    #[test]
    fn what_a_total_cannot_represent_is_not_rounded() {
        assert_eq!(parts(weight(125), 1000), Some([875, 125]));
        assert_eq!(parts(weight(120), 100), Some([88, 12]));
        assert_eq!(parts(weight(125), 100), None);
        assert_eq!(parts(weight(1000), 7), Some([0, 7]));
    }
}
