//! Turns the files under `proto/` into Rust: messages and gRPC clients by prost and tonic, JSON
//! forms by pbjson. No protoc: protox parses the files, so a fresh machine needs nothing but cargo.

use prost::Message as _;

/// Every file that nobody imports; the others come along.
const ROOTS: [&str; 10] = [
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/auth.proto",
    "v3lockpb.proto",
    "v3electionpb.proto",
    "health.proto",
    "quorate.proto",
];

/// Packages that the HTTP gateway speaks in JSON.
const JSON_PACKAGES: [&str; 5] =
    [".etcdserverpb", ".mvccpb", ".authpb", ".v3lockpb", ".v3electionpb"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(ROOTS, ["proto"])?;
    let descriptors = files.encode_to_vec();
    tonic_prost_build::configure()
        // Our server dispatches and frames by itself (crate quorate-server, `grpc`); a transport is
        // the client's choice.
        .build_server(false)
        .build_transport(false)
        .bytes(".")
        .compile_fds(files)?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors)?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .build(&JSON_PACKAGES)?;
    Ok(())
}
