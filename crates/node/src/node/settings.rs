//! The settings of a running node: those that may change, and what they must fit into.

use super::budget::{Budget, Limits};
use super::builder::FRAME_OVERHEAD_BYTES;
use super::{Node, NodeOptions};
use crate::runtime::lock;
use crate::{DriverOptions, Input, Refusal, TransportOptions};
use quorate_core::{Options, OptionsError};

/// Why a node's settings stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// They cannot work together.
    #[error(transparent)]
    Together(#[from] OptionsError),
    /// They exclude each other.
    #[error("{smaller} must not exceed {larger}, which is {limit_bytes} bytes")]
    Limits {
        /// What is too large.
        smaller: &'static str,
        /// What it must fit into.
        larger: &'static str,
        /// How much that is.
        limit_bytes: usize,
    },
    /// The largest command has no room in what the node may hold.
    #[error(
        "a memory of {bytes} bytes is too small for commands of up to {command_bytes} bytes \
         (NodeOptions::command_bytes_max) and pieces of snapshots of {chunk_bytes} \
         (Options::snapshot_chunk_bytes_max): expected {needed_bytes} bytes at least, or smaller \
         commands, messages (Options::append_bytes_max) and pieces"
    )]
    Budget {
        /// What was given.
        bytes: usize,
        /// The largest command.
        command_bytes: usize,
        /// The largest piece of a snapshot.
        chunk_bytes: usize,
        /// The least that would do.
        needed_bytes: usize,
    },
    /// It is settled when a node starts.
    #[error("{name} counts from the start of a node to its end; set it there")]
    Settled {
        /// Which setting.
        name: &'static str,
    },
    /// The node is stopping, or was asked for too much at once.
    #[error("the settings cannot be taken now: {0}")]
    NotNow(#[from] Refusal),
}

/// What counts at present.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) core: Options,
    pub(super) driver: DriverOptions,
    /// What a message may hold: both ends have it, so that it stays as it was at the start.
    pub(super) transport: TransportOptions,
    pub(super) node: NodeOptions,
    pub(super) budget: Option<Budget>,
}

impl Settings {
    /// Lowers what counts to what the node may hold.
    ///
    /// # Errors
    ///
    /// As [`Budget::lower`]; and what is put into a message has to fit into one.
    pub(super) fn fit(&mut self) -> Result<(), SettingsError> {
        let Self { core, driver, transport, node, budget } = self;
        if let Some(budget) = budget {
            budget.lower(&mut Limits { core, driver, transport, node })?;
        }
        let command = ("NodeOptions::command_bytes_max", self.node.command_bytes_max);
        let [append, chunk] = parts(&self.core);
        check_frames(self.transport.frame_bytes_max, &[command, append, chunk])
    }
}

/// Whether what is put into messages fits. A message may hold one command beyond what it should hold.
fn check_frames(
    frame_bytes_max: usize,
    parts: &[(&'static str, usize)],
) -> Result<(), SettingsError> {
    let limit_bytes = frame_bytes_max.saturating_sub(FRAME_OVERHEAD_BYTES) / 2;
    match parts.iter().find(|(_, bytes)| *bytes > limit_bytes) {
        Some(&(smaller, _)) => {
            let larger = "half of TransportOptions::frame_bytes_max";
            Err(SettingsError::Limits { smaller, larger, limit_bytes })
        }
        None => Ok(()),
    }
}

/// What `options` put into messages.
const fn parts(options: &Options) -> [(&'static str, usize); 2] {
    [
        ("Options::append_bytes_max", options.append_bytes_max),
        ("Options::snapshot_chunk_bytes_max", options.snapshot_chunk_bytes_max),
    ]
}

impl Node {
    /// Other timeouts and limits for the core of the running node, all at once. They count from the
    /// next turn of its event loop on, for this life of the node, and for no other node. So that
    /// nobody stands for election between two heartbeats, longer election timeouts go to every node
    /// before longer heartbeats do, and shorter heartbeats before shorter election timeouts; a
    /// mistake there costs availability for a moment, and never safety (§3.9). A node that promises
    /// leases promises none that is longer than its election timeout was at its start. Limits above
    /// their share of [`NodeBuilder::memory_bytes_max`](crate::NodeBuilder::memory_bytes_max) are lowered
    /// to it.
    ///
    /// ```
    /// # use quorate::{Node, Options, SettingsError};
    /// # use std::time::Duration;
    /// # fn slower(node: &Node) -> Result<(), SettingsError> {
    /// let election_timeout = Duration::from_secs(3);
    /// node.set_options(Options { election_timeout, ..node.options() })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SettingsError`]: the settings are as they were.
    pub fn set_options(&self, options: Options) -> Result<(), SettingsError> {
        options.validate()?;
        let mut settings = lock(&self.inner.settings);
        if options.lease_reads != settings.core.lease_reads {
            return Err(SettingsError::Settled { name: "Options::lease_reads" });
        }
        let mut changed = Settings { core: options, ..settings.clone() };
        changed.fit()?;
        let input = Input::SetOptions(Box::new(changed.core.clone()));
        self.inner.shared.mailbox.push_caller(input, 0)?;
        settings.core = changed.core;
        Ok(())
    }

    /// Other limits, waits and rates around the core, from the next turn of the node's event loop on,
    /// for this life of the node. Session limits count for sessions that are opened afterwards; limits
    /// above their share of [`NodeBuilder::memory_bytes_max`](crate::NodeBuilder::memory_bytes_max) are
    /// lowered to it.
    ///
    /// # Errors
    ///
    /// [`SettingsError::NotNow`]: the settings are as they were.
    pub fn set_driver_options(&self, options: DriverOptions) -> Result<(), SettingsError> {
        let mut settings = lock(&self.inner.settings);
        let mut changed = Settings { driver: options, ..settings.clone() };
        changed.fit()?;
        let input = Input::SetDriverOptions(Box::new(changed.driver.clone()));
        self.inner.shared.mailbox.push_caller(input, 0)?;
        settings.driver = changed.driver;
        Ok(())
    }

    /// The core's settings as they were last set.
    #[must_use]
    pub fn options(&self) -> Options {
        lock(&self.inner.settings).core.clone()
    }

    /// The settings around the core as they were last set.
    #[must_use]
    pub fn driver_options(&self) -> DriverOptions {
        lock(&self.inner.settings).driver.clone()
    }
}
