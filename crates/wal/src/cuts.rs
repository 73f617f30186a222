//! Where a log was cut because durable entries behind that place are lost, and with which segment it
//! goes on (layout: `docs/wal-format.md`). Must not know what is lost, nor what stands behind a cut.

use bytes::{Buf, BufMut, Bytes};

/// How many cuts a log can have. One that would need more is refused.
pub(crate) const CUTS_MAX: usize = 16;

/// A cut: from here on the log goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The segment in which the log was cut; the one before the first if nothing is left of it.
    pub(crate) segment: u64,
    /// Where in it.
    pub(crate) bytes: u64,
    /// The segment with which the log goes on.
    pub(crate) resumed: u64,
    /// Where the records of the segment before that one end. What stands behind is not the log's.
    pub(crate) end_bytes: u64,
}

/// All cuts of a log, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts(Vec<Cut>);

impl Cuts {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn list(&self) -> &[Cut] {
        &self.0
    }

    /// The cut behind which the log goes on with this segment.
    pub(crate) fn before(&self, resumed: u64) -> Option<Cut> {
        self.0.iter().find(|cut| cut.resumed == resumed).copied()
    }

    /// The segment that follows upon this one of the log; `None` behind the last possible number.
    pub(crate) fn after(&self, number: u64) -> Option<u64> {
        // Of several that cut at the same segment the last one counts.
        let cut = self.0.iter().rev().find(|cut| cut.segment == number);
        cut.map(|cut| cut.resumed).or_else(|| number.checked_add(1))
    }

    /// The segments that hold the log, oldest first. Those left out were cut off.
    pub(crate) fn path(&self, first: u64, last: u64) -> Vec<u64> {
        let mut path = Vec::new();
        let mut number = last;
        while number >= first && number > 0 {
            path.push(number);
            number = self.before(number).map_or(number - 1, |cut| cut.segment);
        }
        path.reverse();
        path
    }

    /// The last cut of those that the log has now, with `last` as its last segment; none of those that
    /// stand in what was cut off.
    pub(crate) fn newest(&self, first: u64, last: u64) -> Option<Cut> {
        self.path(first, last).into_iter().rev().find_map(|number| self.before(number))
    }

    /// One more, in a log of the segments from `first` on. Returns whether there is room for it: those
    /// that it cuts off are forgotten if there is none.
    #[must_use]
    pub(crate) fn push(&mut self, first: u64, cut: Cut) -> bool {
        self.0.push(cut);
        if self.0.len() > CUTS_MAX {
            let path = self.path(first, cut.resumed);
            self.0.retain(|cut| path.contains(&cut.resumed));
        }
        self.0.len() <= CUTS_MAX
    }

    /// Forgets those in front of the segment with which the log begins now.
    pub(crate) fn release(&mut self, first: u64) {
        self.0.retain(|cut| cut.resumed > first);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for cut in &self.0 {
            out.put_u64_le(cut.segment);
            out.put_u64_le(cut.bytes);
            out.put_u64_le(cut.resumed);
            out.put_u64_le(cut.end_bytes);
        }
    }

    /// Reads the cuts of a log of these segments; `None` if they make no sense. Each stands before the
    /// segment with which the log goes on, and later ones go on with later segments.
    pub(crate) fn decode(body: &mut Bytes, first: u64, last: u64) -> Option<Self> {
        let count = body.try_get_u8().ok()?;
        let mut cuts = Vec::new();
        let mut before = first;
        for _ in 0..count {
            let cut = Cut {
                segment: body.try_get_u64_le().ok()?,
                bytes: body.try_get_u64_le().ok()?,
                resumed: body.try_get_u64_le().ok()?,
                end_bytes: body.try_get_u64_le().ok()?,
            };
            if cut.segment >= cut.resumed || cut.resumed <= before || cut.resumed > last {
                return None;
            }
            before = cut.resumed;
            cuts.push(cut);
        }
        (count > 0 && cuts.len() <= CUTS_MAX).then_some(Self(cuts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(segment: u64, resumed: u64) -> Cut {
        Cut { segment, bytes: 4096 + segment, resumed, end_bytes: 5000 }
    }

    fn cuts(list: &[(u64, u64)]) -> Cuts {
        Cuts(list.iter().map(|&(segment, resumed)| cut(segment, resumed)).collect())
    }

    #[test]
    fn the_path_leaves_out_what_was_cut_off() {
        assert_eq!(Cuts::default().path(2, 5), [2, 3, 4, 5]);
        assert_eq!(cuts(&[(3, 6)]).path(2, 7), [2, 3, 6, 7]);
        assert_eq!(cuts(&[(5, 6)]).path(5, 6), [5, 6], "in the last segment");
        assert_eq!(cuts(&[(3, 6), (6, 8)]).path(2, 8), [2, 3, 6, 8], "in the later part");
        assert_eq!(cuts(&[(3, 6), (2, 8)]).path(2, 8), [2, 8], "in the earlier part");
        assert_eq!(cuts(&[(1, 4)]).path(2, 5), [4, 5], "nothing is left of the beginning");
        assert_eq!(cuts(&[(0, 4)]).path(1, 4), [4]);
    }

    #[test]
    fn the_newest_cut_is_one_that_the_log_still_has() {
        assert_eq!(Cuts::default().newest(1, 4), None);
        assert_eq!(cuts(&[(3, 6)]).newest(2, 7), Some(cut(3, 6)));
        assert_eq!(cuts(&[(3, 6), (2, 8)]).newest(2, 9), Some(cut(2, 8)));
        assert_eq!(cuts(&[(3, 6), (6, 8)]).newest(2, 9), Some(cut(6, 8)));
    }

    #[test]
    fn behind_a_cut_the_log_goes_on_where_it_says() {
        let some = cuts(&[(3, 6), (3, 8)]);
        assert_eq!([2, 3, 8].map(|number| some.after(number)), [Some(3), Some(8), Some(9)]);
        assert_eq!(some.after(u64::MAX), None);
    }

    #[test]
    fn a_cut_is_forgotten_when_the_log_begins_behind_it() {
        let mut some = cuts(&[(3, 6), (6, 8)]);
        some.release(3);
        assert_eq!(some, cuts(&[(3, 6), (6, 8)]));
        some.release(6);
        assert_eq!(some, cuts(&[(6, 8)]));
        some.release(8);
        assert!(some.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_those_that_are_cut_off_make_room() {
        let mut many = Cuts::default();
        for at in 0..16 {
            assert!(many.push(1, cut(2 + at, 3 + at)), "{at}");
        }
        assert!(!many.clone().push(1, cut(18, 19)));
        assert!(many.push(1, cut(5, 19)), "all cuts behind segment 5 are cut off with it");
        assert_eq!(many.list().len(), 4);
    }

    #[test]
    fn what_makes_no_sense_is_not_decoded() {
        let decoded = |some: &Cuts| {
            let mut bytes = Vec::new();
            some.encode(&mut bytes);
            Cuts::decode(&mut Bytes::from(bytes), 2, 9)
        };
        for sound in [cuts(&[(3, 6)]), cuts(&[(1, 3)]), cuts(&[(3, 6), (2, 8)]), cuts(&[(8, 9)])] {
            assert_eq!(decoded(&sound), Some(sound));
        }
        for wrong in [
            cuts(&[]),
            cuts(&[(6, 6)]),
            cuts(&[(1, 2)]),
            cuts(&[(3, 10)]),
            cuts(&[(3, 8), (3, 6)]),
            cuts(&[(3, 6), (2, 6)]),
            Cuts(vec![cut(3, 6); 17]),
        ] {
            assert_eq!(decoded(&wrong), None);
        }
        assert_eq!(Cuts::decode(&mut Bytes::from_static(&[1, 0, 0]), 2, 9), None);
    }
}
