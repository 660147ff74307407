//! Parameter sets of a video track: those in the stream win over those of the SDP.

use std::sync::Arc;

use super::depacketizer::{params_of, sdp_sets};
use super::limits::{MORE_PPS_MAX, SET_MAX};
use super::nal::{pps_id, without_trailing_zeros};
use super::sample_entry::add_pps;
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
    /// Picture parameter sets of other numbers than the one in `latest`.
    more: Vec<Vec<u8>>,
    /// `latest` or `more` changed since it was last looked at.
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
        let (current, more) = (Sets::default(), Vec::new());
        ParameterSets { codec, current, latest, more, changed, refused: None, params: None }
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
        let nal = without_trailing_zeros(nal);
        if nal.len() > SET_MAX {
            let bytes = nal.len();
            return Err(format!(
                "a parameter set of {bytes} bytes is too large: at most {SET_MAX} are recorded"
            ));
        }
        if kind == 2 && self.is_another_pps(nal) {
            return Ok(self.offer_another_pps(nal));
        }
        let Some(latest) = self.latest.get_mut(kind).filter(|latest| *latest != nal) else {
            return Ok(false);
        };
        let differs = !latest.is_empty();
        if kind == 1 {
            // Those of another sequence come again with it.
            self.more.clear();
        }
        latest.clear();
        latest.extend_from_slice(nal);
        self.changed = true;
        Ok(differs)
    }

    fn is_another_pps(&self, pps: &[u8]) -> bool {
        let first = &self.latest[2];
        !first.is_empty() && pps_id(self.codec, first) != pps_id(self.codec, pps)
    }

    /// A picture parameter set of another number than the first. True if it replaces one.
    fn offer_another_pps(&mut self, pps: &[u8]) -> bool {
        let id = pps_id(self.codec, pps);
        let place = self.more.iter().position(|other| pps_id(self.codec, other) == id);
        match place {
            Some(place) if self.more[place] == pps => return false,
            Some(place) => pps.clone_into(&mut self.more[place]),
            None => {
                if self.more.len() >= MORE_PPS_MAX {
                    self.more.remove(0);
                }
                self.more.push(pps.to_owned());
            }
        }
        self.changed = true;
        place.is_some()
    }

    /// Takes over the latest sets. True if the parameters are others now.
    ///
    /// # Errors
    /// The latest sets cannot be read; those before them stay.
    pub(super) fn resolve(&mut self) -> Result<bool, String> {
        if !std::mem::take(&mut self.changed) {
            return Ok(false);
        }
        let needed = if self.codec == Codec::H265 { &self.latest[..] } else { &self.latest[1..] };
        if needed.iter().any(Vec::is_empty) || self.refused.as_ref() == Some(&self.latest) {
            return Ok(false);
        }
        let params = params_of(self.codec, &self.latest);
        match params.and_then(|params| add_pps(params, &self.more)) {
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
