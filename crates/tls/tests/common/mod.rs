//! Both ends of a connection in memory.

#![allow(dead_code, unreachable_pub)] // Each test file uses a part.

pub mod authority;

use authority::{Authority, Pair};
use quorate_tls::{Tls, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, Connection, ServerConnection};
use std::sync::Arc;

/// Where all of this is.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// What shows this certificate, and believes this authority.
pub fn files(pair: &Pair, authority: &Authority) -> TlsFiles {
    TlsFiles { trusted_ca: Some(authority.ca.clone()), ..shown(pair) }
}

/// What shows this certificate, and asks for none.
pub fn shown(pair: &Pair) -> TlsFiles {
    TlsFiles { cert: Some(pair.cert.clone()), key: Some(pair.key.clone()), ..TlsFiles::default() }
}

pub fn load(files: TlsFiles) -> Arc<Tls> {
    Tls::load(files).unwrap()
}

/// What either end knows of the other, once they trust each other.
pub struct Met {
    /// What the client showed.
    pub of_client: Vec<CertificateDer<'static>>,
    /// What the server showed.
    pub of_server: Vec<CertificateDer<'static>>,
    pub version: rustls::ProtocolVersion,
    pub suite: rustls::CipherSuite,
}

/// A handshake between the two, where the client expects `host`.
pub fn handshake(server: &Tls, client: &Tls, host: &'static str) -> Result<Met, rustls::Error> {
    let name = ServerName::try_from(host).unwrap();
    let client = ClientConnection::new(client.client().unwrap(), name)?;
    let server = ServerConnection::new(server.server().unwrap())?;
    let (mut client, mut server) = (Connection::from(client), Connection::from(server));
    loop {
        let sent = carry(&mut client, &mut server)?;
        let answered = carry(&mut server, &mut client)?;
        if !sent && !answered {
            break;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let certificates = |end: &Connection| {
        let found = end.peer_certificates().unwrap_or_default();
        found.iter().map(|one| one.clone().into_owned()).collect()
    };
    Ok(Met {
        of_client: certificates(&server),
        of_server: certificates(&client),
        version: server.protocol_version().unwrap(),
        suite: server.negotiated_cipher_suite().unwrap().suite(),
    })
}

/// Whether there was anything to carry.
fn carry(from: &mut Connection, to: &mut Connection) -> Result<bool, rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(!bytes.is_empty())
}
