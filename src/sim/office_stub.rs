//! Office in memory that never fails: stores events and files and returns receipts.

use std::collections::BTreeMap;

use crate::evidence::manifest::Manifest;
use crate::units::Digest;
use crate::uplink::topics;
use crate::uplink::wire::{Ack, Event};

/// The archive.
#[derive(Debug, Default)]
pub struct OfficeStub {
    /// Events by id, with the digest of their payload.
    pub events: BTreeMap<String, (Event, Digest)>,
    /// Complete files by id.
    pub files: BTreeMap<String, (Manifest, Vec<u8>)>,
    parts: BTreeMap<String, (Manifest, Vec<u8>)>,
    /// Violations of the protocol.
    pub wrongs: Vec<String>,
}

impl OfficeStub {
    /// Stores a message and returns its receipt.
    pub fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Ack> {
        let (_, tail) = topics::read_up(topic)?;
        if tail == "event" {
            return self.event(payload);
        }
        let (fid, verb) = tail.strip_prefix("file/")?.split_once('/')?;
        let fid = fid.to_owned();
        if let Some((manifest, _)) = self.files.get(&fid) {
            return Some(Ack::Stored { fid, sha256: manifest.sha256 });
        }
        match verb {
            "init" => {
                let manifest = serde_json::from_slice(payload).ok()?;
                self.parts.entry(fid.clone()).or_insert((manifest, Vec::new()));
            }
            "abort" => return self.parts.remove(&fid).and(None),
            "fin" => {
                let (manifest, bytes) = self.parts.get_mut(&fid)?;
                if bytes.len() as u64 == manifest.size && Digest::of(bytes) == manifest.sha256 {
                    let file = self.parts.remove(&fid)?;
                    let sha256 = file.0.sha256;
                    self.files.insert(fid.clone(), file);
                    return Some(Ack::Stored { fid, sha256 });
                }
                if bytes.len() as u64 == manifest.size {
                    self.wrongs.push(format!("file {} arrived with another digest", manifest.name));
                    bytes.clear();
                }
            }
            offset => {
                let (_, bytes) = self.parts.get_mut(&fid)?;
                if offset.parse::<usize>().ok()? == bytes.len() {
                    bytes.extend_from_slice(payload);
                }
            }
        }
        let upto = self.parts.get(&fid)?.1.len() as u64;
        Some(Ack::Have { fid, upto, missing: Vec::new() })
    }

    fn event(&mut self, payload: &[u8]) -> Option<Ack> {
        let event: Event = serde_json::from_slice(payload).ok()?;
        let (id, sha256) = (event.id.clone(), Digest::of(payload));
        match self.events.get(&id) {
            Some((_, before)) if *before != sha256 => {
                self.wrongs.push(format!("event {id} came with two contents"))
            }
            _ => {}
        }
        self.events.insert(id.clone(), (event, sha256));
        Some(Ack::Event { id, sha256 })
    }
}
