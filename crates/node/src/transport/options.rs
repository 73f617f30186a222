//! The settings of the transport: every limit it has, by name.

use std::time::Duration;

/// Settings; [`TransportOptions::default`] suits a local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Bytes of one frame. It must hold the largest command with some room to spare, and
    /// [`crate::core::Options::append_bytes_max`], on all nodes.
    pub frame_bytes_max: usize,
    /// Bytes that wait to be sent on one connection; what comes beyond is dropped, as a network
    /// may, and sent again by the protocol.
    pub queue_bytes_max: usize,
    /// Bytes that one connection reads or writes before others have their turn.
    pub turn_bytes_max: usize,
    /// Bytes on their way to the disk or the state machine above which no bulk is read from
    /// peers: they wait in the network, and so does their sender.
    pub intake_bytes_max: usize,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// How long a caller may take to introduce itself, and an acceptor to answer; over TLS with
    /// everything that belongs to that.
    pub handshake_timeout: Duration,
    /// Callers who have not introduced themselves; one more, and the oldest is hung up on.
    pub handshakes_count_max: usize,
    /// How often the files behind TLS are looked at.
    pub tls_refresh_interval: Duration,
    /// The first pause after a failed attempt to connect; it doubles from one to the next...
    pub reconnect_delay_min: Duration,
    /// ...up to this. Up to half of each pause is cut off by chance.
    pub reconnect_delay_max: Duration,
    /// How often each side asks whether the other is there.
    pub ping_interval: Duration,
    /// A control connection is given up when a ping is not answered for this long.
    pub control_silence_max: Duration,
    /// As above for bulk, whose other end may be waiting for its disk.
    pub bulk_silence_max: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            frame_bytes_max: 64 << 20,
            queue_bytes_max: 64 << 20,
            turn_bytes_max: 256 << 10,
            intake_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            handshakes_count_max: 64,
            tls_refresh_interval: Duration::from_secs(1),
            reconnect_delay_min: Duration::from_millis(20),
            reconnect_delay_max: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            control_silence_max: Duration::from_secs(3),
            bulk_silence_max: Duration::from_secs(15),
        }
    }
}
