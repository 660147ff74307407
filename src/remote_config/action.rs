//! Inputs and effects of the configuration's state machine, and the steps between them.

use serde_json::Value;

use super::rejection::Rejection;
use super::state_record::{ConfigState, ConfigVersion};
use crate::settings::Settings;
use crate::units::{Digest, MonoTime};

/// Input of the state machine.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigInput {
    /// Time has passed.
    Tick,
    /// A document arrived from the office.
    Document {
        /// The document; empty when it was too large.
        bytes: Vec<u8>,
        /// Its length, bytes.
        len: usize,
    },
    /// Result of [`ConfigEffect::Judge`] for the text with this SHA-256.
    Judged(Digest, Result<Box<Settings>, Rejection>),
    /// Result of [`ConfigEffect::Save`] for the record of this generation.
    Saved(u64, Result<(), String>),
    /// The configuration file was edited.
    File(Box<FileFound>),
    /// `taimat config rollback` to the nth older configuration, from 0.
    CallBack(usize),
    /// Connected to a broker.
    Session {
        /// Epoch of the settings ([`Applied::epoch`]).
        epoch: u64,
        /// Host and port.
        broker: (String, u16),
    },
    /// The connection ended, or a connection attempt failed, with the reason.
    NoSession(String),
    /// `dn/config/confirm` arrived.
    Confirm(Vec<u8>),
    /// A key frame of the main stream arrived.
    Picture,
    /// The main stream failed, with the reason.
    NoPicture(String),
    /// Footage up to this time is durable.
    Footage(MonoTime),
    /// An orderly stop was requested.
    Stop,
}

/// An edited configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFound {
    /// The text.
    pub text: String,
    /// The settings, or the rejection.
    pub outcome: Result<Box<Settings>, Rejection>,
}

/// Effect of the state machine; the agent executes effects in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigEffect {
    /// Validate a configuration.
    Judge {
        /// The text; `None` for the stored text of `sha256`.
        text: Option<String>,
        /// SHA-256 of the text.
        sha256: Digest,
        /// The settings in force: a new camera is probed before the trial. `None` skips the probe,
        /// because the present camera gives no pictures.
        probe: Option<Box<Settings>>,
    },
    /// Save the text, if there is one, and then the record.
    Save(Box<ConfigState>, Option<String>),
    /// Apply settings.
    Apply(Box<Applied>),
    /// Stop in order and restart the process.
    Restart,
    /// Publish `up/config/reported` as a retained message.
    Report(Value),
    /// Raise a `config` event with this `data`.
    Event(Value),
    /// Request the newest document from the office.
    Ask,
    /// Execute the oldest waiting command: its number is stored.
    Carry,
}

/// Settings to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The settings; the uplink tries their brokers in order.
    pub settings: Settings,
    /// Number of these settings; [`ConfigInput::Session`] returns it.
    pub epoch: u64,
    /// True to end the current session; false to use the settings from the next session on.
    pub fresh: bool,
}

/// Step after a save.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AfterSave {
    Try,
    Apply,
    Committed,
    RolledBack { restart: bool },
    Refused,
    Carry,
    Nothing,
}

/// A change during its validation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) version: ConfigVersion,
    pub(super) text: Option<String>,
    pub(super) since: MonoTime,
}
