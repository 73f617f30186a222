//! What a majority holds (§3.3, §3.6.2): plain arithmetic on numbers, in one place.
//! Knows nothing of members, configurations or logs.

/// Voters that are compared without touching the heap; larger groups work too.
const INLINE_COUNT: usize = 16;

/// The smallest number of `count` voters that is more than half of them.
pub(crate) const fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// Whether `yes` of `count` voters are a majority; never, if there are no voters.
pub(crate) const fn is_majority(yes: usize, count: usize) -> bool {
    yes >= majority(count)
}

/// Returns the greatest value that a majority of the voters has reached, given one value per
/// voter in any order; `None` without voters.
pub(crate) fn majority_reached<T: Ord + Copy + Default>(
    values: impl Iterator<Item = T>,
) -> Option<T> {
    let mut inline = [T::default(); INLINE_COUNT];
    let mut spilled = Vec::new();
    let mut count = 0;
    for value in values {
        match inline.get_mut(count) {
            Some(slot) => *slot = value,
            None => spilled.push(value),
        }
        count += 1;
    }
    if spilled.is_empty() {
        return reached_by_majority(inline.get_mut(..count)?);
    }
    spilled.extend(inline);
    reached_by_majority(&mut spilled)
}

/// In descending order, the value at place `majority` has been reached by exactly that many.
fn reached_by_majority<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(values.len()) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word: the greatest value that more than half have reached.
    fn naive(values: &[u64]) -> Option<u64> {
        values
            .iter()
            .copied()
            .filter(|wanted| values.iter().filter(|v| *v >= wanted).count() * 2 > values.len())
            .max()
    }

    #[test]
    fn majority_reached_equals_the_definition_for_every_group_of_up_to_five() {
        for size in 0..=5_u32 {
            for code in 0..6_u64.pow(size) {
                let values: Vec<u64> = (0..size).map(|place| code / 6_u64.pow(place) % 6).collect();
                assert_eq!(majority_reached(values.iter().copied()), naive(&values), "{values:?}");
            }
        }
    }

    #[test]
    fn majority_reached_equals_the_definition_for_large_groups() {
        let mut chance = crate::chance::Chance::new(7);
        for size in 6..40_usize {
            for _ in 0..50 {
                let values: Vec<u64> = (0..size).map(|_| chance.below(9)).collect();
                assert_eq!(majority_reached(values.iter().copied()), naive(&values), "{values:?}");
            }
        }
    }

    #[test]
    fn two_majorities_of_one_group_always_share_a_voter() {
        for count in 1..100 {
            assert!(2 * majority(count) > count, "{count} voters");
            assert!(!is_majority(majority(count) - 1, count), "{count} voters");
        }
        assert!(!is_majority(0, 0), "no voters decide nothing");
    }
}
