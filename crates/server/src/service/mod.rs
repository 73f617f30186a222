//! What the server does for a request, however it came: admission, then the method. Everything
//! here works on protobuf bytes in both directions. Must not know HTTP.

mod auth;
mod backup;
mod cluster;
mod compactor;
mod disk;
mod explain;
mod gate;
mod health;
mod health_watch;
mod kv;
mod leader_need;
mod lease;
mod maintenance;
mod members;
pub(crate) mod plan;
mod range_stream;
mod recipes;
mod reflection;
mod space;
mod standing;
mod watch;
mod watch_rights;

pub(crate) use backup::Backup;
pub(crate) use health::{Check, Health, Probe};
pub(crate) use health_watch::HealthWatch;
pub(crate) use leader_need::LeaderNeed;
pub(crate) use lease::Keeper;
pub(crate) use range_stream::RangeStream;
pub(crate) use recipes::Observation;
pub(crate) use watch::WatchSession;

use crate::admission::Admission;
use crate::auth::{Passwords, Tokens};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::method::Method;
use crate::metrics::{
    Figures, Histogram, Metrics, PeerFigures, ProcessFigures, ProposalFigures, ProtocolFigures,
    ScrubFigures,
};
use crate::options::ServerOptions;
use crate::unread::Unread;
use bytes::Bytes;
use quorate::{Consistency, Node, ReadError};
use quorate_kv::api::ResponseHeader;
use quorate_kv::auth::AuthFeed;
use quorate_kv::watch::{WatchHub, WatchLimits};
use quorate_kv::{Reader, Revision};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch as watch_channel};
use tokio::time::Instant;

/// Everything that a connection needs.
pub(crate) struct Service {
    node: Node,
    reader: Reader,
    options: ServerOptions,
    admission: Admission,
    metrics: Metrics,
    /// Places for reads of many keys.
    scans: Arc<Semaphore>,
    /// Who waits for a renewal of the state's file.
    renewals: Arc<Semaphore>,
    /// Places for backups.
    backups: Arc<Semaphore>,
    /// Places for connections.
    connections: Arc<Semaphore>,
    /// Places for streams, over all connections.
    streams: Arc<Semaphore>,
    /// Requests that are only partly here.
    receiving: Admission,
    /// Answers that are not taken yet.
    unread: Arc<Unread>,
    watches: WatchHub,
    leases: lease::Leases,
    claims: recipes::Claims,
    tokens: Arc<Tokens>,
    /// What tells the tokens of new ones.
    _token_feed: AuthFeed,
    passwords: Passwords,
    /// Signalled when the store has something new for the watches.
    published: Arc<Notify>,
    /// Whether a leader is known; for streams that require one.
    leader_known: watch_channel::Sender<bool>,
    /// Tells the streams of watches that users, roles or what they permit have changed.
    rights_changed: watch_channel::Sender<()>,
    /// Set when streams shall end, which would go on for ever otherwise.
    stopping: watch_channel::Sender<bool>,
}

impl Service {
    pub(crate) fn new(node: Node, reader: Reader, options: ServerOptions) -> Self {
        let published = Arc::new(Notify::new());
        let signal = Arc::clone(&published);
        // As in etcd, what is sent in pieces is cut where a request would be too large.
        let limits =
            WatchLimits { fragment_bytes_max: options.message_bytes_max(), ..options.watch };
        let watches = WatchHub::new(&reader, limits, move || signal.notify_one());
        let leases = lease::Leases::new(&reader, options.lease_takeover_grace);
        let tokens = Arc::new(Tokens::new(&options.auth_tokens, options.auth_token_ttl));
        let hearing = Arc::clone(&tokens);
        let token_feed = AuthFeed::new(&reader, move |news| hearing.hear(news));
        Self {
            watches,
            leases,
            claims: recipes::Claims::new(options.claims_bytes_max),
            tokens,
            _token_feed: token_feed,
            passwords: Passwords::new(options.bcrypt_cost),
            published,
            leader_known: watch_channel::Sender::new(true),
            rights_changed: watch_channel::Sender::new(()),
            stopping: watch_channel::Sender::new(false),
            admission: Admission::new(options.pending_bytes_max, options.pending_count_max),
            metrics: Metrics::new(options.measures_calls),
            scans: Arc::new(Semaphore::new(options.scans_count_max)),
            renewals: Arc::new(Semaphore::new(1)),
            backups: Arc::new(Semaphore::new(options.backups_count_max)),
            connections: Arc::new(Semaphore::new(options.connections_count_max)),
            streams: Arc::new(Semaphore::new(options.open_streams_count_max)),
            receiving: Admission::new(options.receiving_bytes_max, usize::MAX),
            unread: Unread::new(options.unread_bytes_max),
            node,
            reader,
            options,
        }
    }

    pub(crate) const fn options(&self) -> &ServerOptions {
        &self.options
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A place for a connection, to be dropped at its end; none if the limit is reached.
    pub(crate) fn take_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// How many connections have a place.
    pub(crate) fn connections(&self) -> usize {
        self.options.connections_count_max.saturating_sub(self.connections.available_permits())
    }

    /// A place for a stream, to be dropped at its end.
    pub(crate) fn take_stream(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Rejection::TooManyRequests)
    }

    /// Where requests have room that are only partly here.
    pub(crate) const fn receiving(&self) -> &Admission {
        &self.receiving
    }

    /// Where answers have room that are not taken yet.
    pub(crate) const fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// When the carrying out of a method that begins now shall be over. A caller may ask for less
    /// time than the method has.
    pub(crate) fn deadline(&self, method: Method, asked: Option<Duration>) -> Instant {
        let patience_max = method.form().patience_max(self.options.request_timeout);
        Instant::now() + asked.unwrap_or(patience_max).min(patience_max)
    }

    /// Carries out a method: from the encoded request to the encoded response, framed for gRPC.
    ///
    /// A caller that drops the future takes back nothing that is proposed already.
    pub(crate) async fn call(
        &self,
        method: Method,
        message: Bytes,
        deadline: Instant,
        caller: &Caller,
    ) -> Result<Bytes, Rejection> {
        let _place = self.admission.admit(message.len())?;
        if self.is_learner() && !matches!(method, Method::Range | Method::Status | Method::Explain)
        {
            return Err(Rejection::Learner);
        }
        let access = &self.enter(method, caller, deadline).await?;
        let asked = |message| auth::Asked { message, deadline, access };
        match method {
            Method::Range => self.range(message, deadline, access).await,
            Method::Put => self.put(message, deadline, access).await,
            Method::DeleteRange => self.delete_range(message, deadline, access).await,
            Method::Txn => self.txn(message, deadline, access).await,
            Method::Compact => self.compact(message, deadline, access).await,
            Method::Status => Ok(self.member_status()),
            Method::Alarm => Box::pin(self.alarm(message, deadline, access)).await,
            Method::Defragment => Box::pin(self.defragment(message, deadline)).await,
            Method::Hash => Box::pin(self.hash(message, deadline)).await,
            Method::HashKv => Box::pin(self.hash_kv(message, deadline)).await,
            Method::MoveLeader => Box::pin(self.move_leader(message, deadline)).await,
            Method::Downgrade => Self::downgrade(message),
            Method::MemberList => Box::pin(self.member_list(message, deadline)).await,
            Method::MemberAdd => Box::pin(self.member_add(message, deadline)).await,
            Method::MemberRemove => Box::pin(self.member_remove(message, deadline)).await,
            Method::MemberUpdate => Box::pin(self.member_update(message, deadline)).await,
            Method::MemberPromote => Box::pin(self.member_promote(message, deadline)).await,
            Method::Explain => self.explain(message).await,
            Method::HealthCheck => self.health_check(message),
            Method::LeaseGrant => self.lease_grant(message, deadline, access).await,
            Method::LeaseRevoke => self.lease_revoke(message, deadline, access).await,
            Method::LeaseTimeToLive => self.lease_time_to_live(message, deadline, access).await,
            Method::LeaseLeases => self.lease_leases(message, deadline, access).await,
            Method::Authenticate => self.authenticate(message, deadline).await,
            Method::AuthEnable => self.change(auth::enable, asked(message)).await,
            Method::AuthDisable => self.change(auth::disable, asked(message)).await,
            Method::AuthStatus => self.show(auth::status, asked(message)).await,
            Method::UserAdd => self.user_add(asked(message)).await,
            Method::UserGet => self.show(auth::user_get, asked(message)).await,
            Method::UserList => self.show(auth::user_list, asked(message)).await,
            Method::UserDelete => self.change(auth::user_delete, asked(message)).await,
            Method::UserChangePassword => self.user_change_password(asked(message)).await,
            Method::UserGrantRole => self.change(auth::user_grant, asked(message)).await,
            Method::UserRevokeRole => self.change(auth::user_revoke, asked(message)).await,
            Method::RoleAdd => self.change(auth::role_add, asked(message)).await,
            Method::RoleGet => self.show(auth::role_get, asked(message)).await,
            Method::RoleList => self.show(auth::role_list, asked(message)).await,
            Method::RoleDelete => self.change(auth::role_delete, asked(message)).await,
            Method::RoleGrantPermission => self.change(auth::role_permit, asked(message)).await,
            Method::RoleRevokePermission => self.change(auth::role_forbid, asked(message)).await,
            Method::Unlock => step(Box::pin(self.unlock(asked(message))).await),
            Method::Proclaim => step(Box::pin(self.proclaim(asked(message))).await),
            Method::Leader => step(Box::pin(self.leader(asked(message))).await),
            Method::Resign => step(Box::pin(self.resign(asked(message))).await),
            // These may wait: see `call_long`.
            Method::Lock
            | Method::Campaign
            // Streams are no calls: see `grpc::stream`, `http::gateway`.
            | Method::Watch
            | Method::LeaseKeepAlive
            | Method::Snapshot
            | Method::RangeStream
            | Method::Observe
            | Method::HealthWatch
            | Method::Reflection
            | Method::ReflectionAlpha => Err(Rejection::not_served(method)),
        }
    }

    /// Ends the streams that would go on for ever.
    pub(crate) fn stop_streams(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether everybody is asked who they are.
    pub(crate) fn asks_for_users(&self) -> bool {
        self.reader.auth().is_enabled()
    }

    /// Tells when streams shall end.
    pub(crate) fn stopping(&self) -> watch_channel::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Whether a leader is known.
    pub(crate) fn has_leader(&self) -> bool {
        self.node.status().leader.is_some()
    }

    /// Whether a stream may begin here: a learner serves none but backups and what it serves, and a
    /// client may want no answer of a member that knows no leader.
    pub(crate) fn may_stream(
        &self,
        method: Method,
        requires_leader: bool,
    ) -> Result<(), Rejection> {
        let is_for_learners =
            matches!(method, Method::Snapshot | Method::Reflection | Method::ReflectionAlpha);
        if self.is_learner() && !is_for_learners {
            return Err(Rejection::Learner);
        }
        if requires_leader && !self.has_leader() {
            return Err(Rejection::NoLeader);
        }
        Ok(())
    }

    /// The figures of this moment, for the metrics page.
    pub(crate) fn figures(&self) -> Figures {
        let status = self.node.status();
        let metrics = self.node.metrics();
        Figures {
            member_id: status.id.get(),
            has_leader: status.leader.is_some(),
            is_leader: status.leader == Some(status.id),
            is_learner: self.is_learner(),
            leader_changes: metrics.leader_changes.get(),
            committed: status.commit_index.get(),
            applied: status.applied.get(),
            revision: self.reader.revision().get(),
            compacted_revision: self.reader.compacted_revision().map_or(0, Revision::get),
            keys: self.reader.key_count(),
            ops: self.reader.op_counts(),
            auth_revision: self.reader.auth().revision(),
            db_size_bytes: self.reader.size_bytes(),
            db_size_in_use_bytes: self.reader.size_in_use_bytes(),
            quota_bytes: self.quota_to_wire(),
            disk: self.disk_room(),
            connections: self.connections(),
            streams: self.options.open_streams_count_max - self.streams.available_permits(),
            receiving_bytes: self.receiving.bytes(),
            unread_bytes: self.unread.bytes(),
            wal_fsync: Some(Histogram::from(&metrics.fsync)),
            backend_commit: self.reader.batch_times().map(Histogram::from),
            proposal_times: ProposalFigures::from(&metrics.proposal_times),
            peers: PeerFigures::all(&status, metrics),
            differing_members: metrics.differing_members.get(),
            protocol: ProtocolFigures {
                own: status.protocol_version.get(),
                cluster: status.cluster_version().get(),
            },
            scrub: ScrubFigures {
                read_bytes: metrics.scrubbed_bytes.get(),
                rounds: metrics.scrub_rounds.get(),
                damaged_files: metrics.rotten_files.get(),
            },
            watch: self.watches.figures(),
            leases: self.reader.lease_count(),
            process: ProcessFigures::now(),
        }
    }

    /// Returns once the store is as new as any acknowledged write.
    async fn confirm(&self, deadline: Instant) -> Result<(), Rejection> {
        self.node.read_barrier(Consistency::Linearizable, time_left(deadline)).await?;
        Ok(())
    }

    /// The same for what is a proposal in etcd: without a leader its client is told what it is told of
    /// one. Go's client would repeat a read for ever, and some of its callers set no limit.
    async fn confirm_as_proposal(&self, deadline: Instant) -> Result<(), Rejection> {
        let proof = self.node.read_barrier(Consistency::Linearizable, time_left(deadline)).await;
        match proof {
            Ok(_) => Ok(()),
            Err(ReadError::NoLeader) => Err(Rejection::NotProposed),
            Err(error) => Err(error.into()),
        }
    }

    /// What our responses say of where they come from.
    fn origin(&self) -> Origin {
        Origin::of(&self.node)
    }
}

/// The answer of a lock or an election, of which a step may have been refused.
fn step(answer: Result<Bytes, Rejection>) -> Result<Bytes, Rejection> {
    answer.map_err(Rejection::of_step)
}

/// How long a request may still take.
fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The parts of a response's header that are not the store's.
#[derive(Clone, Copy, Debug)]
struct Origin {
    cluster_id: u64,
    member_id: u64,
    raft_term: u64,
}

impl Origin {
    fn of(node: &Node) -> Self {
        let status = node.status();
        Self {
            cluster_id: status.cluster_id,
            member_id: status.id.get(),
            raft_term: status.current_term.get(),
        }
    }

    fn complete(self, header: &mut Option<ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.cluster_id;
        header.member_id = self.member_id;
        header.raft_term = self.raft_term;
    }
}
