//! A DNS server that answers what a test tells it to: over UDP, and what shall not fit there over TCP.
//! Names that it is not told of do not exist. Knows nothing of who asks.

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, Ttl};
use domain::rdata::Srv;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A priority, a port and a host.
type Record = (u16, u16, &'static str);

/// What is answered to a question for a name's SRV records.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These.
    Records(Vec<Record>),
    /// These, which are said not to fit into a datagram.
    OverTcp(Vec<Record>),
    /// None, with this code.
    Code(Rcode),
    /// Nothing at all.
    Silence,
}

/// See the module. It ends with its owner.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Zone {
    replies: BTreeMap<String, Reply>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// A server on a port of its own.
    pub(crate) fn start(replies: &[(&str, Reply)]) -> Self {
        let replies = replies.iter().map(|(name, reply)| ((*name).to_owned(), reply.clone()));
        let asked = Arc::default();
        let zone = Arc::new(Zone { replies: replies.collect(), asked: Arc::clone(&asked) });
        let (listener, socket) = sockets();
        let address = socket.local_addr().unwrap();
        let over_udp = Arc::clone(&zone);
        let threads = vec![
            std::thread::spawn(move || serve_datagrams(&socket, &over_udp)),
            std::thread::spawn(move || serve_streams(&listener, &zone)),
        ];
        Self { address, asked, threads }
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names that it was asked for over UDP, in their order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // Nothing, which no question is, ends either thread.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[], self.address).unwrap();
        drop(TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// One port for both.
fn sockets() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            return (listener, socket);
        }
    }
}

fn serve_datagrams(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; 4096];
    loop {
        let (size, from) = socket.recv_from(&mut buffer).unwrap();
        if size == 0 {
            return;
        }
        if let Some(answer) = zone.answer(&buffer[..size], false) {
            socket.send_to(&answer, from).unwrap();
        }
    }
}

fn serve_streams(listener: &TcpListener, zone: &Zone) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut size = [0; 2];
        if stream.read_exact(&mut size).is_err() {
            return;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(size))];
        stream.read_exact(&mut question).unwrap();
        let answer = zone.answer(&question, true).unwrap();
        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    }
}

impl Zone {
    fn answer(&self, question: &[u8], is_stream: bool) -> Option<Vec<u8>> {
        let message = Message::from_octets(question).unwrap();
        let name = message.first_question().unwrap().into_qname();
        if !is_stream {
            self.asked.lock().unwrap().push(name.to_string());
        }
        let reply = self.replies.get(&name.to_string());
        let (records, code) = match reply {
            Some(Reply::Silence) => return None,
            Some(Reply::Code(code)) => (&[][..], *code),
            Some(Reply::OverTcp(_)) if !is_stream => (&[][..], Rcode::NOERROR),
            Some(Reply::Records(records) | Reply::OverTcp(records)) => {
                (&records[..], Rcode::NOERROR)
            }
            None => (&[][..], Rcode::NXDOMAIN),
        };
        let mut answer = MessageBuilder::new_vec().start_answer(&message, code).unwrap();
        answer.header_mut().set_tc(matches!(reply, Some(Reply::OverTcp(_))) && !is_stream);
        for (priority, port, host) in records {
            let host = Name::<Vec<u8>>::from_str(host).unwrap();
            let srv = Srv::new(*priority, 0, *port, host);
            answer.push((&name, Class::IN, Ttl::from_secs(60), srv)).unwrap();
        }
        Some(answer.finish())
    }
}
