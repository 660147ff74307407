//! State directory on a faulty card: power cuts, damage, refusals and hangs at chosen operations.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::listed_enum::listed_enum;
use crate::remote_config::mutation::Safeguard;
use crate::remote_config::state_record::{ConfigPhase, ConfigState};
use crate::remote_config::state_store::Files;
use crate::units::Digest;

listed_enum! {
    /// A fault at one operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum FileFault {
        /// The power fails before the operation.
        Before,
        /// The power fails after the operation.
        After,
        /// The power fails during the operation and damages the file.
        Damage,
        /// The card refuses the operation.
        Refused,
        /// The card refuses this and every later write.
        ReadOnly,
        /// The card hangs at this and every later operation.
        Hangs,
    }

    /// All faults.
    pub const ALL;
}

impl FileFault {
    /// True for a power cut.
    pub fn cuts(self) -> bool {
        matches!(self, FileFault::Before | FileFault::After | FileFault::Damage)
    }
}

/// Content and faults of a card.
#[derive(Debug, Default)]
pub struct State {
    /// Files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Operations so far.
    pub ops: u64,
    /// Operation numbers and their faults.
    pub faults: Vec<(u64, FileFault)>,
    /// The card rejects writes.
    pub read_only: bool,
    /// The card hangs, until the board resets or the faults end.
    pub hangs: bool,
    /// The power is off until the next boot.
    pub dead: bool,
    /// Power cuts so far.
    pub cuts: u64,
    /// Refusals so far.
    pub refusals: u64,
    /// The removed safeguard.
    pub without: Option<Safeguard>,
}

impl State {
    /// True for a second copy if the safeguard of two copies is removed.
    fn missing(&self, name: &str) -> bool {
        self.without == Some(Safeguard::Copies) && name.ends_with(".b")
    }

    /// Content after a power cut during a write. Without checksums the damage looks like a record.
    fn damaged(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        match ConfigState::decode(bytes) {
            Some(mut record)
                if self.without == Some(Safeguard::Checksum) && name.starts_with("record") =>
            {
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

/// A card with faults, empty at first.
#[derive(Default)]
pub struct FaultyFiles {
    state: Mutex<State>,
}

impl FaultyFiles {
    /// Content and faults.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and returns its fault.
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
            Some(FileFault::Refused | FileFault::ReadOnly | FileFault::Hangs) => {
                Err("refused".into())
            }
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
        let kept = if fault == Some(FileFault::Damage) {
            state.damaged(name, bytes)
        } else {
            bytes.to_vec()
        };
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
