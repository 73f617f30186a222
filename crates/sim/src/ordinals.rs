//! A set of ordinals as people write it: `3,9-12`. Knows nothing of what is numbered.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// How many numbers a range may name.
const RANGE_MAX: u64 = 1_000_000;

/// Some of the things that are numbered from 1 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinals(BTreeSet<u64>);

/// Text that does not name ordinals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected numbers and ranges such as 3,9-12, of at most {RANGE_MAX} numbers each, got {got:?}"
)]
pub struct OrdinalsError {
    /// The part that is wrong.
    pub got: String,
}

impl Ordinals {
    /// Whether this one belongs to it.
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        self.0.contains(&ordinal)
    }

    /// The largest, or 0.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many do.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<u64> for Ordinals {
    fn from_iter<I: IntoIterator<Item = u64>>(ordinals: I) -> Self {
        Self(ordinals.into_iter().collect())
    }
}

impl FromStr for Ordinals {
    type Err = OrdinalsError;

    fn from_str(text: &str) -> Result<Self, OrdinalsError> {
        let mut ordinals = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || OrdinalsError { got: part.to_owned() };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let [first, last] = [first, last].map(|number| number.trim().parse::<u64>());
            let (first, last) = (first.map_err(|_| wrong())?, last.map_err(|_| wrong())?);
            if last < first || last - first >= RANGE_MAX {
                return Err(wrong());
            }
            ordinals.extend(first..=last);
        }
        Ok(Self(ordinals))
    }
}

impl fmt::Display for Ordinals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_written_as_they_are_read() {
        for text in ["", "3", "3,9-12", "1-2,5,7-100"] {
            assert_eq!(text.parse::<Ordinals>().unwrap().to_string(), text);
        }
        assert_eq!("5,4,3".parse::<Ordinals>().unwrap().to_string(), "3-5");
    }

    #[test]
    fn what_names_no_ordinals_is_refused_with_the_part_that_is_wrong() {
        for text in ["x", "3,y", "5-3", "1-99999999999", "-"] {
            assert!(text.parse::<Ordinals>().is_err(), "{text}");
        }
    }
}
