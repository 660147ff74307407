//! Configuration changes of the simulated device ([`super::config_world`]), good and harmful ones.

use std::path::Path;

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::listed_enum::listed_enum;
use crate::units::hex;

/// The office's broker in the set-up of the device.
pub const OLD: &str = "old.example";
/// The broker that replaced it.
pub const NEW: &str = "new.example";
/// A third broker for the next move.
pub const FAR: &str = "far.example";

listed_enum! {
    /// A change and its effect.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Scenario {
        /// A good change.
        Good,
        /// A move to a third broker, with both configured in between.
        Move,
        /// A change that needs a restart.
        Restart,
        /// The broker refuses the login.
        WrongLogin,
        /// The camera does not exist.
        WrongCamera,
        /// A broker that does not exist is added.
        DeadBroker,
        /// The process crashes when the change is applied.
        Crashes,
        /// The board resets when the change is applied.
        Resets,
        /// The change is committed, and later the process crashes repeatedly.
        Later,
        /// The change removes all keys.
        NoKeys,
        /// The change makes trials very long; the next change has a wrong login.
        Endless,
        /// A good local edit.
        GoodHand,
        /// A local edit with a wrong login.
        WrongHand,
        /// A local rollback to the previous configuration.
        CallBack,
    }

    /// All scenarios.
    pub const ALL;
}

/// Sensitivity of a text that crashes the process at once. Ordinary texts have 5 or 6.
pub const CRASHES: u8 = 9;
/// Sensitivity of a text that resets the board at once.
pub const RESETS: u8 = 8;
/// Sensitivity of a text that crashes the process later.
pub const LATER: u8 = 7;

/// The office's signing key.
pub fn secret() -> Ed25519KeyPair {
    // A fixed key keeps the world reproducible.
    match Ed25519KeyPair::from_seed_unchecked(&[7; 32]) {
        Ok(pair) => pair,
        Err(error) => unreachable!("a seed of 32 bytes is a key: {error}"),
    }
}

/// Values of a simulated configuration.
#[derive(Debug, Clone)]
pub struct ScenarioText {
    /// Broker hosts, in order of preference.
    pub hosts: Vec<&'static str>,
    /// Path of the device's login file.
    pub login: &'static str,
    /// Path of the camera.
    pub camera: &'static str,
    /// Sensitivity; it also selects the harm ([`CRASHES`], [`RESETS`], [`LATER`]).
    pub sensitivity: u8,
    /// Segment size; a change of it needs a restart.
    pub segment: &'static str,
    /// Whether the office's key is enrolled.
    pub keys: bool,
    /// `remote.trial`.
    pub trial: &'static str,
}

impl Default for ScenarioText {
    fn default() -> ScenarioText {
        let (login, camera, segment, trial) = ("/right", "main", "1 MiB", "600 s");
        ScenarioText { hosts: vec![NEW], login, camera, sensitivity: 5, segment, keys: true, trial }
    }
}

impl ScenarioText {
    /// The text of the configuration file.
    pub fn toml(&self) -> String {
        let ScenarioText { hosts, login, camera, sensitivity, segment, keys, trial } = self;
        let fallbacks: Vec<String> = hosts
            .iter()
            .skip(1)
            .map(|host| format!("{{ host = \"{host}\", login_file = \"{login}\" }}"))
            .collect();
        let keys = if *keys {
            format!("\"office:{}\"", hex(secret().public_key().as_ref()))
        } else {
            String::new()
        };
        format!(
            "site = \"km-17\"\n[camera]\nmain_url = \"rtsp://camera/{camera}\"\n[storage]\ndir = \"/ring\"\nsegment = \"{segment}\"\n\
             [motion]\nsensitivity = {sensitivity}\n[uplink]\nhost = \"{}\"\nallow_plain = true\nlogin_file = \"{login}\"\nfallbacks = [{}]\n\
             [remote]\nkeys = [{keys}]\ntrial = \"{trial}\"\n",
            hosts.first().unwrap_or(&OLD),
            fallbacks.join(", ")
        )
    }
}

/// Reads a file that a configuration names.
///
/// # Errors
/// No file has this name.
pub fn read(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some("/right") => Ok("box:right".into()),
        Some("/wrong") => Ok("box:wrong".into()),
        _ => Err("No such file".into()),
    }
}
