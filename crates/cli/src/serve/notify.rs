//! Tells systemd that the node serves, as `Type=notify` asks for. Must not know what that means.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd says that it listens.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// What it waits for.
const READY: &[u8] = b"READY=1";

/// Says that the node serves, if anybody wants to know; whether it was said.
///
/// # Errors
///
/// If the one who wanted to know cannot be told.
pub(super) fn ready() -> io::Result<bool> {
    match env::var_os(VARIABLE).filter(|place| !place.is_empty()) {
        Some(place) => tell(&place, READY).map(|()| true),
        None => Ok(false),
    }
}

/// Sends a datagram to a socket of the file system, or, behind an `@`, to one that has only a name.
fn tell(place: &OsStr, what: &[u8]) -> io::Result<()> {
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what, &address).map(|_sent| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn received(listener: &UnixDatagram) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = listener.recv(&mut bytes).unwrap();
        bytes[..count].to_vec()
    }

    #[test]
    fn a_socket_of_the_file_system_and_one_with_a_name_alone_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        tell(path.as_os_str(), READY).unwrap();
        assert_eq!(received(&listener), b"READY=1");

        let name = format!("quorate-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        tell(&OsString::from(format!("@{name}")), READY).unwrap();
        assert_eq!(received(&listener), b"READY=1");
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(tell(folder.path().join("nobody").as_os_str(), READY).is_err());
    }
}
