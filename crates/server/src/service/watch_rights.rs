//! What one stream of watches may show: asked when a watch begins, and again whenever users, roles or
//! what they permit have changed. Must not know how watches work.

#[cfg(test)]
mod tests;

use super::Service;
use crate::auth::Tokens;
use crate::caller::Caller;
use crate::errors::{AuthRejection, Rejection};
use bytes::Bytes;
use quorate_kv::auth::Right;
use quorate_kv::watch::{Pulled, WatchCreateRequest, WatchResponse, WatchStream};
use quorate_kv::{Access, AuthState, EngineError, Reader};
use std::sync::Arc;

/// A stream of watches that shows what it may.
pub(super) struct GuardedStream {
    pub(super) stream: WatchStream,
    rights: WatchRights,
}

impl GuardedStream {
    pub(super) const fn new(stream: WatchStream, rights: WatchRights) -> Self {
        Self { stream, rights }
    }

    /// Begins a watch, or says why not; either comes in its turn.
    pub(super) fn create(&mut self, create: &WatchCreateRequest) {
        match self.rights.admit(create) {
            Ok(()) => self.stream.create(create),
            Err(reason) => self.stream.refuse(reason),
        }
    }

    /// What the client may be told next, as of now.
    pub(super) fn pull(&mut self) -> Result<Pulled, EngineError> {
        self.rights.look_again(&mut self.stream);
        let pulled = self.stream.pull()?;
        Ok(self.shown(pulled))
    }

    /// What of it may be shown, although users and roles may have changed since it was pulled.
    fn shown(&mut self, pulled: Pulled) -> Pulled {
        match pulled {
            Pulled::Response(response) if !self.rights.may_show(&mut self.stream, &response) => {
                Pulled::Busy
            }
            Pulled::Response(_) | Pulled::Busy | Pulled::Idle => pulled,
        }
    }
}

/// See the module.
pub(super) struct WatchRights {
    reader: Reader,
    tokens: Arc<Tokens>,
    /// Who began the stream, if they are to be asked for each watch.
    caller: Option<Caller>,
    /// Who began the last watch, once anybody had to be somebody.
    user: Option<Arc<str>>,
    /// The state that all watches of the stream were looked at with.
    seen: Arc<AuthState>,
}

impl WatchRights {
    pub(super) fn new(service: &Service, caller: &Caller) -> Self {
        Self {
            reader: service.reader.clone(),
            tokens: Arc::clone(&service.tokens),
            caller: Some(caller.clone()),
            user: None,
            seen: service.reader.auth(),
        }
    }

    /// Of somebody whose name is known already.
    pub(super) fn of_user(reader: Reader, tokens: Arc<Tokens>, user: Option<Arc<str>>) -> Self {
        let seen = reader.auth();
        Self { reader, tokens, caller: None, user, seen }
    }

    /// Whether a watch may begin, or what its client is told. The keys are taken as they were sent.
    fn admit(&mut self, request: &WatchCreateRequest) -> Result<(), String> {
        let auth = self.reader.auth();
        if !auth.is_enabled() {
            return Ok(());
        }
        let access = match &self.caller {
            Some(caller) => {
                let access = self.tokens.access_of(caller, &auth);
                let access = access.ok_or_else(|| reason(AuthRejection::InvalidToken))?;
                self.user = name_in(&access);
                access
            }
            None => self.access(&auth),
        };
        // The empty key is none; the lowest that can be is a zero byte.
        let lowest = Bytes::from_static(&[0]);
        let key = if request.key.is_empty() { &lowest } else { &request.key };
        may_read(&auth, &access, key, &request.range_end)
    }

    /// Ends the watches that may be no longer, if anything has changed that matters.
    fn look_again(&mut self, stream: &mut WatchStream) {
        let auth = self.reader.auth();
        if !Arc::ptr_eq(&auth, &self.seen) {
            self.look(stream, auth);
        }
    }

    fn look(&mut self, stream: &mut WatchStream, auth: Arc<AuthState>) {
        let access = self.access(&auth);
        stream.end_unless(|key, range_end| may_read(&auth, &access, key, range_end));
        self.seen = auth;
    }

    /// Whether a response may be shown that was taken after [`Self::look_again`]: users and roles may
    /// have changed in between. A watch whose response is kept back ends, even if its right is given
    /// back before anybody looks again: it would go on with a gap.
    fn may_show(&mut self, stream: &mut WatchStream, response: &WatchResponse) -> bool {
        let auth = self.reader.auth();
        if Arc::ptr_eq(&auth, &self.seen) {
            return true;
        }
        let (access, one) = (self.access(&auth), Bytes::new());
        let mut kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
        let may = kvs.all(|kv| auth.admit_to_keys(&access, Right::Read, &kv.key, &one).is_ok());
        if !may {
            self.look(stream, auth);
        }
        may
    }

    /// As it is known now: a watch goes on when others change.
    fn access(&self, auth: &AuthState) -> Access {
        match &self.user {
            Some(user) => Access::User { name: user.as_ref().into(), revision: auth.revision() },
            None => Access::Nobody,
        }
    }
}

fn name_in(access: &Access) -> Option<Arc<str>> {
    match access {
        Access::User { name, .. } => Some(name.as_ref().into()),
        Access::Nobody | Access::System => None,
    }
}

fn may_read(auth: &AuthState, access: &Access, key: &Bytes, end: &Bytes) -> Result<(), String> {
    auth.admit_to_keys(access, Right::Read, key, end).map_err(reason)
}

/// As Go prints an error of a call.
fn reason(rejection: impl Into<Rejection>) -> String {
    let (code, text) = rejection.into().status();
    format!("rpc error: code = {} desc = {text}", code.name())
}
