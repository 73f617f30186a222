//! The etcd v3 protocol: messages, gRPC clients and the JSON forms that etcd's HTTP gateway uses,
//! one module for each of etcd's packages. Everything is generated from `proto/`; no rule of the
//! store, of Raft or of a server belongs here.
//!
//! Keys and values are [`bytes::Bytes`]: decoding a request shares the received buffer instead of
//! copying it. JSON (through serde) is the gateway's: names as in the `.proto` files on the way
//! out, those or camelCase on the way in, 64-bit integers as strings, bytes in base64, zero values
//! left out, unknown fields ignored.

// Generated code is exempt from the house's lints.
#![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications)]
#![allow(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::indexing_slicing)]

mod json;

/// The client-facing services and their messages.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// Keys with their history, and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// Users, roles and permissions.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/authpb.serde.rs"));
}

/// Locks that the server keeps for a client.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

/// Elections that the server keeps for clients.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// The health check that all gRPC servers share.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// What etcd has no word for: questions that only this server answers.
pub mod quorate {
    include!(concat!(env!("OUT_DIR"), "/quorate.v1.rs"));
}

/// What a server serves, for who asks it. The older `v1alpha` has the same messages.
pub mod reflection {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

/// The older name of [`reflection`], for its clients.
pub mod reflection_v1alpha {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.rs"));
}

/// The files that all of this is made from, for who asks a server what it serves.
pub mod descriptors {
    /// One of our `.proto` files.
    #[derive(Clone, Copy, Debug)]
    pub struct File {
        /// As others import it.
        pub name: &'static str,
        /// The files that it needs itself.
        pub imports: &'static [&'static str],
        /// The full names of services, methods, messages, enums and their parts; sorted.
        pub symbols: &'static [&'static str],
        /// The encoded `google.protobuf.FileDescriptorProto`.
        pub descriptor: &'static [u8],
    }

    /// All files, in the order of their names.
    pub static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));
}
