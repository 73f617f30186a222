//! Truths and times as Go writes them, for etcd's settings are written so. Knows nothing of them.

use std::time::Duration;

/// What Go takes for true and for false.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A time: numbers with units, one after the other, as in `1h30m`, `1.5s`, `250ms`; or `0`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    loop {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let (unit, after) = after.split_at_checked(after.find(is_number).unwrap_or(after.len()))?;
        total = total.checked_add(piece(number, unit)?)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

/// One number with its unit.
fn piece(number: &str, unit: &str) -> Option<Duration> {
    let unit_nanoseconds: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let mut nanoseconds = digits(whole)?.checked_mul(unit_nanoseconds)?;
    let mut place = unit_nanoseconds;
    for digit in fraction.chars() {
        place /= 10;
        nanoseconds = nanoseconds.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// For clap: a time, or what was expected.
///
/// # Errors
///
/// A sentence.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok_or_else(|| format!("expected a time such as 500ms, 10s or 1h30m, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_numbers_with_units() {
        let right = [
            ("0", 0),
            ("0s", 0),
            ("1h30m", 5_400_000_000_000),
            ("600s", 600_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("1.ns", 1),
            ("2us3ns", 2_003),
            ("600000000000ns", 600_000_000_000),
        ];
        for (text, nanoseconds) in right {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for wrong in
            ["", "h", "5", "5x", "-5m", "1h30", ".s", "1..s", "99999999999999999999h", "9999999h"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn truths_are_those_of_go() {
        assert_eq!((boolean("T"), boolean("0"), boolean("yes")), (Some(true), Some(false), None));
    }
}
