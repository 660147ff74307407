//! Parameter sets of a video track: those in the stream win over those of the SDP.

use std::sync::Arc;

use super::depacketizer::{params_of, sdp_sets};
use super::limits::SET_MAX;
use crate::camera::{Codec, TrackParams};

/// VPS, SPS and PPS; the first is empty in H.264.
type Sets = [Vec<u8>; 3];

/// The parameter sets of one track.
pub(super) struct ParameterSets {
    codec: Codec,
    /// Those of `params`.
    current: Sets,
    /// The latest of each kind.
    latest: Sets,
    /// `latest` changed since it was last looked at.
    changed: bool,
    /// Sets that could not be read.
    refused: Option<Sets>,
    params: Option<Arc<TrackParams>>,
}

impl ParameterSets {
    /// The sets of an SDP, if it has usable ones.
    pub(super) fn new(codec: Codec, fmtp: Option<&str>) -> ParameterSets {
        let latest = fmtp.and_then(|fmtp| sdp_sets(codec, fmtp)).unwrap_or_default();
        let changed = !latest[1].is_empty();
        let (current, refused, params) = (Sets::default(), None, None);
        ParameterSets { codec, current, latest, changed, refused, params }
    }

    /// The parameters of the track, as soon as there are any.
    pub(super) fn params(&self) -> Option<&Arc<TrackParams>> {
        self.params.as_ref()
    }

    /// True while no sets are known from anywhere.
    pub(super) fn are_unknown(&self) -> bool {
        self.latest.iter().all(Vec::is_empty)
    }

    /// A parameter set from the stream. True if it differs from the one known before.
    ///
    /// # Errors
    /// It is too large.
    pub(super) fn offer(&mut self, kind: usize, nal: &[u8]) -> Result<bool, String> {
        let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
        let nal = &nal[..nal.len() - zeros];
        if nal.len() > SET_MAX {
            let bytes = nal.len();
            return Err(format!(
                "a parameter set of {bytes} bytes is too large: at most {SET_MAX} are recorded"
            ));
        }
        let Some(latest) = self.latest.get_mut(kind).filter(|latest| *latest != nal) else {
            return Ok(false);
        };
        let differs = !latest.is_empty();
        latest.clear();
        latest.extend_from_slice(nal);
        self.changed = true;
        Ok(differs)
    }

    /// Takes over the latest sets. True if the parameters are others now.
    ///
    /// # Errors
    /// The latest sets cannot be read; those before them stay.
    pub(super) fn resolve(&mut self) -> Result<bool, String> {
        if !std::mem::take(&mut self.changed) || self.latest == self.current {
            return Ok(false);
        }
        let needed = if self.codec == Codec::H265 { &self.latest[..] } else { &self.latest[1..] };
        if needed.iter().any(Vec::is_empty) || self.refused.as_ref() == Some(&self.latest) {
            return Ok(false);
        }
        match params_of(self.codec, &self.latest) {
            Ok(params) => {
                self.current.clone_from(&self.latest);
                self.refused = None;
                let same = self.params.as_deref() == Some(&params);
                if same {
                    return Ok(false);
                }
                self.params = Some(Arc::new(params));
                Ok(true)
            }
            Err(why) => {
                self.refused = Some(self.latest.clone());
                Err(format!("parameter sets that cannot be read: {why}"))
            }
        }
    }
}
