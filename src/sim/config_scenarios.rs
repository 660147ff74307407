//! What is done to a device on a pole ([`super::config_world`]): configurations, ordinary ones and ones that do harm.
//!
//! What belongs here: their names and texts. What does not: what the harm looks like.

use std::path::Path;

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::units::hex;

/// The office's broker the device was set up with.
pub const OLD: &str = "old.example";
/// The one it has moved to.
pub const NEW: &str = "new.example";
/// One it may move to after that.
pub const FAR: &str = "far.example";

/// What is done to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A change that is good.
    Good,
    /// A move to a third broker, by way of both.
    Move,
    /// One that needs a restart.
    Restart,
    /// The broker refuses its login.
    WrongLogin,
    /// The camera is not there.
    WrongCamera,
    /// A broker that is not there is added.
    DeadBroker,
    /// The process ends as soon as it is applied.
    Crashes,
    /// The whole board starts again as soon as it is applied.
    Resets,
    /// It works for a while, is committed, and then the process ends again and again.
    Later,
    /// It trusts no key any more.
    NoKeys,
    /// It makes trials endless; the next one has a wrong login.
    Endless,
    /// A hand edits the file, well.
    GoodHand,
    /// A hand edits the file, with a wrong login.
    WrongHand,
    /// A hand calls back the configuration before.
    CallBack,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 14] = {
        use Scenario::*;
        [
            Good,
            Move,
            Restart,
            WrongLogin,
            WrongCamera,
            DeadBroker,
            Crashes,
            Resets,
            Later,
            NoKeys,
            Endless,
            GoodHand,
            WrongHand,
            CallBack,
        ]
    };
}

/// What a text does, by its sensitivity: ordinary texts have 5 or 6. This one ends the process.
pub const CRASHES: u8 = 9;
/// This one makes the board start again.
pub const RESETS: u8 = 8;
/// This one ends the process after a while.
pub const LATER: u8 = 7;

/// The office's key.
pub fn secret() -> Ed25519KeyPair {
    // A fixed key: the world is the same each time.
    match Ed25519KeyPair::from_seed_unchecked(&[7; 32]) {
        Ok(pair) => pair,
        Err(error) => unreachable!("a seed of 32 bytes is a key: {error}"),
    }
}

/// A configuration for the world.
#[derive(Debug, Clone)]
pub struct ScenarioText {
    /// Brokers, in order.
    pub hosts: Vec<&'static str>,
    /// The file with the device's login.
    pub login: &'static str,
    /// Path of the camera.
    pub camera: &'static str,
    /// As above.
    pub sensitivity: u8,
    /// Another one needs a restart.
    pub segment: &'static str,
    /// The office's key is enrolled.
    pub keys: bool,
    /// How long one may be.
    pub trial: &'static str,
}

impl Default for ScenarioText {
    fn default() -> ScenarioText {
        let (login, camera, segment, trial) = ("/right", "main", "1 MiB", "600 s");
        ScenarioText { hosts: vec![NEW], login, camera, sensitivity: 5, segment, keys: true, trial }
    }
}

impl ScenarioText {
    /// As it would stand in the file.
    pub fn toml(&self) -> String {
        let ScenarioText { hosts, login, camera, sensitivity, segment, keys, trial } = self;
        let fallbacks: Vec<String> =
            hosts.iter().skip(1).map(|host| format!("{{ host = \"{host}\", login_file = \"{login}\" }}")).collect();
        let keys = if *keys { format!("\"office:{}\"", hex(secret().public_key().as_ref())) } else { String::new() };
        format!(
            "site = \"km-17\"\n[camera]\nmain_url = \"rtsp://camera/{camera}\"\n[storage]\ndir = \"/ring\"\nsegment = \"{segment}\"\n\
             [motion]\nsensitivity = {sensitivity}\n[uplink]\nhost = \"{}\"\nallow_plain = true\nlogin_file = \"{login}\"\nfallbacks = [{}]\n\
             [remote]\nkeys = [{keys}]\ntrial = \"{trial}\"\n",
            hosts.first().unwrap_or(&OLD),
            fallbacks.join(", ")
        )
    }
}

/// The files the texts name.
///
/// # Errors
/// When there is none of this name.
pub fn read(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some("/right") => Ok("box:right".into()),
        Some("/wrong") => Ok("box:wrong".into()),
        _ => Err("No such file".into()),
    }
}
