//! A disk gives back what nobody wrote: no answer is made of it, and the store goes no further. What
//! an older program left is still read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{apply, as_format, committed, compact, delete, everything, get, put, snapshot};
use quorate::core::LogIndex;
use quorate::{Note, Replies, StateMachine};
use quorate_kv::auth::api::{AuthRequest, AuthRequestKind, RoleAddRequest};
use quorate_kv::lease::api::LeaseGrantRequest;
use quorate_kv::*;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Which bit reads wrong.
#[derive(Clone, Debug)]
struct Flip {
    space: Space,
    key: Vec<u8>,
    is_in_key: bool,
    bit: usize,
}

impl Flip {
    fn is_of(&self, space: Space, key: &[u8]) -> bool {
        self.space == space && self.key == key
    }

    fn apply(&self, bytes: &mut [u8]) {
        bytes[self.bit / 8] ^= 1 << (self.bit % 8);
    }
}

/// Memory in which one bit reads wrong. As in a page of a file, a row with another key stays where
/// it is, and whoever searches for its key does not find it.
#[derive(Clone, Default)]
struct Flipping {
    engine: MemoryEngine,
    flip: Arc<Mutex<Option<Flip>>>,
}

struct FlippingView(Arc<dyn EngineView>, Option<Flip>);

struct FlippingCursor {
    cursor: Box<dyn Cursor>,
    space: Space,
    flip: Option<Flip>,
    row: (Vec<u8>, Vec<u8>),
}

impl Engine for Flipping {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        let flip = self.flip.lock().unwrap().clone();
        Ok(Arc::new(FlippingView(self.engine.view()?, flip)))
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        self.engine.write_batch(batch, durability)
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(next)
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}

impl EngineView for FlippingView {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.0.get(space, key)?;
        let flip = self.1.as_ref().filter(|flip| flip.is_of(space, key));
        let Some((flip, value)) = flip.zip(value.clone()) else { return Ok(value) };
        if flip.is_in_key {
            return Ok(None);
        }
        let mut value = value.to_vec();
        flip.apply(&mut value);
        Ok(Some(value.into()))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor>, EngineError> {
        let cursor = self.0.scan(space, from, to, direction)?;
        Ok(Box::new(FlippingCursor {
            cursor,
            space,
            flip: self.1.clone(),
            row: Default::default(),
        }))
    }
}

impl Cursor for FlippingCursor {
    fn advance(&mut self) -> Result<bool, EngineError> {
        let is_there = self.cursor.advance()?;
        self.row = (self.cursor.key().to_vec(), self.cursor.value().to_vec());
        if let Some(flip) = &self.flip
            && is_there
            && flip.is_of(self.space, self.cursor.key())
        {
            flip.apply(if flip.is_in_key { &mut self.row.0 } else { &mut self.row.1 });
        }
        Ok(is_there)
    }

    fn key(&self) -> &[u8] {
        &self.row.0
    }

    fn value(&self) -> &[u8] {
        &self.row.1
    }
}

fn open_on(engine: Flipping) -> Result<(KvStateMachine, Reader), EngineError> {
    open(Arc::new(engine), Arc::new(Inline))
}

fn history() -> Vec<CommandKind> {
    let grant = CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 });
    let (key, value) = ("leased".into(), "v".into());
    let leased = PutRequest { key, value, lease: 7, ..Default::default() };
    let role = AuthRequestKind::RoleAdd(RoleAddRequest { name: "role".into() });
    vec![
        CommandKind::Auth(AuthRequest::new(role)),
        put("a", "first"),
        put("a", "second"),
        put("b", "once"),
        grant,
        CommandKind::Put(leased),
        delete("b"),
        compact(3),
        put("a", ""),
        put("c", "the last one"),
    ]
}

/// A store with some of everything, all of it in its engine.
fn filled() -> Flipping {
    let engine = Flipping::default();
    let (mut store, _) = open_on(engine.clone()).unwrap();
    let last = history().len() as u64;
    for (index, kind) in (1..).zip(history()) {
        apply(&mut store, committed(index, kind));
    }
    let note = Note { key: "session".into(), value: Some("reply".into()) };
    store.notebook().unwrap().keep(LogIndex::new(last), vec![note]).unwrap();
    store.flush().unwrap();
    engine
}

type Answer = Result<String, String>;

/// Everything that can be asked of a store, and of one that does not open the reason.
fn ask(engine: &Flipping) -> Vec<Answer> {
    let (mut store, reader) = match open_on(engine.clone()) {
        Ok(opened) => opened,
        // One flipped bit makes a large number of a small one, and a later program is asked for.
        Err(error @ EngineError::Format { .. }) => return vec![Err(error.to_string())],
        Err(error) => return vec![damage(&error)],
    };
    let mut answers = Vec::new();
    let now = i64::try_from(reader.revision().get()).unwrap();
    for revision in 3..=now {
        answers.push(read(reader.range(&RangeRequest { revision, ..everything() })));
    }
    for key in ["a", "b", "c", "leased"] {
        answers.push(read(reader.range(&get(key))));
    }
    answers.push(read(reader.range(&RangeRequest { keys_only: true, ..everything() })));
    answers.push(read(reader.range(&RangeRequest { count_only: true, ..everything() })));
    answers.push(read(reader.lease_keys(7)));
    answers.push(read(reader.hash(None)));
    answers.push(Ok(show(&reader.auth())));
    assert_eq!(reader.failure().is_some(), answers.iter().any(Result::is_err));
    let notes = store.notebook().unwrap().rows();
    answers.push(notes.map_err(|error| error.to_string()).map(|notes| show(&notes)));
    let mut bytes = Vec::new();
    let written = store.view().unwrap().write_to(&mut bytes);
    answers.push(written.map_err(|error| error.to_string()).map(|()| show(&bytes)));
    answers
}

fn read<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> Answer {
    match answer {
        Ok(answer) => Ok(show(&answer)),
        Err(ReadError::Engine(error)) => damage(&error),
        Err(ReadError::Refused(error)) => panic!("refused: {error}"),
    }
}

fn show(answer: &impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

fn damage(error: &EngineError) -> Answer {
    assert!(error.is_damage(), "{error}");
    Err(error.to_string())
}

/// Every row of an engine.
fn rows(engine: &MemoryEngine) -> Vec<(Space, Vec<u8>, Vec<u8>)> {
    let view = engine.view().unwrap();
    let mut found = Vec::new();
    for space in Space::ALL {
        let mut rows = view.scan(space, &[], None, Direction::Forward).unwrap();
        while rows.advance().unwrap() {
            found.push((space, rows.key().to_vec(), rows.value().to_vec()));
        }
    }
    found
}

#[test]
fn every_flipped_bit_of_a_row_or_index_entry_is_an_error_and_never_an_answer() {
    let engine = filled();
    let expected = ask(&engine);
    assert!(expected.iter().all(Result::is_ok), "{expected:?}");
    let mut flipped: BTreeMap<Space, usize> = BTreeMap::new();
    for (space, key, value) in rows(&engine.engine) {
        // How far compaction got is a hint: without it the work is done once more.
        let has_key = space != Space::Meta;
        let bits_of_key = if has_key { 8 * key.len() } else { 0 };
        let places = (0..bits_of_key).map(|bit| (true, bit));
        for (is_in_key, bit) in places.chain((0..8 * value.len()).map(|bit| (false, bit))) {
            let flip = Flip { space, key: key.clone(), is_in_key, bit };
            *engine.flip.lock().unwrap() = Some(flip.clone());
            let got = ask(&engine);
            assert!(got.iter().any(Result::is_err), "nobody noticed {flip:?}");
            for (got, expected) in got.iter().zip(&expected) {
                assert!(got.is_err() || got == expected, "{flip:?} is served: {got:?}");
            }
            *flipped.entry(space).or_default() += 1;
        }
    }
    assert_eq!(flipped.len(), Space::ALL.len(), "{flipped:?}");
}

/// Knows whether somebody woke it.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_store_that_met_a_damaged_row_takes_nothing_more_and_tells_who_waits_for_it() {
    let engine = filled();
    let (_, key, _) = rows(&engine.engine).into_iter().find(|row| row.0 == Space::Rows).unwrap();
    let flip = Flip { space: Space::Rows, key, is_in_key: false, bit: 77 };
    *engine.flip.lock().unwrap() = Some(flip);
    let (mut store, reader) = open_on(engine).unwrap();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut failed = pin!(reader.failed());
    assert!(failed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(reader.failure(), None);

    assert!(reader.hash(None).is_err());
    assert!(bell.0.load(Ordering::Relaxed), "whoever waits is woken");
    let Poll::Ready(why) = failed.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it has failed");
    };
    assert!(why.contains("checksum is wrong"), "{why}");
    let entry = committed(history().len() as u64 + 1, put("d", "4"));
    assert!(store.apply(&[entry], &mut Replies::default()).is_err());
    assert!(store.flush().is_err());
}

#[test]
fn a_store_of_format_2_is_read_and_becomes_the_newest() {
    let engine = filled();
    let expected = ask(&engine);
    let older = Flipping { engine: as_format(&engine.engine, 2), ..Flipping::default() };
    assert_eq!(ask(&older), expected);
    let format = older.engine.view().unwrap().get(Space::Meta, b"format").unwrap().unwrap();
    assert_eq!(format[..2], [8, 4], "a program that knows no checksums refuses it by name");
    assert_eq!(ask(&older), expected, "once more, as a store of the newest format");
    let old_row_count = rows(&older.engine).iter().filter(|row| is_bare(row)).count();

    let (mut store, reader) = open_on(older.clone()).unwrap();
    apply(&mut store, committed(20, put("a", "anew")));
    store.flush().unwrap();
    let (mut other, expected) = open_on(engine.clone()).unwrap();
    apply(&mut other, committed(20, put("a", "anew")));
    assert_eq!(snapshot(&store), snapshot(&other), "no replica differs by its format");
    assert_eq!(reader.hash(None).unwrap(), expected.hash(None).unwrap());
    let bare = rows(&older.engine).into_iter().filter(is_bare).count();
    assert_eq!(bare, old_row_count, "what is new has a checksum");
    apply(&mut store, committed(21, compact(reader.revision().get().cast_signed())));
    store.flush().unwrap();
    assert!(rows(&older.engine).into_iter().filter(is_bare).count() < old_row_count);
}

/// Whether a row has no checksum, though it should have one some day.
fn is_bare((space, _, value): &(Space, Vec<u8>, Vec<u8>)) -> bool {
    *space != Space::Meta && value[0] != 0xa6
}

#[test]
fn a_format_that_damage_made_of_another_is_not_believed() {
    let engine = filled().engine;
    let put = |value: Vec<u8>| {
        let (space, key) = (Space::Meta, b"format".to_vec());
        engine.write_batch(vec![Write::Put { space, key, value }], Durability::Now).unwrap();
        open(Arc::new(engine.clone()), Arc::new(Inline)).err()
    };
    let whole = engine.view().unwrap().get(Space::Meta, b"format").unwrap().unwrap();
    for older in [1, 2] {
        let mut flipped = whole.to_vec();
        flipped[1] = older;
        assert!(put(flipped).is_some_and(|error| error.is_damage()), "{older}");
    }
    assert!(
        put(whole[..2].to_vec()).is_some_and(|error| error.is_damage()),
        "without its checksum"
    );
    assert!(put(whole.to_vec()).is_none());
    let gone = Write::Delete { space: Space::Meta, key: b"format".to_vec() };
    engine.write_batch(vec![gone], Durability::Now).unwrap();
    let error = open(Arc::new(engine.clone()), Arc::new(Inline)).err();
    assert!(error.is_some_and(|error| error.is_damage()), "it is no fresh store");
}

const KEY_COUNT: u64 = 300;

fn needle(number: u64) -> String {
    format!("needle-{number:04}-{}", "x".repeat(100))
}

/// A file with a store of some pages.
fn file_of_a_store(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("state");
    let engine = Arc::new(RedbEngine::open(&path).unwrap());
    let (mut store, _) = open(engine, Arc::new(Inline)).unwrap();
    for number in 1..=KEY_COUNT {
        let (key, value) = (format!("key-{number:04}").into(), needle(number).into());
        let put = PutRequest { key, value, ..Default::default() };
        apply(&mut store, committed(number, CommandKind::Put(put)));
    }
    store.flush().unwrap();
    path
}

#[test]
fn a_bit_that_flips_in_the_file_under_a_running_store_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_of_a_store(folder.path());
    let engine = Arc::new(RedbEngine::open_with_cache(&path, 0).unwrap());
    let (_store, reader) = open(engine, Arc::new(Inline)).unwrap();
    let whole = reader.range(&everything()).unwrap();
    assert_eq!(whole.count, KEY_COUNT.cast_signed());

    let text = fs::read(&path).unwrap();
    let wanted = needle(KEY_COUNT / 2);
    let places = text.windows(wanted.len()).enumerate().filter(|(_, at)| *at == wanted.as_bytes());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for (place, _) in places {
        file.write_all_at(&[text[place + 50] ^ 4], place as u64 + 50).unwrap();
    }
    let answer = reader.range(&everything());
    let Err(ReadError::Engine(error)) = answer else { panic!("served: {answer:?}") };
    assert!(error.is_damage(), "{error}");
    assert!(reader.failure().is_some());
}

#[test]
fn a_closed_file_with_a_flipped_bit_is_refused_or_its_answers_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_of_a_store(folder.path());
    let whole = fs::read(&path).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused_count = 0;
    for number in 0..40 {
        let place = number * used / 40;
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (number % 8);
        fs::write(&path, &flipped).unwrap();
        let opened = RedbEngine::open(&path).map_err(|error| error.to_string());
        let opened = opened.and_then(|engine| {
            open(Arc::new(engine), Arc::new(Inline)).map_err(|error| error.to_string())
        });
        let Ok((store, reader)) = opened else {
            refused_count += 1;
            continue;
        };
        // An older state is as good: the log brings the rest.
        let applied = store.applied().get();
        let answer = reader.range(&everything()).unwrap();
        assert_eq!(answer.count.cast_unsigned(), applied, "byte {place}");
        for (number, kv) in (1..).zip(answer.kvs) {
            assert_eq!(kv.value, needle(number), "byte {place}");
        }
    }
    assert!(refused_count > 0, "none of them met a page in use");
}
