//! Reads the store from any thread, in parallel to apply. Must not decide how fresh an answer has
//! to be: whoever calls has waited for what it needs.

use crate::alarm::{AlarmKind, AlarmMember};
use crate::api::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::auth::{Access, AuthState, Examiner, Right};
use crate::backup::Backup;
use crate::counts::OpCounts;
use crate::engine::{EngineError, Refusal};
use crate::error::{AuthError, ReadError};
use crate::hash::{self, StoreHash};
use crate::lease::Lease;
use crate::pieces::RangePieces;
use crate::range;
use crate::revision::Revision;
use crate::snapshot::StoreView;
use crate::store::Shared;
use crate::txn;
use crate::writer::Writer;
use bytes::Bytes;
use quorate::core::{LogId, LogIndex};
use std::sync::Arc;

/// A handle to read the store with. Clones are cheap.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Answers a range request. The response's header holds only the current revision.
    ///
    /// # Errors
    ///
    /// [`ReadError::Refused`] if the request's revision was compacted or lies in the future,
    /// [`ReadError::Engine`] if the engine failed.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        self.range_for(&Access::System, request)
    }

    /// Answers a range request of somebody who may read that, judged by the very state that is read.
    ///
    /// # Errors
    ///
    /// As [`Reader::range`], and [`crate::OpError::Auth`].
    pub fn range_for(
        &self,
        access: &Access,
        request: &RangeRequest,
    ) -> Result<RangeResponse, ReadError> {
        let view = self.shared.view();
        Examiner::new(&view, access).range(request)?;
        let read = range::range(&view, view.revision, request);
        self.shared.counters.add(OpCounts::RANGE);
        read.map_err(|error| self.failed_by(error))
    }

    /// Answers a range request of somebody piece by piece, as of now: its order and its filters are
    /// not looked at, see [`crate::is_sorted`] and [`crate::is_filtered`].
    ///
    /// # Errors
    ///
    /// As [`Reader::range_for`].
    pub fn range_pieces(
        &self,
        access: &Access,
        request: RangeRequest,
    ) -> Result<RangePieces, ReadError> {
        let pieces = RangePieces::new(&self.shared, access, request)?;
        self.shared.counters.add(OpCounts::RANGE);
        Ok(pieces)
    }

    /// The first failure of the store, once there is one: of its engine, in the background or in a
    /// read, or a damaged row. It takes no commands after that, and should be closed.
    pub async fn failed(&self) -> Arc<str> {
        std::future::poll_fn(|context| self.shared.poll_failure(context)).await
    }

    /// The first failure of the store, if there was one; see [`Reader::failed`].
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.failure()
    }

    fn failed_by(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Refused(_) => error,
            ReadError::Engine(error) => self.shared.failed_by(error).into(),
        }
    }

    /// Carries out a transaction that only reads; `None` if it could write.
    ///
    /// # Errors
    ///
    /// As [`Reader::range`].
    pub fn txn_read_only(&self, request: &TxnRequest) -> Result<Option<TxnResponse>, ReadError> {
        self.txn_read_only_for(&Access::System, request)
    }

    /// Carries out a transaction that only reads for somebody who may read all that it could read.
    ///
    /// # Errors
    ///
    /// As [`Reader::range_for`].
    pub fn txn_read_only_for(
        &self,
        access: &Access,
        request: &TxnRequest,
    ) -> Result<Option<TxnResponse>, ReadError> {
        if !txn::is_read_only(request) {
            return Ok(None);
        }
        let view = self.shared.view();
        Examiner::new(&view, access).txn(request).map_err(|error| self.failed_by(error))?;
        let executed = txn::execute(&view, &mut Writer::new(&view), request);
        let response = executed.map_err(|error| self.failed_by(error))?;
        self.shared.counters.add(OpCounts::of_txn(&response));
        Ok(Some(response))
    }

    /// The lease with this id, if there is one.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.shared.lock().view.leases.get(id)
    }

    /// All leases, in the order of their ids.
    #[must_use]
    pub fn leases(&self) -> Vec<(i64, Lease)> {
        self.shared.view().leases.iter().collect()
    }

    /// How many leases exist.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.shared.lock().view.leases.len()
    }

    /// The keys that are attached to a lease, in order; none if there is no such lease.
    ///
    /// # Errors
    ///
    /// [`ReadError::Engine`] if the engine failed.
    pub fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, ReadError> {
        self.lease_keys_for(&Access::System, id)
    }

    /// The keys that are attached to a lease, for somebody who may read each of them.
    ///
    /// # Errors
    ///
    /// As [`Reader::lease_keys`], and [`crate::OpError::Auth`].
    pub fn lease_keys_for(&self, access: &Access, id: i64) -> Result<Vec<Bytes>, ReadError> {
        let view = self.shared.view();
        let keys = Examiner::new(&view, access).lease_keys(Right::Read, id);
        let keys = keys.map_err(|error| self.failed_by(error))?;
        view.auth.admit(access)?;
        Ok(keys)
    }

    /// Whether somebody may keep a lease alive: who may write each key that its end would delete.
    ///
    /// # Errors
    ///
    /// As [`Reader::lease_keys_for`].
    pub fn may_keep_lease(&self, access: &Access, id: i64) -> Result<(), ReadError> {
        let view = self.shared.view();
        let kept = Examiner::new(&view, access).lease(id);
        kept.map_err(|error| self.failed_by(error))
    }

    /// Whether somebody may see which leases there are: who may read all of their keys.
    ///
    /// # Errors
    ///
    /// As [`Reader::lease_keys_for`].
    pub fn may_list_leases(&self, access: &Access) -> Result<(), ReadError> {
        let view = self.shared.view();
        view.auth.admit(access)?;
        if view.auth.admit_root(access).is_ok() {
            return Ok(());
        }
        let examiner = Examiner::new(&view, access);
        for (id, _) in view.leases.iter() {
            let keys = examiner.lease_keys(Right::Read, id);
            keys.map_err(|error| self.failed_by(error))?;
        }
        Ok(())
    }

    /// Whether somebody may read all keys of a range, the fields of which are those of a request.
    ///
    /// # Errors
    ///
    /// [`crate::OpError::Auth`].
    pub fn may_read(
        &self,
        access: &Access,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), AuthError> {
        self.auth().admit_to_keys(access, Right::Read, key, range_end)
    }

    /// Users and roles as they are now.
    #[must_use]
    pub fn auth(&self) -> Arc<AuthState> {
        Arc::clone(&self.shared.lock().view.auth)
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.lock().progress.revision
    }

    /// The oldest revision that can be read; `None` before the first compaction.
    #[must_use]
    pub fn compacted_revision(&self) -> Option<Revision> {
        self.shared.lock().progress.compacted
    }

    /// The last compaction whose superfluous changes are all deleted; `None` before the first one.
    #[must_use]
    pub fn physically_compacted_revision(&self) -> Option<Revision> {
        self.shared.lock().stored.scrub.done
    }

    /// How many keys exist.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.shared.lock().progress.key_count
    }

    /// Whether this member has said that its disk is nearly full. In what [`Reader::alarms`] lists
    /// that is an alarm like that of its quota.
    #[must_use]
    pub fn has_full_disk(&self, member_id: u64) -> bool {
        self.shared.lock().progress.alarms.is_raised(member_id, AlarmKind::DiskFull)
    }

    /// The alarms of a kind that are raised; all for [`AlarmKind::None`]. In the order of members.
    #[must_use]
    pub fn alarms(&self, kind: AlarmKind) -> Vec<AlarmMember> {
        self.shared.lock().progress.alarms.list(kind)
    }

    /// The last command whose effect can be read.
    #[must_use]
    pub fn applied(&self) -> LogId {
        self.shared.lock().progress.applied
    }

    /// The last command whose effect survives a crash without the log.
    #[must_use]
    pub fn stored_applied(&self) -> LogIndex {
        self.shared.lock().stored.progress.covered
    }

    /// What was carried out here since the start: what was applied, whoever asked for it, and what
    /// was read through a [`Reader`].
    #[must_use]
    pub fn op_counts(&self) -> OpCounts {
        self.shared.counters.load()
    }

    /// What the store takes up on disk and in its overlays, in bytes. Differs between replicas.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let overlays = self.shared.lock().view.overlay_size_bytes();
        self.shared.engine.size_bytes() + overlays
    }

    /// What rows and index take up without free space, in bytes. Differs between replicas.
    #[must_use]
    pub fn size_in_use_bytes(&self) -> u64 {
        let state = self.shared.lock();
        state.stored.stored_bytes + state.view.overlay_size_bytes()
    }

    #[cfg(test)]
    pub(crate) fn engine_view(&self) -> Arc<dyn crate::EngineView> {
        self.shared.lock().view.engine.clone()
    }

    /// Gives back what is free within the engine, however little that is, and waits until that is done, or
    /// refused for the reason that is returned. Everything else goes on meanwhile. May take as long as
    /// writing the whole store.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the store has failed.
    pub fn renew(&self) -> Result<Option<Refusal>, EngineError> {
        self.shared.renew()
    }

    /// How long the engine's batches took, if it is known.
    #[must_use]
    pub fn batch_times(&self) -> Option<&quorate::Histogram> {
        self.shared.engine.batch_times()
    }

    /// The whole store as it is now, to be written elsewhere.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup::new(StoreView::of(&self.shared))
    }

    /// A digest of all that can be read as of `revision` (`None`: now), equal on replicas whose
    /// logs agree up to there and that are compacted alike.
    ///
    /// # Errors
    ///
    /// As [`Reader::range`].
    pub fn hash(&self, revision: Option<Revision>) -> Result<StoreHash, ReadError> {
        hash::hash(&self.shared.view(), revision).map_err(|error| self.failed_by(error))
    }
}
