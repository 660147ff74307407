//! The device of a simulated world: its settings, agent and card reader.

use std::sync::Arc;

use crate::agent::Agent;
use crate::settings::{Settings, parse};
use crate::sim::faulty_disk::FaultyDisk;
use crate::storage::open::snapshot_geometry;
use crate::storage::thread::CardReader;
use crate::units::Digest;

pub(super) fn settings() -> Result<Settings, String> {
    let text = "site = \"sim\"\ncamera.main_url = \"rtsp://127.0.0.1/\"\nuplink.host = \"127.0.0.1\"\n[storage]\ndir = \"/sim\"\n\
                segment = \"256 KiB\"\nbudget = \"4 MiB\"\njournal_slots = 512\nsnapshot_slots = 8\nsnapshot_size = \"16 KiB\"\n";
    parse::parse(text, &|path| Err(format!("{}: none here", path.display())))
        .map_err(|problems| problems.to_string())
}

pub(super) fn reader(disk: &FaultyDisk, settings: &Settings) -> CardReader {
    CardReader::new(Arc::new(disk.clone()), snapshot_geometry(&settings.storage))
}

pub(super) fn agent(disk: &FaultyDisk, settings: &Settings, seed: u64) -> Agent {
    let seed = Digest::of(&seed.to_be_bytes()).0;
    Agent::new(settings.clone(), Arc::new(reader(disk, settings)), seed)
}
