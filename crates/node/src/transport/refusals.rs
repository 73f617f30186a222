//! Which refusals are said aloud: each reason for each address once a minute, and of all of them no more
//! than a few, for anybody can call and nobody shall fill a log. Must not know what a reason is.

use crate::runtime::lock;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// For so long the same is not said again.
const INTERVAL: Duration = Duration::from_mins(1);

/// As many are said within that time, whoever calls.
const COUNT_MAX: usize = 32;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Mutex<BTreeMap<(IpAddr, String), Instant>>,
}

impl Refusals {
    /// Whether to say it; it counts as said then.
    pub(super) fn is_news(&self, from: IpAddr, reason: &str, now: Instant) -> bool {
        let mut told = lock(&self.told);
        told.retain(|_, at| now.duration_since(*at) < INTERVAL);
        let refusal = (from, reason.to_owned());
        if told.len() >= COUNT_MAX || told.contains_key(&refusal) {
            return false;
        }
        told.insert(refusal, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn the_same_is_said_once_a_minute_and_something_else_at_once() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let say = |number, reason, seconds| {
            refusals.is_news(caller(number), reason, start + Duration::from_secs(seconds))
        };
        assert!(say(1, "expired", 0) && !say(1, "expired", 59));
        assert!(say(1, "revoked", 59) && say(2, "expired", 59));
        assert!(say(1, "expired", 60) && !say(1, "revoked", 60));
    }

    #[test]
    fn whoever_calls_no_more_than_the_limit_is_said_in_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let said = (0..=u8::MAX).filter(|number| refusals.is_news(caller(*number), "", start));
        assert_eq!(said.count(), COUNT_MAX);
        assert!(refusals.is_news(caller(255), "", start + INTERVAL));
    }
}
