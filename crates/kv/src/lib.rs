//! The replicated key-value store: MVCC revisions as etcd defines them.
//!
//! A deterministic state machine. Commands of the log go in through
//! [`quorate::StateMachine::apply`]; a [`Reader`] answers range requests from any thread at the
//! same time. Changes gather in memory and move to a storage [`Engine`] in the background, in large
//! batches, each together with how far it goes: the log is what makes them durable before that.
//!
//! ```
//! use quorate_kv::{Command, CommandKind, Inline, MemoryEngine, PutRequest, RangeRequest, open};
//! use quorate::core::{LogId, LogIndex, Term};
//! use quorate::{Committed, Replies, StateMachine};
//! use prost::Message;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut store, reader) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline))?;
//! let put = PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() };
//! let command = Command::new(CommandKind::Put(put)).encode_to_vec().into();
//! let log_id = LogId::new(Term::new(1), LogIndex::new(1));
//! store.apply(&[Committed { log_id, command }], &mut Replies::default())?;
//!
//! let range = RangeRequest { key: "greeting".into(), ..Default::default() };
//! assert_eq!(reader.range(&range)?.kvs[0].value, "hello");
//! assert_eq!(reader.revision().get(), 2);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod alarm;
pub mod api;
mod apply;
pub mod auth;
mod background;
mod backup;
mod command;
mod counts;
mod engine;
mod error;
mod glance;
mod hash;
mod heir;
mod keys;
pub mod lease;
mod machine;
mod meta;
mod notes;
mod overlay;
mod pieces;
mod range;
mod reader;
mod revision;
mod row;
mod rows;
mod seal;
mod snapshot;
mod store;
mod txn;
mod validate;
mod view;
pub mod watch;
mod work;
mod writer;

pub use alarm::{
    ALARMS_COUNT_MAX, AlarmAction, AlarmKind, AlarmMember, AlarmRequest, AlarmResponse, may_put,
};
pub use api::{
    CompactionRequest, CompactionResponse, Compare, CompareResult, CompareTarget, CompareUnion,
    DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Request, RequestOp, Response, ResponseHeader, ResponseOp, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};
pub use auth::api::CallerMessage;
pub use auth::{Access, AuthState};
pub use background::{Background, BackgroundThread, Inline, Job};
pub use backup::Backup;
pub use command::{Command, CommandKind, CommandReply, CommandTag, Outcome};
pub use counts::OpCounts;
pub use engine::{
    CACHE_SIZE_BYTES_DEFAULT, Copying, Cursor, Direction, Durability, Engine, EngineError,
    EngineView, Feed, MemoryEngine, NoSteward, Patience, RedbEngine, Refusal, Renewal, Space,
    Steward, Write,
};
pub use error::{AuthError, OpError, ReadError, RequestError, WireError};
pub use glance::{Glance, glance};
pub use hash::StoreHash;
pub use heir::Inherited;
pub use lease::Lease;
pub use machine::{KvStateMachine, open, open_with};
pub use pieces::RangePieces;
pub use range::{is_filtered, is_sorted};
pub use reader::Reader;
pub use revision::Revision;
pub use snapshot::SnapshotError;
pub use store::Limits;
pub use txn::is_read_only;
pub use validate::{TXN_OPS_COUNT_MAX, validate, validate_with};
