//! A card with small files that fails where it is reported to: the power goes, or an operation is refused.
//!
//! What belongs here: that card. What does not: what is kept on it (the configuration room's store).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::remote_config::mutation::Safeguard;
use crate::remote_config::state_record::{ConfigPhase, ConfigState};
use crate::remote_config::state_store::Files;
use crate::units::Digest;

/// What happens to the card or the power, at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFault {
    /// The power goes before it.
    Before,
    /// The power goes behind it.
    After,
    /// The power goes in it, and the file is damaged.
    Damage,
    /// The card refuses it.
    Refused,
    /// The card refuses it, and every later write until the end.
    ReadOnly,
    /// The card answers neither this nor anything after it.
    Hangs,
}

impl FileFault {
    /// All of them.
    pub const ALL: [FileFault; 6] =
        [FileFault::Before, FileFault::After, FileFault::Damage, FileFault::Refused, FileFault::ReadOnly, FileFault::Hangs];

    /// The power goes with it.
    pub fn cuts(self) -> bool {
        matches!(self, FileFault::Before | FileFault::After | FileFault::Damage)
    }
}

/// What is on a card, and what will happen to it.
#[derive(Debug, Default)]
pub struct State {
    /// The files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Operations so far.
    pub ops: u64,
    /// At which of them what happens.
    pub faults: Vec<(u64, FileFault)>,
    /// It takes nothing any more.
    pub read_only: bool,
    /// It answers nothing, until the board starts again or all is well again.
    pub hangs: bool,
    /// The power is gone: nothing more is done in this life.
    pub dead: bool,
    /// Power cuts so far.
    pub cuts: u64,
    /// Refusals so far.
    pub refusals: u64,
    /// A promise of the store that is not kept.
    pub without: Option<Safeguard>,
}

impl State {
    /// Without its second copies a device has only the first.
    fn missing(&self, name: &str) -> bool {
        self.without == Some(Safeguard::Copies) && name.ends_with(".b")
    }

    /// What lies there when the power goes while it is written. Where damage is not seen, it looks like a record.
    fn damaged(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        match ConfigState::decode(bytes) {
            Some(mut record) if self.without == Some(Safeguard::Checksum) && name.starts_with("record") => {
                let nothing = Digest::of(b"damage");
                record.committed.sha256 = nothing;
                record.older.iter_mut().for_each(|old| old.sha256 = nothing);
                record.phase = ConfigPhase::Idle;
                record.encode()
            }
            _ => bytes.iter().map(|byte| byte ^ 0x55).collect(),
        }
    }
}

/// A card that fails where it is reported to; at first it is empty.
#[derive(Default)]
pub struct FaultyFiles {
    state: Mutex<State>,
}

impl FaultyFiles {
    /// What is on it, and what will happen to it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more operation; says what happens at it.
    fn operate(&self) -> Result<Option<FileFault>, String> {
        let mut state = self.state();
        if state.dead {
            return Err("no power".into());
        }
        state.ops += 1;
        let at = state.ops;
        let fault = state.faults.iter().find(|(op, _)| *op == at).map(|(_, fault)| *fault);
        if let Some(fault) = fault {
            state.cuts += u64::from(fault.cuts());
            state.refusals += u64::from(!fault.cuts());
            state.dead = fault.cuts();
            state.read_only |= fault == FileFault::ReadOnly;
            state.hangs |= fault == FileFault::Hangs;
        }
        match fault {
            Some(FileFault::Before) => Err("no power".into()),
            Some(FileFault::Refused | FileFault::ReadOnly | FileFault::Hangs) => Err("refused".into()),
            other => Ok(other),
        }
    }
}

impl Files for FaultyFiles {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.operate()?;
        let state = self.state();
        Ok(state.files.get(name).filter(|_| !state.missing(name)).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        if self.state().missing(name) {
            return Err("there is only one copy".into());
        }
        let fault = self.operate()?;
        let mut state = self.state();
        if state.read_only {
            return Err("read-only".into());
        }
        let kept = if fault == Some(FileFault::Damage) { state.damaged(name, bytes) } else { bytes.to_vec() };
        state.files.insert(name.to_owned(), kept);
        if state.dead { Err("no power".into()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        self.operate()?;
        let mut state = self.state();
        if state.read_only {
            return Err("read-only".into());
        }
        state.files.remove(name);
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, String> {
        self.operate()?;
        Ok(self.state().files.keys().cloned().collect())
    }
}
