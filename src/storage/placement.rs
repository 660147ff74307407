//! Placement of a ring: whether its directory can be used and its file system has room for it.
//!
//! `check-config`, `config-check` and the validation of a remote configuration apply this one rule.

use std::path::Path;

use super::disk::{Disk as _, RealDisk};
use super::open::{StorageFault, check_owner, new_ring_bytes, room};
use crate::settings::StorageSettings;

/// Refuses a directory or a card that `run` would reject, and a budget that does not fit the file
/// system; files of the ring that exist already count as room. Writes nothing.
///
/// # Errors
/// The key to change, and the reason.
pub fn check_placement(storage: &StorageSettings) -> Result<(), (&'static str, StorageFault)> {
    let dir = |fault: StorageFault| ("storage.dir", fault);
    RealDisk::check_dir(&storage.dir, storage.require_mount).map_err(|fault| dir(fault.into()))?;
    let sizes = match RealDisk::open_read_only(&storage.dir) {
        Ok(disk) => {
            let refused = check_owner(&disk, storage).err();
            if let Some(fault @ (StorageFault::OtherSite | StorageFault::Older(_))) = refused {
                return Err(dir(fault));
            }
            room(&disk, storage).ok()
        }
        // The first start creates a missing directory on the file system of its parent.
        Err(_) => {
            let parent = storage.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            let disk = RealDisk::open_read_only(parent.unwrap_or(Path::new("."))).ok();
            disk.map(|disk| (new_ring_bytes(storage), disk.available()))
        }
    };
    match sizes.filter(|(wanted, available)| wanted > available) {
        Some((wanted, available)) => {
            Err(("storage.budget", StorageFault::NoRoom { wanted, available }))
        }
        None => Ok(()),
    }
}
