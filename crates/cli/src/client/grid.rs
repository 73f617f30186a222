//! Tables as etcdctl draws them: lines around every cell, headings in the middle, the rest to the right.
//! Knows nothing of what is shown.

/// The table as lines.
pub(crate) fn grid<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let rule = format!("+{}+\n", dashes.join("+"));
    let mut text = rule.clone();
    let headings = headings.iter().zip(&widths);
    text.push_str(&line(headings.map(|(cell, width)| in_the_middle(cell, *width))));
    text.push_str(&rule);
    for row in rows {
        let cells = row.iter().zip(&widths);
        text.push_str(&line(cells.map(|(cell, &width)| format!("{cell:>width$}"))));
    }
    text.push_str(&rule);
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// The odd blank is on the right.
fn in_the_middle(cell: &str, width: usize) -> String {
    let blanks = width.saturating_sub(cell.chars().count());
    let left = blanks / 2;
    format!("{}{cell}{}", " ".repeat(left), " ".repeat(blanks - left))
}

/// A size as etcdctl writes it: `20 kB`, `1.5 MB`.
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let Ok(bytes) = u128::try_from(bytes) else { return bytes.to_string() };
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut name) = (1_u128, "B");
    for next in UNITS.into_iter().skip(1) {
        if bytes < unit * 1000 {
            break;
        }
        (unit, name) = (unit * 1000, next);
    }
    let tenths = (bytes * 10 + unit / 2) / unit;
    if tenths < 100 {
        return format!("{}.{} {name}", tenths / 10, tenths % 10);
    }
    let (whole, rest) = (tenths / 10, tenths % 10);
    // A half goes to the even one, as in Go.
    let is_up = rest > 5 || (rest == 5 && whole % 2 == 1);
    format!("{} {name}", whole + u128::from(is_up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_looks_as_etcdctl_draws_it() {
        let row = ["474f8fd6da73ef6f", "started", "n1"].map(str::to_owned);
        let expected = "\
+------------------+---------+------+
|        ID        | STATUS  | NAME |
+------------------+---------+------+
| 474f8fd6da73ef6f | started |   n1 |
+------------------+---------+------+
";
        assert_eq!(grid(["ID", "STATUS", "NAME"], &[row]), expected);
    }

    #[test]
    fn sizes_are_rounded_as_etcdctl_rounds_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (21_500, "22 kB"),
            (24_576, "25 kB"),
            (1_560_000, "1.6 MB"),
            (i64::MAX, "9.2 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
