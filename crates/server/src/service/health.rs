//! Whether this member serves: in one word, as the health page and gRPC's health service say it, and
//! check by check, as probes ask for it. Must not know how a page looks.

use super::{Service, cluster};
use crate::errors::Rejection;
use bytes::Bytes;
use futures_util::FutureExt;
use quorate_kv::{AlarmKind, RangeRequest};
use std::borrow::Cow;
use tokio::time::Instant;

/// Whether a member can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Unhealthy {
        /// In etcd's words; printable ASCII without quotes.
        reason: String,
    },
}

/// What can be asked of a member by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// What the members hold does not differ.
    DataCorruption,
    /// The store can be read here.
    SerializableRead,
    /// A quorum agrees that what is read here is up to date.
    LinearizableRead,
    /// This member has a vote.
    NonLearner,
}

impl Check {
    /// What etcd calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

/// What a probe wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Whether the process is worth keeping.
    Live,
    /// Whether clients may be sent here.
    Ready,
}

impl Probe {
    pub(crate) const ALL: [Self; 2] = [Self::Live, Self::Ready];

    /// What etcd calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }

    /// The checks that it consists of, as in etcd.
    pub(crate) const fn checks(self) -> &'static [Check] {
        match self {
            Self::Live => &[Check::SerializableRead],
            Self::Ready => &[
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
                Check::NonLearner,
            ],
        }
    }
}

impl Service {
    /// Whether this member serves: no alarm is raised but those that may be, its store can be read,
    /// it knows a leader, and, unless stale reads are enough, can prove that a read from it is up to
    /// date.
    pub(crate) async fn health(
        &self,
        serializable: bool,
        may_be_raised: impl Fn(&str) -> bool,
    ) -> Health {
        if self.has_stopped() {
            return Health::Unhealthy { reason: "SERVER STOPPED".to_owned() };
        }
        if let Some(reason) = self.not_admitted() {
            return Health::Unhealthy { reason };
        }
        if let Some(reason) = self.waits_for_room() {
            return Health::Unhealthy { reason };
        }
        let alarms = self.reader.alarms(AlarmKind::None);
        let mut alarms = alarms.into_iter().map(cluster::alarm_name);
        if let Some(alarm) = alarms.find(|alarm| !may_be_raised(alarm)) {
            return Health::Unhealthy { reason: format!("ALARM {alarm}") };
        }
        if !serializable && !self.has_leader() {
            return Health::Unhealthy { reason: "RAFT NO LEADER".to_owned() };
        }
        let read = if serializable { self.read_here() } else { self.read_up_to_date().await };
        match read {
            Ok(()) => Health::Healthy,
            Err(rejection) => {
                Health::Unhealthy { reason: format!("RANGE ERROR:{}", rejection.status().1) }
            }
        }
    }

    /// Whether a check finds nothing wrong, or what it finds.
    pub(crate) async fn check(&self, check: Check) -> Result<(), Cow<'static, str>> {
        match check {
            Check::DataCorruption => {
                if self.reader.alarms(AlarmKind::Corrupt).is_empty() {
                    return Ok(());
                }
                Err("alarm activated: CORRUPT".into())
            }
            Check::SerializableRead => self.read_here().map_err(|error| error.status().1),
            Check::LinearizableRead => match self.not_admitted() {
                Some(reason) => Err(reason.into()),
                None => self.read_up_to_date().await.map_err(|error| error.status().1),
            },
            Check::NonLearner if self.is_learner() => Err("not supported for learner".into()),
            Check::NonLearner => Ok(()),
        }
    }

    fn has_stopped(&self) -> bool {
        self.node.failure().now_or_never().is_some()
    }

    /// Reads one key from what this member has, wherever it is kept.
    fn read_here(&self) -> Result<(), Rejection> {
        if self.has_stopped() {
            return Err(Rejection::Stopped);
        }
        let key = Bytes::from_static(&[0]);
        self.reader.range(&RangeRequest { key, keys_only: true, ..RangeRequest::default() })?;
        Ok(())
    }

    async fn read_up_to_date(&self) -> Result<(), Rejection> {
        self.confirm(Instant::now() + self.options.request_timeout).await?;
        self.read_here()
    }
}
