//! The first words on a connection: who calls whom, and whether they belong together; or a question
//! about the cluster. Decides nothing; the acceptor does.

use super::cursor::{Cursor, WireError};
use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::{Configuration, LogId, NodeId, ProtocolVersion};
use quorate_wal::codec::{decode_configuration, encode_configuration};

/// The first bytes that a caller sends, so that a stranger's are known at once.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"QUORATE\n");
/// Since this version the sides of a connection find one that both know. Before it each turned away
/// whoever spoke another.
pub(crate) const NEGOTIATED_SINCE: ProtocolVersion = ProtocolVersion::new(6);
/// A handshake frame is never larger: a stranger cannot make us set memory aside.
pub(crate) const HELLO_BYTES_MAX: usize = 1024;
/// An address in a handshake, or several of one node, is never longer. One that is, is not told to those
/// who do not know the node yet: they answer it once they know it.
pub const ADDRESS_BYTES_MAX: usize = 512;

const HELLO: u8 = 0x60;
const WELCOME: u8 = 0x61;
const REJECT: u8 = 0x62;
const PING: u8 = 0x63;
const PONG: u8 = 0x64;
const ASK: u8 = 0x65;
const VIEW: u8 = 0x66;

/// What travels on a connection beside its handshake; see `docs/wire-format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Votes, heartbeats, acknowledgements, read indexes: small, and never kept waiting.
    Control,
    /// Entries, snapshots, forwarded commands and their replies.
    Bulk,
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        })
    }
}

/// A caller introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The newest that the caller speaks; or, once it was turned away with another, that one.
    pub(crate) version: ProtocolVersion,
    pub(crate) cluster_id: u64,
    pub(crate) from: NodeId,
    /// Whom the caller believes to reach.
    pub(crate) to: NodeId,
    /// The identity of the caller's disk.
    pub(crate) storage_id: u128,
    pub(crate) channel: Channel,
    /// The version of the caller's configuration: a caller that we do not know may be a member
    /// that was added while we were away.
    pub(crate) configuration_version: u64,
    /// Where the caller listens, for the answers of a node that does not know it yet.
    pub(crate) address: String,
}

/// Why a caller was turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It speaks another protocol.
    #[error("{}", words_on_version(*expected, *got, *range))]
    Version {
        /// The oldest that the acceptor would speak.
        expected: ProtocolVersion,
        /// The caller's.
        got: ProtocolVersion,
        /// What else the acceptor says, to a caller who understands it.
        range: Option<SpokenRange>,
    },
    /// It belongs to another cluster.
    #[error(
        "cluster id {expected:#x} expected, got {got:#x}: this is another cluster, perhaps one that \
         was begun with what was left of the caller's, or with a backup of it. A member of the old \
         one is none of it: it is added, and comes with an empty folder"
    )]
    Cluster {
        /// The acceptor's.
        expected: u64,
        /// The caller's.
        got: u64,
    },
    /// It wanted to reach another node: an address in the configuration is wrong.
    #[error(
        "expected node {got} at this address, found node {expected}. If node {got} was removed and node \
         {expected} has come in its place, this passes once the caller has learned of it; else one of \
         them has a wrong peer URL: look at {:x} and {:x} in `quorate member list`",
        .got.get(), .expected.get()
    )]
    Target {
        /// The acceptor.
        expected: NodeId,
        /// Whom the caller wanted.
        got: NodeId,
    },
    /// It is no member of the cluster, as far as the acceptor knows, and knows of none newer.
    #[error("node {from} is no member in configuration version {configuration_version}")]
    Sender {
        /// The caller.
        from: NodeId,
        /// The version of the acceptor's configuration.
        configuration_version: u64,
    },
    /// It is no member of the cluster, by a committed configuration that is no older than its own.
    #[error("node {from} was removed: configuration version {version} does not have it")]
    Removed {
        /// The caller.
        from: NodeId,
        /// The version of the acceptor's committed configuration.
        version: u64,
        /// Where that stands in the log.
        position: LogId,
    },
    /// It calls itself by the acceptor's own name.
    #[error("node {node} is called by another node {node}")]
    SameNode {
        /// The name.
        node: NodeId,
    },
}

/// What an acceptor would speak, beside the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpokenRange {
    /// The newest that its program speaks.
    pub newest: ProtocolVersion,
    /// The oldest is what the cluster speaks; the program could speak an older one.
    pub is_cluster: bool,
}

/// Which versions meet, and what to do about it.
fn words_on_version(
    expected: ProtocolVersion,
    got: ProtocolVersion,
    range: Option<SpokenRange>,
) -> String {
    let Some(SpokenRange { newest, is_cluster }) = range else {
        return format!(
            "protocol version {expected} expected, got {got}: the node with the older program has to be \
             upgraded"
        );
    };
    if got > newest {
        return format!(
            "protocol versions {expected} to {newest} expected, got {got}: the acceptor's program is too \
             old for the caller; upgrade the acceptor, one version at a time"
        );
    }
    if is_cluster {
        return format!(
            "this cluster speaks protocol version {expected}, and the caller's program up to {got}: a \
             cluster does not go back. Start the caller with the program that the other members run"
        );
    }
    format!(
        "protocol versions {expected} to {newest} expected, got {got}: the caller's program is too old \
         for the acceptor; upgrade the caller, one version at a time"
    )
}

/// What an acceptor says of versions to a caller who negotiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// What is spoken on this connection.
    pub(crate) version: ProtocolVersion,
    /// The newest that the acceptor speaks.
    pub(crate) newest: ProtocolVersion,
}

/// What a node says of its cluster to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster.
    pub cluster_id: u64,
    /// The node that says so.
    pub node_id: NodeId,
    /// The latest configuration that it knows to be committed; without members if it waits to be
    /// added itself.
    pub configuration: Configuration,
}

/// The small frames of the connection itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkFrame {
    Hello(Hello),
    /// The acceptor is content; it says which disk it has, and, to a caller who negotiates, what is
    /// spoken.
    Welcome {
        storage_id: u128,
        spoken: Option<Spoken>,
    },
    Reject(Reject),
    /// "Are you there?"
    Ping {
        token: u64,
    },
    /// "I am."
    Pong {
        token: u64,
    },
    /// "Which cluster is this, and who are its members?" from somebody who does not know.
    Ask {
        version: ProtocolVersion,
    },
    /// The answer; nothing follows it.
    View(Box<ClusterView>),
}

/// Whether a body of this kind belongs to the connection rather than to the drivers.
pub(crate) const fn is_link_kind(kind: u8) -> bool {
    matches!(kind, HELLO..=VIEW)
}

pub(crate) fn put_link_frame(frame: &LinkFrame, out: &mut BytesMut) {
    match frame {
        LinkFrame::Hello(hello) => put_hello(hello, out),
        LinkFrame::Welcome { storage_id, spoken } => {
            out.put_u8(WELCOME);
            out.put_u128_le(*storage_id);
            if let Some(Spoken { version, newest }) = spoken {
                out.put_u16_le(version.get());
                out.put_u16_le(newest.get());
            }
        }
        LinkFrame::Reject(reject) => put_reject(reject, out),
        LinkFrame::Ping { token } => {
            out.put_u8(PING);
            out.put_u64_le(*token);
        }
        LinkFrame::Pong { token } => {
            out.put_u8(PONG);
            out.put_u64_le(*token);
        }
        LinkFrame::Ask { version } => {
            out.put_u8(ASK);
            out.put_u64_le(MAGIC);
            out.put_u16_le(version.get());
        }
        LinkFrame::View(view) => {
            out.put_u8(VIEW);
            out.put_u64_le(view.cluster_id);
            out.put_u64_le(view.node_id.get());
            encode_configuration(&view.configuration, out);
        }
    }
}

fn put_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_u8(HELLO);
    out.put_u64_le(MAGIC);
    out.put_u16_le(hello.version.get());
    out.put_u64_le(hello.cluster_id);
    out.put_u64_le(hello.from.get());
    out.put_u64_le(hello.to.get());
    out.put_u128_le(hello.storage_id);
    out.put_u8(match hello.channel {
        Channel::Control => 0,
        Channel::Bulk => 1,
    });
    out.put_u64_le(hello.configuration_version);
    super::put_bytes(hello.address.as_bytes(), out);
}

fn put_reject(reject: &Reject, out: &mut BytesMut) {
    let (number, expected, got) = match reject {
        Reject::Version { expected, got, .. } => {
            (0, u64::from(expected.get()), u64::from(got.get()))
        }
        Reject::Cluster { expected, got } => (1, *expected, *got),
        Reject::Target { expected, got } => (2, expected.get(), got.get()),
        Reject::Sender { from, configuration_version } => (3, from.get(), *configuration_version),
        Reject::SameNode { node } => (4, node.get(), node.get()),
        Reject::Removed { from, version, .. } => (5, from.get(), *version),
    };
    out.put_u8(REJECT);
    out.put_u8(number);
    out.put_u64_le(expected);
    out.put_u64_le(got);
    if let Reject::Removed { position, .. } = reject {
        super::put_log_id(*position, out);
    }
    if let Reject::Version { range: Some(SpokenRange { newest, is_cluster }), .. } = reject {
        out.put_u16_le(newest.get());
        out.put_u8((*is_cluster).into());
    }
}

pub(crate) fn take_link_frame(body: Bytes) -> Result<LinkFrame, WireError> {
    let mut cursor = Cursor::new(body);
    let frame = match cursor.u8("kind")? {
        HELLO => LinkFrame::Hello(take_hello(&mut cursor)?),
        WELCOME => LinkFrame::Welcome {
            storage_id: cursor.u128("storage id")?,
            spoken: take_spoken(&mut cursor)?,
        },
        REJECT => LinkFrame::Reject(take_reject(&mut cursor)?),
        PING => LinkFrame::Ping { token: cursor.u64("token")? },
        PONG => LinkFrame::Pong { token: cursor.u64("token")? },
        ASK => {
            take_magic(&mut cursor)?;
            LinkFrame::Ask { version: cursor.protocol("protocol version")? }
        }
        VIEW => LinkFrame::View(Box::new(ClusterView {
            cluster_id: cursor.u64("cluster id")?,
            node_id: cursor.node_id()?,
            configuration: decode_configuration(cursor.rest_mut())?,
        })),
        kind => return Err(WireError::UnknownKind { kind }),
    };
    cursor.finish()?;
    Ok(frame)
}

/// Absent to a caller who does not negotiate.
fn take_spoken(cursor: &mut Cursor) -> Result<Option<Spoken>, WireError> {
    if cursor.left_bytes() == 0 {
        return Ok(None);
    }
    let version = cursor.protocol("protocol version")?;
    let newest = cursor.protocol("newest version")?;
    if newest > ProtocolVersion::NEWEST {
        cursor.ignore_rest();
    }
    Ok(Some(Spoken { version, newest }))
}

/// As above.
fn take_range(cursor: &mut Cursor) -> Result<Option<SpokenRange>, WireError> {
    if cursor.left_bytes() == 0 {
        return Ok(None);
    }
    let newest = cursor.protocol("newest version")?;
    let is_cluster = cursor.flag("is the cluster's")?;
    if newest > ProtocolVersion::NEWEST {
        cursor.ignore_rest();
    }
    Ok(Some(SpokenRange { newest, is_cluster }))
}

fn take_magic(cursor: &mut Cursor) -> Result<(), WireError> {
    match cursor.u64("magic")? {
        MAGIC => Ok(()),
        got => Err(WireError::Meaningless { field: "magic", got }),
    }
}

fn take_hello(cursor: &mut Cursor) -> Result<Hello, WireError> {
    take_magic(cursor)?;
    let version = cursor.protocol("protocol version")?;
    let cluster_id = cursor.u64("cluster id")?;
    let from = cursor.node_id()?;
    let to = cursor.node_id()?;
    let storage_id = cursor.u128("storage id")?;
    let channel = match cursor.u8("channel")? {
        0 => Channel::Control,
        1 => Channel::Bulk,
        got => return Err(WireError::Meaningless { field: "channel", got: u64::from(got) }),
    };
    let configuration_version = cursor.u64("configuration version")?;
    let address = cursor.text("address")?;
    if version > ProtocolVersion::NEWEST {
        cursor.ignore_rest();
    }
    let hello = Hello {
        version,
        cluster_id,
        from,
        to,
        storage_id,
        channel,
        configuration_version,
        address,
    };
    Ok(hello)
}

fn take_reject(cursor: &mut Cursor) -> Result<Reject, WireError> {
    let reason = cursor.u8("reason")?;
    let expected = cursor.u64("expected")?;
    let got = cursor.u64("got")?;
    let small = |field, value| {
        let number = u16::try_from(value);
        let number = number.map_err(|_| WireError::Meaningless { field, got: value });
        number.map(ProtocolVersion::new)
    };
    match reason {
        0 => Ok(Reject::Version {
            expected: small("expected", expected)?,
            got: small("got", got)?,
            range: take_range(cursor)?,
        }),
        1 => Ok(Reject::Cluster { expected, got }),
        2 => Ok(Reject::Target { expected: NodeId::new(expected), got: NodeId::new(got) }),
        3 => Ok(Reject::Sender { from: NodeId::new(expected), configuration_version: got }),
        4 => Ok(Reject::SameNode { node: NodeId::new(expected) }),
        5 => Ok(Reject::Removed {
            from: NodeId::new(expected),
            version: got,
            position: cursor.log_id()?,
        }),
        reason => Err(WireError::Meaningless { field: "reason", got: u64::from(reason) }),
    }
}
