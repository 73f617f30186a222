//! A client that watches every key from the first revision on, and goes on where it was whenever its
//! stream ends or says nothing any more. Keeps what it was told; what it should have been told is
//! `watched`'s business.

use crate::harness::PATIENCE;
use futures_util::{Stream, StreamExt, stream};
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use quorate_etcd_api::mvccpb::Event;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

/// Between two questions how far the watch is. Members that are well answer each.
const QUESTION_INTERVAL: Duration = Duration::from_millis(300);
/// A stream that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(3);
/// Before a member is asked that would not have us.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a watcher goes when its stream has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// To the same member again, whether that has a leader or not.
    Stays,
    /// To the next one; and it stays with no member that has lost its leader.
    Moves,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// By which member.
    pub(crate) server: usize,
    /// In which of the watcher's streams.
    pub(crate) stream: usize,
    /// When.
    pub(crate) arrived: Instant,
    /// The revision in its header.
    pub(crate) revision: i64,
    /// What happened; nothing if this only says how far the watch is.
    pub(crate) events: Vec<Event>,
    /// Why the watch ends, if it does.
    pub(crate) end: Option<String>,
}

/// See the module.
pub(crate) struct Watcher {
    told: Arc<Mutex<Vec<Told>>>,
    reached: watch::Receiver<i64>,
    task: JoinHandle<()>,
    name: String,
}

impl Watcher {
    /// One that begins with the `first` of these members.
    pub(crate) fn begin(urls: &[String], first: usize, habit: Habit) -> Self {
        let (reach, reached) = watch::channel(1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let channel = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone()).expect("a URL of ours is valid");
            endpoint.connect_timeout(SILENCE).connect_lazy()
        };
        let watching = Watching {
            members: urls.iter().map(channel).collect(),
            habit,
            told: told.clone(),
            reach,
            stream_count: 0,
        };
        let task = tokio::spawn(watching.run(first));
        Self { told, reached, task, name: format!("a watcher that {habit:?} from n{}", first + 1) }
    }

    /// Waits until it was told of this revision, and returns everything that it was told.
    pub(crate) async fn end(mut self, revision: i64) -> Vec<Told> {
        let reached = self.reached.wait_for(|reached| *reached >= revision);
        let is_there = matches!(tokio::time::timeout(PATIENCE, reached).await, Ok(Ok(_)));
        self.task.abort();
        let told = self.told.lock().unwrap().clone();
        let last = &told[told.len().saturating_sub(3)..];
        assert!(is_there, "{} waits in vain for revision {revision}, after {last:#?}", self.name);
        told
    }
}

struct Watching {
    members: Vec<Channel>,
    habit: Habit,
    told: Arc<Mutex<Vec<Told>>>,
    reach: watch::Sender<i64>,
    stream_count: usize,
}

impl Watching {
    async fn run(mut self, first: usize) {
        let mut server = first;
        loop {
            // Whatever ends a stream, the next one goes on behind the last event.
            let _why = self.follow(server).await;
            if matches!(self.habit, Habit::Moves) {
                server = (server + 1) % self.members.len();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One stream, until its end.
    async fn follow(&mut self, server: usize) -> Option<()> {
        self.stream_count += 1;
        let next = *self.reach.borrow() + 1;
        let mut request = tonic::Request::new(requests(next));
        if matches!(self.habit, Habit::Moves) {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        let mut client = WatchClient::new(self.members[server].clone());
        let answer = tokio::time::timeout(SILENCE, client.watch(request)).await;
        let mut responses = answer.ok()?.ok()?.into_inner();
        loop {
            let response = tokio::time::timeout(SILENCE, responses.message()).await;
            let response = response.ok()?.ok()??;
            if !self.heed(server, response) {
                return None;
            }
        }
    }

    /// Keeps a message; whether more may follow in this stream.
    fn heed(&self, server: usize, response: WatchResponse) -> bool {
        if response.created && !response.canceled {
            return true;
        }
        if let Some(last) = response.events.last() {
            let revision = last.kv.as_ref().expect("an event is of a key").mod_revision;
            self.reach.send_replace(revision);
        }
        let WatchResponse { canceled, cancel_reason, compact_revision, .. } = &response;
        let end = canceled.then(|| format!("{cancel_reason} (compacted: {compact_revision})"));
        let is_open = end.is_none();
        self.told.lock().unwrap().push(Told {
            server,
            stream: self.stream_count,
            arrived: Instant::now(),
            revision: response.header.expect("each message has a header").revision,
            events: response.events,
            end,
        });
        is_open
    }
}

/// A watch of everything, and then again and again the question how far it is.
fn requests(start_revision: i64) -> impl Stream<Item = WatchRequest> + Send {
    let create = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    let timer = tokio::time::interval(QUESTION_INTERVAL);
    let questions = stream::unfold(timer, async |mut timer| {
        timer.tick().await;
        Some((RequestUnion::ProgressRequest(WatchProgressRequest {}), timer))
    });
    let all = stream::iter([RequestUnion::CreateRequest(create)]).chain(questions);
    all.map(|request| WatchRequest { request_union: Some(request) })
}
