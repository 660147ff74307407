//! Disk of the office in memory: files and names, faults of single steps, power cuts.
//!
//! A power cut keeps all flushed data and a random part of the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::rng::Rng;
use crate::listed_enum::listed_enum;
use crate::office::store::files::FileOps;
use crate::office::store::index::{IndexGuard, IndexStep};

listed_enum! {
    /// The current fault.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum DiskFaults {
        /// No fault.
        #[default]
        Calm,
        /// Writes of bytes and of rows fail.
        Full,
        /// The index refuses one change in three.
        IndexFull,
        /// The index refuses every COMMIT.
        NoCommit,
        /// The index is locked.
        Locked,
        /// Every other write, flush or rename fails.
        Failing,
        /// Reads fail.
        Unreadable,
    }

    /// All faults.
    pub const ALL;
}

/// Kind of a step, for the choice of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Flush,
    Name,
    Read,
    Index(IndexStep),
}

/// Bytes of one file.
#[derive(Debug, Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Unflushed ranges. A failed flush drops them: the next one succeeds without them, as on
    /// Linux.
    dirty: Vec<(usize, usize)>,
}

impl Inode {
    fn make_durable(&mut self, from: usize, to: usize) {
        if self.durable.len() < to {
            self.durable.resize(to, 0);
        }
        self.durable[from..to].copy_from_slice(&self.now[from..to]);
    }
}

/// A change of names that is not yet flushed with its directory.
#[derive(Debug, Clone)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
    Dir(String),
}

impl Change {
    fn is_in(&self, dir: &str) -> bool {
        match self {
            Change::Create(path, _) | Change::Remove(path) | Change::Dir(path) => {
                parent(path) == dir
            }
            Change::Rename(from, to) => parent(from) == dir || parent(to) == dir,
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Names of files and directories.
#[derive(Debug, Clone, Default)]
struct Names {
    files: BTreeMap<String, usize>,
    dirs: BTreeSet<String>,
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path, inode) => _ = self.files.insert(path.clone(), *inode),
            Change::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
            }
            Change::Remove(path) => _ = self.files.remove(path),
            Change::Dir(path) => _ = self.dirs.insert(path.clone()),
        }
    }
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: Names,
    durable: Names,
    pending: Vec<Change>,
    weather: DiskFaults,
    /// Steps so far, and the step before which the power fails.
    step: u64,
    cut_at: Option<u64>,
    off: bool,
    random: Option<Rng>,
}

impl State {
    fn before(&mut self, kind: Kind) -> Result<()> {
        self.step += 1;
        if self.cut_at.is_some_and(|at| self.step >= at) {
            self.off = true;
            self.cut_at = None;
        }
        if self.off {
            return Err(Error::other("the power is gone"));
        }
        let mut one_in = |n| self.random.as_mut().is_none_or(|random| random.one_in(n));
        let refused = match (self.weather, kind) {
            (
                DiskFaults::Full,
                Kind::Write | Kind::Index(IndexStep::Change | IndexStep::Commit),
            ) => ErrorKind::StorageFull,
            (DiskFaults::IndexFull, Kind::Index(IndexStep::Change)) if one_in(3) => {
                ErrorKind::StorageFull
            }
            (DiskFaults::NoCommit, Kind::Index(IndexStep::Commit)) => ErrorKind::StorageFull,
            (DiskFaults::Locked, Kind::Index(IndexStep::Begin)) => ErrorKind::ResourceBusy,
            (DiskFaults::Failing, Kind::Write | Kind::Flush | Kind::Name) if one_in(2) => {
                ErrorKind::Other
            }
            (DiskFaults::Unreadable, Kind::Read) => ErrorKind::Other,
            _ => return Ok(()),
        };
        Err(Error::new(refused, format!("{:?}", self.weather)))
    }

    fn change(&mut self, change: Change) {
        self.names.apply(&change);
        self.pending.push(change);
    }

    fn inode(&mut self, path: &str) -> Result<&mut Inode> {
        let at =
            self.names.files.get(path).copied().ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        Ok(&mut self.inodes[at])
    }
}

/// The simulated disk.
#[derive(Default)]
pub struct SimFiles(Mutex<State>);

impl SimFiles {
    /// A disk with faults from a seed.
    pub fn new(seed: u64) -> SimFiles {
        SimFiles(Mutex::new(State { random: Some(Rng::new(seed)), ..State::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the fault.
    pub fn turn(&self, weather: DiskFaults) {
        self.lock().weather = weather;
    }

    /// Cuts the power before a later step, `steps` from now; returns its number.
    pub fn cut_after(&self, steps: u64) -> u64 {
        let mut state = self.lock();
        let at = state.step + steps;
        state.cut_at = Some(at);
        at
    }

    /// Removes fault and power cut.
    pub fn calm(&self) {
        let mut state = self.lock();
        state.cut_at = None;
        state.weather = DiskFaults::Calm;
    }

    /// True after the power cut.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Restores power with the flushed data and a random part of the rest.
    pub fn come_back(&self, random: &mut Rng) {
        let mut state = self.lock();
        state.off = false;
        state.cut_at = None;
        state.weather = DiskFaults::Calm;
        // The file system's journal keeps changes of names in their order.
        let kept = random.below(state.pending.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut state.pending);
        pending[..kept].iter().for_each(|change| state.durable.apply(change));
        for inode in &mut state.inodes {
            for (from, to) in std::mem::take(&mut inode.dirty) {
                if random.one_in(2) {
                    inode.make_durable(from, to);
                }
            }
            inode.now.clone_from(&inode.durable);
        }
        let mut names = state.durable.clone();
        let lies = |dirs: &BTreeSet<String>, path: &str| {
            parent(path).is_empty() || dirs.contains(parent(path))
        };
        loop {
            let lost: Vec<String> =
                names.dirs.iter().filter(|dir| !lies(&names.dirs, dir)).cloned().collect();
            if lost.is_empty() {
                break;
            }
            lost.iter().for_each(|dir| _ = names.dirs.remove(dir));
        }
        let dirs = names.dirs.clone();
        names.files.retain(|path, _| lies(&dirs, path));
        state.names = names.clone();
        state.durable = names;
    }

    /// Empties a file, as a repair of the file system may do.
    pub fn empty(&self, path: &str) {
        if let Ok(inode) = self.lock().inode(path) {
            *inode = Inode::default();
        }
    }

    /// Content of a file, without faults.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().inode(path).ok().map(|inode| inode.now.clone())
    }

    /// Durable content of a file.
    pub fn durable(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let mut dir = path;
        while !parent(dir).is_empty() {
            dir = parent(dir);
            if !state.durable.dirs.contains(dir) {
                return None;
            }
        }
        state.durable.files.get(path).map(|at| state.inodes[*at].durable.clone())
    }
}

impl IndexGuard for SimFiles {
    fn before(&self, step: IndexStep) -> Result<()> {
        self.lock().before(Kind::Index(step))
    }
}

impl FileOps for SimFiles {
    fn make_dir(&self, dir: &str) -> Result<()> {
        let mut state = self.lock();
        let mut path = String::new();
        for name in dir.split('/') {
            path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if !state.names.dirs.contains(&path) {
                state.before(Kind::Write)?;
                state.change(Change::Dir(path.clone()));
            }
        }
        Ok(())
    }

    fn write_at(&self, path: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let allowed = state.before(Kind::Write);
        if state.off {
            return allowed;
        }
        if !state.names.files.contains_key(path) {
            allowed.as_ref().map_err(|error| Error::from(error.kind()))?;
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.change(Change::Create(path.to_owned(), inode));
        }
        // A failed write may be half done.
        let bytes = if allowed.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        let inode = state.inode(path)?;
        let (from, to) = (at as usize, at as usize + bytes.len());
        if inode.now.len() < to {
            inode.now.resize(to, 0);
        }
        inode.now[from..to].copy_from_slice(bytes);
        inode.dirty.push((from, to));
        allowed
    }

    fn flush(&self, path: &str) -> Result<()> {
        let mut state = self.lock();
        let allowed = state.before(Kind::Flush);
        if state.off {
            return allowed;
        }
        let inode = state.inode(path)?;
        let dirty = std::mem::take(&mut inode.dirty);
        allowed?;
        dirty.into_iter().for_each(|(from, to)| inode.make_durable(from, to));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.lock();
        state.before(Kind::Name)?;
        if !state.names.files.contains_key(from) || !state.names.dirs.contains(parent(to)) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn flush_dir(&self, dir: &str) -> Result<()> {
        let mut state = self.lock();
        state.before(Kind::Flush)?;
        let pending = std::mem::take(&mut state.pending);
        let moved: BTreeSet<String> = pending
            .iter()
            .filter(|change| change.is_in(dir))
            .filter_map(|change| {
                if let Change::Rename(from, _) = change { Some(from.clone()) } else { None }
            })
            .collect();
        let mut left = Vec::new();
        for change in pending {
            // A move also makes the earlier creation of its file durable.
            let needed = matches!(&change, Change::Create(path, _) if moved.contains(path));
            if needed || change.is_in(dir) {
                state.durable.apply(&change)
            } else {
                left.push(change)
            }
        }
        state.pending = left;
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        let mut state = self.lock();
        state.before(Kind::Name)?;
        if state.names.files.contains_key(path) {
            state.change(Change::Remove(path.to_owned()));
        }
        Ok(())
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        let mut state = self.lock();
        state.before(Kind::Read)?;
        Ok(state.inode(path).ok().map(|inode| inode.now.len() as u64))
    }

    fn read_at(&self, path: &str, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut state = self.lock();
        state.before(Kind::Read)?;
        let bytes = &state.inode(path)?.now;
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn list(&self, dir: &str) -> Result<Vec<(String, u64)>> {
        let state = self.lock();
        let below = format!("{dir}/");
        let files = state.names.files.iter().filter(|(path, _)| path.starts_with(&below));
        Ok(files.map(|(path, at)| (path.clone(), state.inodes[*at].now.len() as u64)).collect())
    }
}
