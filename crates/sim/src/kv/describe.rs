//! What clients ask of the store and what they hear, in a few words for people.

use super::codec;
use super::model::{KeyOp, KeyReply, Value};
use super::{Asked, KvApplication};
use crate::application::{OpId, Outcome};

impl KvApplication {
    pub(super) fn words(&self, op: OpId) -> String {
        let Some(Asked { key, op, .. }) = self.open.get(&op) else {
            if let Some(weak) = self.weak.get(&op) {
                return format!("get {} from this node", String::from_utf8_lossy(&weak.key));
            }
            return self.sessions.words(op).unwrap_or_else(|| "read everything".to_owned());
        };
        let key = String::from_utf8_lossy(key);
        match op {
            KeyOp::Get => format!("get {key}"),
            KeyOp::Put { value } => format!("put {key} = {value}"),
            KeyOp::Delete => format!("delete {key}"),
            KeyOp::Swap { expected, value } => {
                format!("if {key} is {} then {value}", held(*expected))
            }
        }
    }

    pub(super) fn outcome_words(&self, op: OpId, outcome: &Outcome) -> String {
        let asked = self.open.get(&op);
        match outcome {
            Outcome::Applied { log_id, reply } if codec::forbidden(reply).is_some() => {
                format!("forbidden by an alarm, at {log_id}")
            }
            Outcome::Applied { log_id, reply } => {
                let told = asked.and_then(|Asked { op, want_previous, .. }| {
                    codec::command_reply(*op, *want_previous, reply).ok()
                });
                let words = told.map_or("applied".to_owned(), |told| answer(told.reply));
                format!("{words}, at {log_id}")
            }
            Outcome::Weak { reply, .. } => match codec::read_reply(reply) {
                Ok(told) => format!("{}, at revision {}", answer(told.reply), told.revision),
                Err(complaint) => complaint.to_string(),
            },
            Outcome::Refused { refusal } => refusal.to_string(),
            Outcome::Read { reply } => match asked.map(|_| codec::read_reply(reply)) {
                Some(Ok(told)) => answer(told.reply),
                Some(Err(complaint)) => complaint.to_string(),
                None => "everything".to_owned(),
            },
            Outcome::NoEffect => "refused".to_owned(),
            Outcome::Unknown => "outcome unknown".to_owned(),
        }
    }
}

fn answer(reply: KeyReply) -> String {
    match reply {
        KeyReply::Held(value) => format!("held {}", held(value)),
        KeyReply::Done => "done".to_owned(),
        KeyReply::Swapped => "swapped".to_owned(),
        KeyReply::NotSwapped(value) => format!("not swapped, held {}", held(value)),
    }
}

fn held(value: Option<Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}
