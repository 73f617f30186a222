//! Finds where an HTTP/2 client names the server (RFC 9113, RFC 7541), and mends a URL there. Follows
//! frames and fields by their lengths alone; what is wrong in them is h2's to find. A mended name is
//! never longer than what came, so that whoever compresses by the shorter table still finds all that
//! the other side may refer to. Must not wait for anything.

/// How a client opens.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const IS_PADDED: u8 = 0x08;
const HAS_PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// Where `:authority` stands in HPACK's static table.
const AUTHORITY_INDEX: u8 = 1;

/// How many bytes of a name tell whether it is a URL.
pub(super) const URL_BYTES: usize = 6;

/// What comes next on the connection.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Bytes that say nothing about names.
    Skipped(usize),
    /// The nine bytes before a frame, of which some have come.
    FrameHead { seen: [u8; FRAME_HEAD_BYTES], count: usize },
    /// How much padding a frame of fields ends with.
    PadLength { block_bytes: usize, has_priority: bool },
    /// A frame's fields, and the padding after them.
    Block { block_bytes: usize, padding_bytes: usize },
}

/// What comes next among the fields.
#[derive(Clone, Copy, Debug)]
enum Field {
    Start,
    /// The rest of an index, after which there is a value or not.
    Index {
        has_value: bool,
    },
    /// How long a text is.
    Length(Text),
    /// The rest of that number.
    LongLength {
        text: Text,
        bytes: usize,
        shift: u32,
    },
    /// A text, or the rest of one.
    Text {
        text: Text,
        bytes: usize,
    },
    /// What names the server, of which nothing has passed yet.
    Authority {
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Value,
    Authority,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fields {
    part: Part,
    field: Field,
}

impl Fields {
    /// Before a client's first byte.
    pub(super) const fn new() -> Self {
        Self { part: Part::Skipped(PREFACE_BYTES), field: Field::Start }
    }

    /// Takes what came next, and mends it where it has to be. Returns how much of it may go on: the
    /// rest, shorter than [`URL_BYTES`], begins a name, and is to be given again with what follows it.
    pub(super) fn pass(&mut self, came: &mut [u8]) -> usize {
        let mut passed = 0;
        while let Some(rest) = came.get_mut(passed..).filter(|rest| !rest.is_empty()) {
            let count = self.pass_part(rest);
            if count == 0 {
                break;
            }
            passed += count;
        }
        passed
    }

    fn pass_part(&mut self, came: &mut [u8]) -> usize {
        match &mut self.part {
            Part::Skipped(bytes) => {
                let count = came.len().min(*bytes);
                *bytes -= count;
                if *bytes == 0 {
                    self.part = skipped(0);
                }
                count
            }
            Part::FrameHead { seen, count } => {
                let missing = seen.get_mut(*count..).unwrap_or_default();
                let taken = missing.len().min(came.len());
                for (to, from) in missing.iter_mut().zip(came.iter()) {
                    *to = *from;
                }
                *count += taken;
                if *count == FRAME_HEAD_BYTES {
                    let head = *seen;
                    self.begin_frame(head);
                }
                taken
            }
            Part::PadLength { block_bytes, has_priority } => {
                let padding_bytes = came.first().copied().map_or(0, usize::from);
                let (block_bytes, has_priority) = (*block_bytes, *has_priority);
                self.begin_block(
                    block_bytes.saturating_sub(padding_bytes),
                    padding_bytes,
                    has_priority,
                );
                1
            }
            Part::Block { block_bytes, padding_bytes } => {
                let (block_bytes, padding_bytes) = (*block_bytes, *padding_bytes);
                let end = block_bytes.min(came.len());
                let fields = came.get_mut(..end).unwrap_or_default();
                let count = self.field.pass(fields, block_bytes);
                self.part = in_block(block_bytes - count, padding_bytes);
                count
            }
        }
    }

    fn begin_block(&mut self, block_bytes: usize, padding_bytes: usize, has_priority: bool) {
        if has_priority {
            // It is passed over as a value would be.
            self.field = Field::Text { text: Text::Value, bytes: PRIORITY_BYTES };
        }
        self.part = in_block(block_bytes, padding_bytes);
    }

    fn begin_frame(&mut self, head: [u8; FRAME_HEAD_BYTES]) {
        let [length @ .., kind, flags, _, _, _, _] = head;
        let bytes = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if kind == HEADERS {
            self.field = Field::Start;
            let has_priority = flags & HAS_PRIORITY != 0;
            if flags & IS_PADDED != 0 && bytes > 0 {
                self.part = Part::PadLength { block_bytes: bytes - 1, has_priority };
            } else {
                self.begin_block(bytes, 0, has_priority);
            }
        } else if kind == CONTINUATION {
            self.begin_block(bytes, 0, false);
        } else {
            self.part = skipped(bytes);
        }
    }
}

const fn skipped(bytes: usize) -> Part {
    match bytes {
        0 => Part::FrameHead { seen: [0; FRAME_HEAD_BYTES], count: 0 },
        bytes => Part::Skipped(bytes),
    }
}

const fn in_block(block_bytes: usize, padding_bytes: usize) -> Part {
    match block_bytes {
        0 => skipped(padding_bytes),
        block_bytes => Part::Block { block_bytes, padding_bytes },
    }
}

impl Field {
    /// Takes what came of a frame that has so many bytes of fields left. Returns how much may go on.
    fn pass(&mut self, came: &mut [u8], block_bytes: usize) -> usize {
        let mut passed = 0;
        while let Some(rest) = came.get_mut(passed..).filter(|rest| !rest.is_empty()) {
            match *self {
                Self::Text { text, bytes } => {
                    let count = bytes.min(rest.len());
                    *self = Self::text(text, bytes - count);
                    passed += count;
                }
                Self::Authority { bytes } => {
                    let has_room = bytes >= URL_BYTES && block_bytes - passed >= URL_BYTES;
                    if has_room {
                        let Some(start) = rest.first_chunk_mut() else { break };
                        mend(start);
                    }
                    *self = Self::text(Text::Value, bytes);
                }
                Self::Start | Self::Index { .. } | Self::Length(_) | Self::LongLength { .. } => {
                    *self = rest.first().map_or(*self, |byte| self.after(*byte));
                    passed += 1;
                }
            }
        }
        passed
    }

    /// What comes after a byte that is of no text.
    fn after(self, byte: u8) -> Self {
        match self {
            Self::Start if byte >= 0x80 => Self::after_index(byte, 0x7f, false),
            Self::Start if byte >= 0x40 => Self::after_index(byte, 0x3f, true),
            // Another size for the table.
            Self::Start if byte >= 0x20 => Self::after_index(byte, 0x1f, false),
            Self::Start => Self::after_index(byte, 0x0f, true),
            Self::Index { .. } if byte >= 0x80 => self,
            Self::Index { has_value: true } => Self::Length(Text::Value),
            Self::Index { has_value: false } => Self::Start,
            Self::Length(text) => match (byte & 0x7f, text) {
                (0x7f, text) => Self::LongLength { text, bytes: 0x7f, shift: 0 },
                // Who writes URLs there has compressed them.
                (bytes, Text::Authority) if byte >= 0x80 => {
                    Self::Authority { bytes: usize::from(bytes) }
                }
                (bytes, text) => Self::text(text, usize::from(bytes)),
            },
            Self::LongLength { text, bytes, shift } => {
                let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                let bytes = bytes.saturating_add(more);
                match byte {
                    0x80.. => Self::LongLength { text, bytes, shift: shift.saturating_add(7) },
                    _ => Self::text(text, bytes),
                }
            }
            Self::Text { .. } | Self::Authority { .. } => self,
        }
    }

    /// After a field's first byte, of which `mask` is the index; all of it means that more follows.
    fn after_index(byte: u8, mask: u8, has_value: bool) -> Self {
        match byte & mask {
            index if index == mask => Self::Index { has_value },
            _ if !has_value => Self::Start,
            0 => Self::Length(Text::Name),
            AUTHORITY_INDEX => Self::Length(Text::Authority),
            _ => Self::Length(Text::Value),
        }
    }

    /// A text of which so much is left.
    fn text(text: Text, bytes: usize) -> Self {
        match (bytes, text) {
            (0, Text::Name) => Self::Length(Text::Value),
            (0, Text::Value | Text::Authority) => Self::Start,
            (bytes, text) => Self::Text { text, bytes },
        }
    }
}

/// Makes of `http://` and `https://`, in HPACK's Huffman code, `http-@` and `https-@`, which take as many
/// bits: 41 and 46.
fn mend(start: &mut [u8; URL_BYTES]) {
    *start = match *start {
        [0x9d, 0x29, 0xae, 0xe3, 0x0c, last @ 0..0x80] => [0x9d, 0x29, 0xad, 0x6f, 0xfd, last],
        [0x9d, 0x29, 0xad, 0x17, 0x18, last @ 0x60..0x64] => {
            [0x9d, 0x29, 0xad, 0x0b, 0x7f, last ^ 0x88]
        }
        proper => proper,
    };
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// What comes as a name and what goes on: Huffman-coded, with its length.
    type Name = (Vec<u8>, Vec<u8>);

    fn name(came: &[u8], wanted: &[u8]) -> Name {
        let coded = |bytes: &[u8]| {
            let length = 0x80 | u8::try_from(bytes.len()).unwrap();
            [&[length], bytes].concat()
        };
        (coded(came), coded(wanted))
    }

    /// `http://127.0.0.1:2379`.
    pub(crate) fn url() -> Name {
        let host = [0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e, 0x09, 0x97, 0x5f];
        name(
            &[&[0x9d, 0x29, 0xae, 0xe3, 0x0c], &host[..]].concat(),
            &[&[0x9d, 0x29, 0xad, 0x6f, 0xfd], &host[..]].concat(),
        )
    }

    /// `https://127.0.0.1:2379`.
    pub(crate) fn https() -> Name {
        let host = [0x22, 0x75, 0x70, 0x2e, 0x05, 0xc3, 0x70, 0x4c, 0xba, 0xff];
        name(
            &[&[0x9d, 0x29, 0xad, 0x17, 0x18, 0x60], &host[..]].concat(),
            &[&[0x9d, 0x29, 0xad, 0x0b, 0x7f, 0xe8], &host[..]].concat(),
        )
    }

    /// `127.0.0.1:2379`.
    pub(crate) fn proper() -> Name {
        let host = [0x08, 0x9d, 0x5c, 0x0b, 0x81, 0x70, 0xdc, 0x13, 0x2e, 0xbf];
        name(&host, &host)
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// A connection on which a name comes in each way that it may, and what looks like it does too.
    pub(crate) fn connection(name: &[u8]) -> Vec<u8> {
        let others = b"\x83\x3f\xe1\x1f\x44\x02/a\x40\x02te\x08trailers\x7f\x00\x01a\xff\x00";
        let long = [&b"\x00\x7f\x03"[..], &[b'x'; 130], b"\x00"].concat();
        let is_like = url().0;
        let unlike = [&b"\x40\x01a"[..], &is_like].concat();
        let fields = |first: u8| [&others[..], &[first], name, &long, &unlike].concat();
        let (start, end) = (fields(0x01), fields(0x11));
        let padded = [&[3], &[0; PRIORITY_BYTES][..], &fields(0x41), &[0x41, 0x8f, 0x9d]].concat();
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, &[]),
            frame(HEADERS, IS_PADDED | HAS_PRIORITY | 0x04, &padded),
            frame(0, 1, &[&[0x41], &is_like[..]].concat()),
            frame(HEADERS, 0, &start[..start.len() - 2]),
            frame(CONTINUATION, 0x04, &[&start[start.len() - 2..], &end].concat()),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{connection, https, proper, url};
    use super::*;

    #[test]
    fn a_name_that_is_a_url_is_mended_in_each_kind_of_field_and_nothing_else_is_changed() {
        for (came, wanted) in [url(), https(), proper()] {
            let mut bytes = connection(&came);
            assert_eq!(Fields::new().pass(&mut bytes), bytes.len());
            assert_eq!(bytes, connection(&wanted));
        }
    }

    #[test]
    fn what_is_mended_is_a_name_that_http_knows_with_the_same_host() {
        for mended in ["http-@127.0.0.1:2379", "https-@[::1]:2379", "http-@localhost"] {
            let authority: http::uri::Authority = mended.parse().unwrap();
            assert_eq!(
                authority.host(),
                mended.split_once('@').unwrap().1.trim_end_matches(":2379")
            );
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_passed_on() {
        let mut noise = 1_u64;
        for round in 0..2_000 {
            let mut bytes = connection(&url().0);
            for _ in 0..=round % 8 {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(noise >> 40).unwrap() % (bytes.len() - PREFACE_BYTES);
                bytes[PREFACE_BYTES + place] = noise.to_be_bytes()[3];
            }
            let passed = Fields::new().pass(&mut bytes);
            assert!(passed + URL_BYTES > bytes.len(), "{passed} of {}", bytes.len());
        }
    }
}
