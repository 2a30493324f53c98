//! Shares of traffic.

use std::fmt;
use std::str::FromStr;

/// The canary's share of the traffic in permille, `0..=1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u16);

/// Why a number or a text is no weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// Above 100 %.
    #[error("weight {0} permille exceeds 1000 permille (100 %)")]
    TooLarge(u64),
    /// Not `<number>%`, or finer than a permille.
    #[error("weight {0:?} is not a percentage between 0% and 100% in steps of 0.1%, such as 5% or 12.5%")]
    Text(String),
}

impl Weight {
    /// No traffic.
    pub const ZERO: Weight = Weight(0);
    /// All traffic.
    pub const FULL: Weight = Weight(1000);

    /// # Errors
    /// Above 1000.
    pub const fn from_permille(permille: u16) -> Result<Self, WeightError> {
        if permille > 1000 { Err(WeightError::TooLarge(permille as u64)) } else { Ok(Self(permille)) }
    }

    /// `0..=1000`.
    pub const fn permille(self) -> u16 {
        self.0
    }

    /// `0.0..=1.0`.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// No traffic at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// All of the traffic: there is no baseline beside it.
    pub const fn is_full(self) -> bool {
        self.0 == 1000
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenth) = (self.0 / 10, self.0 % 10);
        if tenth == 0 { write!(f, "{whole}%") } else { write!(f, "{whole}.{tenth}%") }
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(s: &str) -> Result<Self, WeightError> {
        let bad = || WeightError::Text(s.to_owned());
        let percent: f64 = s.trim().strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
        let permille = (percent * 10.0).round();
        if !percent.is_finite() || percent < 0.0 || (percent * 10.0 - permille).abs() > 1e-6 {
            return Err(bad());
        }
        if permille > 1000.0 {
            return Err(WeightError::TooLarge(permille.min(1e18) as u64));
        }
        Self::from_permille(permille as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_read_and_written_the_same() {
        for text in ["0%", "5%", "12.5%", "100%"] {
            assert_eq!(text.parse::<Weight>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_share_is_refused_with_the_value_and_the_limit() {
        assert_eq!("120%".parse::<Weight>().unwrap_err().to_string(), "weight 1200 permille exceeds 1000 permille (100 %)");
        for text in ["5", "-1%", "NaN%", "0.05%", "", "%", "inf%"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
    }
}
