//! Truths, times and numbers as Go writes them, for etcd's settings and etcdctl's flags are written so. Knows
//! nothing of them.

use std::time::Duration;

/// What Go takes for true and for false.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A time: numbers with units, one after the other, as in `1h30m`, `1.5s`, `250ms`; or `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
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
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok_or_else(|| format!("expected a time such as 500ms, 10s or 1h30m, found `{text}`"))
}

/// For clap: a truth, or what was expected.
///
/// # Errors
///
/// A sentence.
pub(crate) fn parse_boolean(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| format!("expected true or false, found `{text}`"))
}

/// A number as in a program: `7`, `-7`, `0x1f`, `0b11`, `0o17`, `017`, `1_000`.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (sign, literal) = match text.split_at_checked(1) {
        Some(("-", rest)) => ("-", rest),
        Some(("+", rest)) => ("", rest),
        _ => ("", text),
    };
    let prefix = literal.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, literal.get(2..)?),
        Some("0b") => (2, literal.get(2..)?),
        Some("0o") => (8, literal.get(2..)?),
        Some(two) if two.starts_with('0') => (8, literal.get(1..)?),
        _ => (10, literal),
    };
    let is_parted_well = !digits.ends_with('_')
        && !digits.contains("__")
        && (radix != 10 || !digits.starts_with('_'));
    // A second sign is none of Go's.
    let is_plain = digits.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_parted_well || !is_plain {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

/// For clap: a number, or what was expected.
///
/// # Errors
///
/// A sentence.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    integer(text).ok_or_else(|| format!("expected a number such as 7, -7 or 0x1f, found `{text}`"))
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

    #[test]
    fn numbers_are_those_of_a_go_program() {
        let right = [
            ("0", 0),
            ("7", 7),
            ("+7", 7),
            ("-7", -7),
            ("0x1F", 31),
            ("0X1f", 31),
            ("-0x10", -16),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1_000),
            ("0x_ff", 255),
            ("0_7", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, number) in right {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for wrong in [
            "",
            "-",
            "+",
            "x",
            "0x",
            "0b2",
            "08",
            "--7",
            "-+7",
            "0x-1",
            "_1",
            "1_",
            "1__0",
            "1.0",
            "0x1_",
            " 7",
            "9223372036854775808",
            "é",
        ] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
    }
}
