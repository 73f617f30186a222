//! Ranges of keys, and which of them contain a key: a balanced search tree (AVL) in which each
//! branch knows how far its ranges reach. Knows nothing of watches.

// A node moves from box to box while the tree is turned; it is never moved itself.
#![allow(clippy::unnecessary_box_returns)]

use bytes::Bytes;
use std::cmp::Ordering;

/// Where a range ends: before a key, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere. Above every key, as the order of the variants says.
    Never,
}

impl End {
    fn is_beyond(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end.as_ref(),
            Self::Never => true,
        }
    }
}

/// Ranges, each with a value.
#[derive(Debug)]
pub(crate) struct Intervals<V> {
    root: Branch<V>,
    len: usize,
}

type Branch<V> = Option<Box<Node<V>>>;

#[derive(Debug)]
struct Node<V> {
    from: Bytes,
    end: End,
    value: V,
    height: u32,
    /// The farthest end of this range and all below.
    reach: End,
    left: Branch<V>,
    right: Branch<V>,
}

impl<V> Default for Intervals<V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<V: Default> Intervals<V> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes the value of a range; a fresh one if the range is new.
    pub(crate) fn update(&mut self, from: &Bytes, end: &End, change: impl FnOnce(&mut V)) {
        if let Some(value) = self.get_mut(from, end) {
            return change(value);
        }
        let mut leaf = Node::leaf(from.clone(), end.clone());
        change(&mut leaf.value);
        self.root = Some(insert(self.root.take(), leaf));
        self.len += 1;
    }

    /// The value of a range.
    pub(crate) fn get_mut(&mut self, from: &Bytes, end: &End) -> Option<&mut V> {
        find(&mut self.root, from, end).map(|node| &mut node.value)
    }

    /// Forgets a range.
    pub(crate) fn remove(&mut self, from: &Bytes, end: &End) {
        let (root, is_gone) = remove(self.root.take(), from, end);
        self.root = root;
        self.len -= usize::from(is_gone);
    }

    /// Calls `visit` with the value of each range that contains `key`.
    pub(crate) fn containing(&self, key: &[u8], visit: &mut impl FnMut(&V)) {
        stab(self.root.as_deref(), key, visit);
    }
}

impl<V: Default> Node<V> {
    fn leaf(from: Bytes, end: End) -> Box<Self> {
        let reach = end.clone();
        Box::new(Self { from, end, value: V::default(), height: 1, reach, left: None, right: None })
    }
}

impl<V> Node<V> {
    fn compare(&self, from: &Bytes, end: &End) -> Ordering {
        from.cmp(&self.from).then_with(|| end.cmp(&self.end))
    }

    /// Makes height and reach right again after something below changed.
    fn refresh(&mut self) {
        self.height = 1 + height(self.left.as_deref()).max(height(self.right.as_deref()));
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.reach);
        if let Some(reach) = below.chain([&self.end]).max() {
            self.reach = reach.clone();
        }
    }
}

fn height<V>(branch: Option<&Node<V>>) -> u32 {
    branch.map_or(0, |node| node.height)
}

/// How much higher the left side is.
fn lean<V>(node: &Node<V>) -> i64 {
    i64::from(height(node.left.as_deref())) - i64::from(height(node.right.as_deref()))
}

fn find<'a, V>(branch: &'a mut Branch<V>, from: &Bytes, end: &End) -> Option<&'a mut Node<V>> {
    let node = branch.as_mut()?;
    match node.compare(from, end) {
        Ordering::Less => find(&mut node.left, from, end),
        Ordering::Equal => Some(node),
        Ordering::Greater => find(&mut node.right, from, end),
    }
}

fn insert<V>(branch: Branch<V>, new: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut node) = branch else { return new };
    if node.compare(&new.from, &new.end) == Ordering::Less {
        node.left = Some(insert(node.left.take(), new));
    } else {
        node.right = Some(insert(node.right.take(), new));
    }
    balanced(node)
}

fn remove<V>(branch: Branch<V>, from: &Bytes, end: &End) -> (Branch<V>, bool) {
    let Some(mut node) = branch else { return (None, false) };
    let is_gone;
    match node.compare(from, end) {
        Ordering::Less => (node.left, is_gone) = remove(node.left.take(), from, end),
        Ordering::Greater => (node.right, is_gone) = remove(node.right.take(), from, end),
        Ordering::Equal => return (joined(node.left.take(), node.right.take()), true),
    }
    (Some(balanced(node)), is_gone)
}

/// Two branches, all of `left` before all of `right`, as one.
fn joined<V>(left: Branch<V>, right: Branch<V>) -> Branch<V> {
    let Some(right) = right else { return left };
    let (rest, mut first) = without_first(right);
    first.left = left;
    first.right = rest;
    Some(balanced(first))
}

/// Takes the first range out of a branch.
fn without_first<V>(mut node: Box<Node<V>>) -> (Branch<V>, Box<Node<V>>) {
    match node.left.take() {
        None => (node.right.take(), node),
        Some(left) => {
            let (rest, first) = without_first(left);
            node.left = rest;
            (Some(balanced(node)), first)
        }
    }
}

/// A node whose sides differ in height by two at most, turned until they differ by one at most.
fn balanced<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    node.refresh();
    if lean(&node) > 1 {
        if let Some(left) = node.left.take() {
            node.left = Some(if lean(&left) < 0 { turned_left(left) } else { left });
        }
        node = turned_right(node);
    } else if lean(&node) < -1 {
        if let Some(right) = node.right.take() {
            node.right = Some(if lean(&right) > 0 { turned_right(right) } else { right });
        }
        node = turned_left(node);
    }
    node
}

fn turned_left<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut top) = node.right.take() else { return node };
    node.right = top.left.take();
    node.refresh();
    top.left = Some(node);
    top.refresh();
    top
}

fn turned_right<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut top) = node.left.take() else { return node };
    node.left = top.right.take();
    node.refresh();
    top.right = Some(node);
    top.refresh();
    top
}

fn stab<V>(branch: Option<&Node<V>>, key: &[u8], visit: &mut impl FnMut(&V)) {
    let Some(node) = branch else { return };
    if !node.reach.is_beyond(key) {
        return;
    }
    stab(node.left.as_deref(), key, visit);
    if node.from.as_ref() <= key {
        if node.end.is_beyond(key) {
            visit(&node.value);
        }
        stab(node.right.as_deref(), key, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn depth_is_right<V>(branch: Option<&Node<V>>) -> u32 {
        let Some(node) = branch else { return 0 };
        let (left, right) =
            (depth_is_right(node.left.as_deref()), depth_is_right(node.right.as_deref()));
        assert!(left.abs_diff(right) <= 1, "balanced");
        assert_eq!(node.height, 1 + left.max(right));
        node.height
    }

    /// A cheap source of numbers that look random.
    fn next(state: &mut u64) -> u64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn it_finds_what_a_list_of_ranges_finds_whatever_was_inserted_and_removed() {
        let mut state = 1;
        let mut tree: Intervals<u64> = Intervals::default();
        let mut list: BTreeSet<(Bytes, End, u64)> = BTreeSet::new();
        let key = |number: u64| Bytes::copy_from_slice(&(number % 50).to_be_bytes()[6..]);
        for step in 1..4_000 {
            let (from, end) = (key(next(&mut state)), key(next(&mut state)));
            let end = if step % 17 == 0 { End::Never } else { End::Before(end) };
            let known = list.iter().find(|(f, e, _)| (f, e) == (&from, &end)).cloned();
            if let Some(known) = known {
                tree.remove(&from, &end);
                list.remove(&known);
            } else {
                tree.update(&from, &end, |value| *value = step);
                list.insert((from, end, step));
            }
            assert_eq!(tree.len, list.len());
            let probe = key(next(&mut state));
            let mut found = BTreeSet::new();
            tree.containing(&probe, &mut |value| {
                assert!(found.insert(*value));
            });
            let expected = list.iter().filter(|(f, e, _)| *f <= probe && e.is_beyond(&probe));
            assert_eq!(found, expected.map(|(_, _, value)| *value).collect());
            depth_is_right(tree.root.as_deref());
        }
    }

    #[test]
    fn ten_thousand_ranges_in_order_make_a_shallow_tree() {
        let mut tree: Intervals<u32> = Intervals::default();
        for number in 0..10_000_u32 {
            let from = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = End::Before(Bytes::copy_from_slice(&(number + 1).to_be_bytes()));
            tree.update(&from, &end, |value| *value = number);
        }
        assert!(depth_is_right(tree.root.as_deref()) <= 15);
        let mut found = Vec::new();
        tree.containing(&7_000_u32.to_be_bytes(), &mut |value| found.push(*value));
        assert_eq!(found, [7_000]);
    }
}
