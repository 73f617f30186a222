//! Turns the files under `proto/` into Rust: messages and gRPC clients by prost and tonic, JSON
//! forms by pbjson, which read by `src/json.rs`, and a table of the files themselves for who asks a
//! server what it serves. No protoc: protox parses the files, so a fresh machine needs nothing but
//! cargo.

use prost::Message as _;
use protox::prost_reflect::{DescriptorPool, FileDescriptor};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every file that nobody imports; the others come along.
const ROOTS: [&str; 12] = [
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
    "reflection_v1.proto",
    "reflection_v1alpha.proto",
];

/// Packages that the HTTP gateway speaks in JSON.
const JSON_PACKAGES: [&str; 5] =
    [".etcdserverpb", ".mvccpb", ".authpb", ".v3lockpb", ".v3electionpb"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(ROOTS, ["proto"])?;
    let descriptors = files.encode_to_vec();
    let out: PathBuf = std::env::var_os("OUT_DIR").ok_or("cargo says where to write")?.into();
    write_table(&DescriptorPool::from_file_descriptor_set(files.clone())?, &out)?;
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
    JSON_PACKAGES.iter().try_for_each(|package| use_our_json(&out, package))
}

/// Lets the generated code read bytes and integers by `src/json.rs`, which says why.
fn use_our_json(out: &Path, package: &str) -> Result<(), Box<dyn Error>> {
    let place = out.join(format!("{}.serde.rs", package.trim_start_matches('.')));
    let text = std::fs::read_to_string(&place)?
        .replace("::pbjson::private::BytesDeserialize<", "crate::json::Base64<")
        .replace("::pbjson::private::NumberDeserialize<", "crate::json::Number<")
        // serde says "expected" itself in front of what a visitor says.
        .replace("\"expected one of: {:?}\"", "\"one of: {:?}\"");
    if text.contains("Deserialize<_>") || !text.contains("crate::json::") {
        let package = package.trim_start_matches('.');
        return Err(
            format!("{package}: pbjson reads by other names than those replaced here").into()
        );
    }
    Ok(std::fs::write(place, text)?)
}

/// Writes each file's descriptor, without our comments, and a table of all in the order of their
/// names.
fn write_table(pool: &DescriptorPool, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut symbols = symbols_of(pool);
    let mut files: Vec<FileDescriptor> = pool.files().collect();
    files.sort_by(|a, b| a.name().cmp(b.name()));
    let mut table = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let mut proto = file.file_descriptor_proto().clone();
        proto.source_code_info = None;
        let place = out.join(format!("descriptor-{number}.bin"));
        std::fs::write(&place, proto.encode_to_vec())?;
        let place = place.to_str().ok_or("a folder's name that is no text")?;
        let mut names = symbols.remove(file.name()).unwrap_or_default();
        names.sort();
        writeln!(
            table,
            "File {{ name: {:?}, imports: &{:?}, symbols: &{names:?}, \
             descriptor: include_bytes!({place:?}) }},",
            file.name(),
            proto.dependency,
        )?;
    }
    table.push_str("]\n");
    Ok(std::fs::write(out.join("descriptors.rs"), table)?)
}

/// The full names of everything that has one, by file.
fn symbols_of(pool: &DescriptorPool) -> BTreeMap<String, Vec<String>> {
    let mut symbols: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |file: FileDescriptor, name: &str| {
        symbols.entry(file.name().to_owned()).or_default().push(name.to_owned());
    };
    for message in pool.all_messages() {
        add(message.parent_file(), message.full_name());
        for field in message.fields() {
            add(message.parent_file(), field.full_name());
        }
        for oneof in message.oneofs() {
            add(message.parent_file(), oneof.full_name());
        }
    }
    for each in pool.all_enums() {
        add(each.parent_file(), each.full_name());
        for value in each.values() {
            add(each.parent_file(), value.full_name());
        }
    }
    for service in pool.services() {
        add(service.parent_file(), service.full_name());
        for method in service.methods() {
            add(service.parent_file(), method.full_name());
        }
    }
    symbols
}
