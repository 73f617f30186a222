//! The breaches by name: what stays the same while a failing case is made smaller, and what other
//! tools sort by. Judges nothing.

use super::Breach;

impl Breach {
    /// Which promise was broken, as one word: the variant's name, such as `two_leaders`.
    #[must_use]
    pub fn kind(&self) -> String {
        let debug = format!("{self:?}");
        let mut kind = String::new();
        for letter in debug.chars().take_while(|letter| letter.is_alphanumeric()) {
            if letter.is_uppercase() && !kind.is_empty() {
                kind.push('_');
            }
            kind.extend(letter.to_lowercase());
        }
        kind
    }

    /// Whether two breaches are of the same kind: the same promise, and where that is said in words
    /// only, the same words.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.essence() == other.essence()
    }

    /// The words without the numbers, of breaches that are told apart by words alone.
    fn essence(&self) -> Option<String> {
        let text = if let Self::Panicked { message } = self {
            message.clone()
        } else if matches!(self, Self::Application(_) | Self::Invariant(_)) {
            self.to_string()
        } else {
            return None;
        };
        let first = text.lines().next().unwrap_or_default();
        Some(first.chars().filter(|letter| !letter.is_ascii_digit()).collect())
    }
}
