//! Finds an endpoint that is alive. A request is sent to one endpoint only: whether it may be sent
//! again is the caller's decision, because a write that was not answered may still take effect.

use super::dial::{Dialler, KeepAlive, SecurityFlags};
use super::discover::DiscoverFlags;
use super::login::LoginFlags;
use super::show::Look;
use super::status::member_status;
use super::wire::Wire;
use crate::go;
use anyhow::bail;
use clap::ValueEnum;
use quorate_etcd_api::etcdserverpb::StatusRequest;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::v3electionpb::election_client::ElectionClient;
use quorate_etcd_api::v3lockpb::lock_client::LockClient;
use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// Where `quorate cluster` serves by default.
pub(crate) const DEFAULT_ENDPOINTS: &str = "127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379";
/// An endpoint has this long to answer before the next one is tried beside it.
const PROBE_LEAD: Duration = Duration::from_millis(200);
/// Answers may be as large as a server sends them.
const ANSWER_SIZE_MAX: usize = usize::MAX;

/// Nobody is there who could be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "no endpoint answered:\n  {}\nIs a cluster running? `quorate cluster` starts one here; \
     --endpoints HOST:PORT,... names another.", failures.join("\n  ")
)]
pub(crate) struct Unreachable {
    /// Each endpoint, and why it is none.
    pub(crate) failures: Vec<String>,
}

/// Where the cluster is, and how to show what it says.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// Where the cluster answers: HOST:PORT, or with http:// or https:// before it, several
    /// separated by commas; the first that is alive serves
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_ENDPOINTS, value_name = "HOST:PORT,...")]
    pub(crate) endpoints: Vec<Address>,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t = Format::Simple, value_name = "FORMAT")]
    pub(crate) write_out: Format,
    /// Keys and values of the simple output in hexadecimal: \x66\x6f\x6f
    #[arg(long)]
    pub(crate) hex: bool,
    /// How long a request may take
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) command_timeout: Duration,
    /// How long an endpoint may take to show that it is alive
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) dial_timeout: Duration,
    /// How secretly it is spoken with.
    #[command(flatten)]
    pub(crate) security: SecurityFlags,
    /// As whom it is asked.
    #[command(flatten)]
    pub(crate) login: LoginFlags,
    /// Which domain names the endpoints, if one does.
    #[command(flatten)]
    pub(crate) discovery: DiscoverFlags,
    /// How it is found out that an endpoint is gone while nothing is said.
    #[arg(skip)]
    pub(crate) keep_alive: Option<KeepAlive>,
}

/// What the output looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Simple,
    /// For programs: the same fields as etcdctl's, keys and values in base64
    Json,
    /// For people, with every field
    Table,
    /// Every field of the answer, one a line
    Fields,
}

/// An address that a client can connect to: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    text: String,
    /// What the scheme says, if there is one.
    is_secure: Option<bool>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// It is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, as in 127.0.0.1:2379, found `{0}`")]
pub(crate) struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let trimmed = text.trim();
        let secure = trimmed.strip_prefix("https://").map(|bare| (bare, Some(true)));
        let plain = || trimmed.strip_prefix("http://").map(|bare| (bare, Some(false)));
        let (bare, is_secure) = secure.or_else(plain).unwrap_or((trimmed, None));
        let bare = bare.trim_end_matches('/');
        let port = bare.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let is_address = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|p| p > 0));
        if is_address && !bare.contains(['/', ' ']) {
            Ok(Self { text: bare.to_owned(), is_secure })
        } else {
            Err(AddressError(text.to_owned()))
        }
    }
}

impl Address {
    /// Whether its scheme says that it speaks TLS; `None` if it has none.
    pub(crate) const fn is_secure(&self) -> Option<bool> {
        self.is_secure
    }

    /// The same over TLS.
    pub(crate) fn secured(&self) -> Self {
        Self { text: self.text.clone(), is_secure: Some(true) }
    }

    /// As somebody wrote it: with its scheme, if it has one.
    pub(crate) fn as_given(&self) -> String {
        match self.is_secure {
            Some(true) => format!("https://{}", self.text),
            Some(false) => format!("http://{}", self.text),
            None => self.text.clone(),
        }
    }

    /// The host as a certificate has it: an address without brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.text.rsplit_once(':').map_or(self.text.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Connects to it when first used, and again whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// A sentence for a person, if it is no address after all.
    pub(crate) fn connect_lazy(&self, timeout: Duration) -> Result<Channel, String> {
        Ok(self.endpoint(timeout)?.connect_lazy())
    }

    /// Where and how patiently to connect. That a connection is secret is not its business.
    ///
    /// # Errors
    ///
    /// A sentence for a person, if it is no address after all.
    pub(crate) fn endpoint(&self, timeout: Duration) -> Result<Endpoint, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.text))
            .map_err(|error| format!("not an address: {error}"))?;
        Ok(endpoint.connect_timeout(timeout).tcp_nodelay(true))
    }

    /// Connects to an endpoint, without TLS.
    ///
    /// # Errors
    ///
    /// A sentence for a person: refused, timed out, unknown host.
    pub(crate) async fn connect(to: &Endpoint, timeout: Duration) -> Result<Channel, String> {
        match tokio::time::timeout(timeout, to.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err(format!("did not accept a connection within {timeout:?}")),
        }
    }
}

/// The innermost cause: "Connection refused", not "transport error".
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // "Connection refused (os error 111)": the number helps nobody.
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// An endpoint that is alive.
#[derive(Clone)]
pub(crate) struct Live {
    address: Address,
    wire: Wire,
    knows_leader: bool,
}

impl Live {
    /// The key-value service there.
    pub(crate) fn kv(&self) -> KvClient<Wire> {
        KvClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// The watch service there.
    pub(crate) fn watch(&self) -> WatchClient<Wire> {
        WatchClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// The service about users and roles there.
    pub(crate) fn auth(&self) -> AuthClient<Wire> {
        AuthClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// The service about the members there.
    pub(crate) fn cluster(&self) -> ClusterClient<Wire> {
        ClusterClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// The lease service there.
    pub(crate) fn lease(&self) -> LeaseClient<Wire> {
        LeaseClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// The service about locks there.
    pub(crate) fn lock(&self) -> LockClient<Wire> {
        LockClient::new(self.wire.clone())
    }

    /// The service about elections there.
    pub(crate) fn election(&self) -> ElectionClient<Wire> {
        ElectionClient::new(self.wire.clone())
    }

    /// The service about one member there.
    pub(crate) fn maintenance(&self) -> MaintenanceClient<Wire> {
        MaintenanceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
    }

    /// Where that is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }
}

impl Connection {
    /// The first endpoint that answers and knows a leader; failing that, the first that answers,
    /// which can then say itself why it does not serve. They are tried in turn; one that is slow
    /// to answer does not keep the next waiting.
    ///
    /// # Errors
    ///
    /// If none answers: what each said, and what to do.
    pub(crate) async fn live(&self) -> anyhow::Result<Live> {
        // Whoever is to type a password has all the time for it.
        self.login.login().map_err(anyhow::Error::msg)?;
        let mut leaderless = None;
        let mut failures = Vec::new();
        let mut untried = self.addresses().await?.iter().cloned();
        let mut probes = JoinSet::new();
        let dialler = self.dialler();
        loop {
            let next = untried.next();
            let was_last = next.is_none();
            if let Some(address) = next {
                let (dialler, timeout) = (dialler.clone(), self.dial_timeout);
                probes.spawn(
                    async move { (address.clone(), probe(&dialler, address, timeout).await) },
                );
            }
            let patience = if was_last { self.dial_timeout.saturating_mul(2) } else { PROBE_LEAD };
            match tokio::time::timeout(patience, probes.join_next()).await {
                Ok(Some(Ok((_, Ok(live))))) if live.knows_leader => return Ok(live),
                Ok(Some(Ok((_, Ok(live))))) => leaderless = leaderless.or(Some(live)),
                Ok(Some(Ok((address, Err(why))))) => failures.push(format!("{address}: {why}")),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) if was_last => break,
                Ok(None) | Err(_) => {}
            }
        }
        leaderless.ok_or_else(|| Unreachable { failures }.into())
    }

    /// The endpoint that leads, and its member's id; none if no endpoint that answers does.
    pub(crate) async fn leader(&self) -> Option<(Live, u64)> {
        let dialler = self.dialler();
        // Whoever asks for the leader has asked this before.
        for address in self.addresses().await.unwrap_or_default() {
            let Ok(wire) = dialler.dial(address).await else { continue };
            let status = member_status(wire.clone(), self.dial_timeout).await;
            let Ok(status) = status else { continue };
            let own = status.header.as_ref().map_or(0, |header| header.member_id);
            if own == status.leader {
                let address = address.clone();
                return Some((Live { address, wire, knows_leader: true }, own));
            }
        }
        None
    }

    /// How keys and values look.
    pub(crate) const fn look(&self) -> Look {
        if self.hex { Look::Hex } else { Look::Bytes }
    }

    /// What it takes to reach the endpoints.
    pub(crate) fn dialler(&self) -> Dialler {
        let name = self.discovery.server_name().map(str::to_owned);
        let dialler = self.security.dialler(self.dial_timeout, self.login.login());
        dialler.expecting(name).kept_alive(self.keep_alive)
    }

    /// Forgets the token, if there is one: the next request asks for another.
    pub(crate) fn log_in_again(&self) {
        if let Ok(Some(login)) = self.login.login() {
            login.forget();
        }
    }

    /// A request with the time it may take.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.command_timeout);
        request
    }

    /// Awaits an answer, and turns a refusal into sentences.
    ///
    /// # Errors
    ///
    /// What the endpoint said, and what to do about it.
    pub(crate) async fn answer<T>(
        &self,
        live: &Live,
        kind: Kind,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(self.command_timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_deadline(&status) => bail!("{}", self.late(live, kind)),
            Ok(Err(status)) => Err(refused(&status, live, kind).into()),
            Err(_) => bail!("{}", self.late(live, kind)),
        }
    }

    fn late(&self, live: &Live, kind: Kind) -> String {
        let why = if live.knows_leader { "" } else { NO_QUORUM };
        let doubt = kind.doubt();
        format!("no answer from {} within {:?}{why}{doubt}", live.address, self.command_timeout)
    }
}

/// What is at stake when a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: ask again.
    Read,
    /// It may have taken effect.
    Write,
}

impl Kind {
    fn doubt(self) -> &'static str {
        match self {
            Self::Read => "; try again, or raise --command-timeout",
            Self::Write => "; it may still take effect: look before you repeat it",
        }
    }
}

/// What to do when there is no leader.
const NO_QUORUM: &str =
    "; a majority of the members must be up and connected: `quorate status` shows who is";

/// Connects and asks for the status. An endpoint that refuses to say is alive all the same.
async fn probe(dialler: &Dialler, address: Address, timeout: Duration) -> Result<Live, String> {
    let wire = dialler.dial(&address).await?;
    let mut maintenance = MaintenanceClient::new(wire.clone());
    let answer = tokio::time::timeout(timeout, maintenance.status(StatusRequest {})).await;
    let knows_leader = match answer {
        Ok(Ok(status)) => status.into_inner().leader != 0,
        Ok(Err(status)) if is_transport_failure(&status) => return Err(root_cause(&status)),
        Ok(Err(_)) => true,
        Err(_) => {
            return Err(format!("accepts connections but did not answer within {timeout:?}"));
        }
    };
    Ok(Live { address, wire, knows_leader })
}

/// Whether the time was up, here or there.
fn is_deadline(status: &tonic::Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message().contains("Timeout expired"))
}

/// Whether the connection failed, as against the server refusing.
fn is_transport_failure(status: &tonic::Status) -> bool {
    status.source().is_some()
}

/// What an endpoint said instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("{said}{advice} [{code:?}, {address}]")]
pub(crate) struct Refused {
    /// Its words.
    pub(crate) said: String,
    advice: &'static str,
    /// Their code.
    pub(crate) code: Code,
    address: Address,
}

fn refused(status: &tonic::Status, live: &Live, kind: Kind) -> Refused {
    let said = status.message();
    let advice = match status.code() {
        Code::Unavailable if said.contains("no leader") => NO_QUORUM,
        // What etcd says of a proposal that found no leader.
        Code::Unknown if said == "context deadline exceeded" => NO_QUORUM,
        Code::Unavailable if said.contains("timed out") => kind.doubt(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown
            if is_transport_failure(status) =>
        {
            kind.doubt()
        }
        Code::Unimplemented => "; this server does not offer it",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => "",
    };
    Refused { said: said.to_owned(), advice, code: status.code(), address: live.address.clone() }
}

/// Reads `5s`, `500ms`, `1m30s`, or a bare number of seconds.
///
/// # Errors
///
/// A sentence that says what was expected.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_bare.then(|| text.parse().ok().map(Duration::from_secs));
    seconds
        .unwrap_or_else(|| go::duration(text))
        .ok_or_else(|| format!("expected a time such as 5s, 500ms or 1m30s, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_with_or_without_a_scheme() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(parse("http://127.0.0.1:2379/").unwrap(), "127.0.0.1:2379");
        assert_eq!(parse("[::1]:2379").unwrap(), "[::1]:2379");
        for wrong in ["", "localhost", ":2379", "a:b", "a:0", "a:70000", "ftp://a:1", "a:1/x"] {
            assert!(parse(wrong).is_err(), "{wrong} was taken for an address");
        }
        for (text, is_secure) in
            [("https://[::1]:1", Some(true)), ("http://[::1]:1", Some(false)), ("[::1]:1", None)]
        {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.is_secure(), address.host()), (is_secure, "::1"));
        }
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert!(parse_duration("").is_err());
        assert!(parse_duration("fast").unwrap_err().contains("found `fast`"));
    }
}
