//! Percentages, durations and sizes as operators write them. Errors say what was wanted, as the end of "... is not".

use std::time::Duration;

const PERCENT: &str = "a percentage such as 5% or 0.02%";
const DURATION: &str = "a duration such as 500ms, 90s, 15m, 1h30m or 2d";
const BYTES: &str = "a size such as 512MiB or 2GB";

/// `5%` -> 0.05. Never negative, never infinite.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%').and_then(|n| plain(n.trim()));
    number.map(|n| n / 100.0).ok_or_else(|| PERCENT.to_owned())
}

/// `1h30m` -> 5400 s. Each unit may have a fraction; no unit is refused, because nobody agrees on what it would be.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, unit, left) = leading(rest).ok_or(DURATION)?;
        seconds += number * unit_seconds(unit).ok_or(DURATION)?;
        rest = left;
    }
    let whole = if text.trim().is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() };
    whole.ok_or_else(|| DURATION.to_owned())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    })
}

/// `512MiB` -> 536870912.
pub(crate) fn bytes(text: &str) -> Result<f64, String> {
    let (number, unit, rest) = leading(text.trim()).ok_or(BYTES)?;
    let unit = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "Ki" => 1024.0,
        "MiB" | "Mi" => 1024.0 * 1024.0,
        "GiB" | "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(BYTES.to_owned()),
    };
    if rest.is_empty() { Ok(number * unit) } else { Err(BYTES.to_owned()) }
}

/// A number, the letters after it, and what follows them.
fn leading(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((plain(number)?, unit, rest))
}

/// Digits with at most one point: no sign, exponent, `inf` or `NaN`.
pub(crate) fn plain(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n: &f64| n.is_finite())
}

/// A duration in the grammar's own spelling, exact to the millisecond.
pub(crate) fn said(d: Duration) -> String {
    let ms = d.as_millis();
    let units: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let unit = units.iter().find(|(size, _)| ms > 0 && ms.is_multiple_of(*size));
    unit.map_or_else(|| "0s".to_owned(), |(size, name)| format!("{}{name}", ms / size))
}

/// A fraction as a percentage, without a tail of binary noise.
pub(crate) fn percent_said(fraction: f64) -> String {
    format!("{}%", (fraction * 1e8).round() / 1e6)
}

/// Is it an address the daemon can ask? The error is the end of a sentence about it and repeats nothing of it.
pub(crate) fn http_url(text: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(text).map_err(|_| "is no URL")?;
    match () {
        () if !matches!(url.scheme(), "http" | "https") => Err("is no http address"),
        () if url.host_str().is_none_or(str::is_empty) => Err("names no host"),
        () if !url.username().is_empty() || url.password().is_some() => Err("holds a user or a password"),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_write_becomes_numbers() {
        for (text, seconds) in [("500ms", 0.5), ("90s", 90.0), ("15m", 900.0), ("1h30m", 5400.0), ("2d", 172_800.0), ("1.5h", 5400.0)] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for (text, fraction) in [("5%", 0.05), ("0.02%", 0.0002), ("120%", 1.2), ("0%", 0.0), (" 5 % ", 0.05)] {
            assert!((percent(text).unwrap() - fraction).abs() < 1e-15, "{text}");
        }
        assert_eq!(bytes("512MiB"), Ok(536_870_912.0));
        assert_eq!(bytes("1.5GB"), Ok(1.5e9));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "15", "m", "15 minutes", "-5m", "1e3s", "infs", "5m3", "1..5s", ".s", "15M", "99999999999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "5", "%", "-1%", "NaN%", "inf%", "1e2%", "5%%"] {
            assert!(percent(text).is_err(), "{text}");
        }
        for text in ["", "512", "5 MiB", "5MiBs", "5TiB "] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_said_in_its_largest_whole_unit() {
        for text in ["500ms", "90s", "15m", "36h", "2d"] {
            assert_eq!(said(duration(text).unwrap()), text);
        }
        assert_eq!(percent_said(0.0002), "0.02%");
        assert_eq!(percent_said(0.1 + 0.2), "30%");
    }
}
