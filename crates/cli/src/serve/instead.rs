//! What counts instead of values that make no sense and that etcd starts with all the same, and what is
//! to be said about them. Must not know what the settings do.

use super::Flags;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The costs that a password's hash can have, and the one that counts instead of any other.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=31;
const BCRYPT_COST: u32 = 10;

/// How long a simple token is good if it were not to be good at all.
const AUTH_TOKEN_TTL_SECONDS: u32 = 300;

impl Flags {
    /// The binary logarithm of the rounds of a password's hash.
    pub(super) fn effective_bcrypt_cost(&self) -> u32 {
        if BCRYPT_COSTS.contains(&self.bcrypt_cost) { self.bcrypt_cost } else { BCRYPT_COST }
    }

    /// How long a simple token is good after its last use.
    pub(super) fn effective_auth_token_ttl(&self) -> Duration {
        let seconds = match self.auth_token_ttl {
            0 => AUTH_TOKEN_TTL_SECONDS,
            seconds => seconds,
        };
        Duration::from_secs(seconds.into())
    }

    /// A sentence about each value that does not mean what it says.
    pub(super) fn substitutes(&self) -> Vec<String> {
        let cost = self.effective_bcrypt_cost();
        let cost = (cost != self.bcrypt_cost).then(|| {
            format!(
                "--bcrypt-cost: expected {} to {}, found {}: {cost} counts instead",
                BCRYPT_COSTS.start(),
                BCRYPT_COSTS.end(),
                self.bcrypt_cost
            )
        });
        let ttl = (self.auth_token_ttl == 0).then(|| {
            format!(
                "--auth-token-ttl: expected a number of seconds, found 0: {AUTH_TOKEN_TTL_SECONDS} \
                 count instead"
            )
        });
        let ops = (self.max_txn_ops == 0).then(|| {
            "--max-txn-ops is 0: every transaction with an operation or a condition will be refused"
                .to_owned()
        });
        let metrics = self.access.unknown_metrics().map(|found| {
            format!("--metrics: expected basic or extensive, found `{found}`: basic counts instead")
        });
        [cost, ttl, ops, metrics].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(arguments: &[&str]) -> Flags {
        Program::parse_from(std::iter::once(&"serve").chain(arguments)).flags
    }

    #[test]
    fn what_etcd_starts_with_is_started_with_and_said() {
        for (line, said) in [
            (["--bcrypt-cost", "3"], "expected 4 to 31, found 3: 10 counts instead"),
            (["--bcrypt-cost", "40"], "expected 4 to 31, found 40: 10 counts instead"),
            (["--auth-token-ttl", "0"], "found 0: 300 count instead"),
            (["--max-txn-ops", "0"], "--max-txn-ops is 0: every transaction"),
            (["--metrics", "full"], "found `full`: basic counts instead"),
        ] {
            let flags = flags(&line);
            let [only] = &flags.substitutes()[..] else { panic!("{line:?}") };
            assert!(only.contains(said), "{only}");
            assert!(flags.settings(true).is_ok());
            assert_eq!(flags.effective_bcrypt_cost(), 10);
            assert_eq!(flags.effective_auth_token_ttl(), Duration::from_mins(5));
        }
    }

    #[test]
    fn what_means_what_it_says_is_left_alone() {
        let plain = ["--metrics", "extensive", "--bcrypt-cost", "4", "--auth-token-ttl", "1"];
        let flags = flags(&plain);
        assert!(flags.substitutes().is_empty());
        assert_eq!(flags.effective_bcrypt_cost(), 4);
        assert_eq!(flags.effective_auth_token_ttl(), Duration::from_secs(1));
    }
}
