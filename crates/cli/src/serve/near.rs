//! Which known name was probably meant by an unknown one. Must not know what the names are for.

/// The known name that is nearest, if it is near at all: a third of the letters may be wrong.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|known| (distance(name, known), known));
    let (distance, nearest) = distances.min()?;
    (distance <= nearest.chars().count().div_ceil(3)).then_some(nearest)
}

/// How many letters must be put in, left out or replaced to make the one of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // For each beginning of `to`, how far the letters of `from` so far are from it.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut left = done + 1;
        let mut diagonal = done;
        let mut next = vec![left];
        for (above, other) in row.iter().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(letter != *other);
            left = replaced.min(left + 1).min(above + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_the_letters_that_differ() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_what_is_near_is_proposed() {
        let known = ["election-timeout", "name", "data-dir"];
        assert_eq!(nearest("election-timout", known), Some("election-timeout"));
        assert_eq!(nearest("datadir", known), Some("data-dir"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
