//! Made pictures, the least recently used dropped first, and files whose pictures take too long.

use std::collections::VecDeque;
use std::sync::Arc;

/// Pictures kept at most.
pub const PICTURES_MAX: usize = 256;
/// Bytes of all kept pictures at most.
pub const BYTES_MAX: usize = 16 << 20;
/// Slow files remembered at most: a further one takes the place of the oldest.
pub const SLOW_MAX: usize = 64;

/// Names one picture of a stored clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureId {
    /// Site of the clip.
    pub site: String,
    /// File id of the clip.
    pub fid: String,
    /// Number of the fragment, from 0.
    pub fragment: usize,
    /// Width asked for, pixels.
    pub width: u16,
}

impl PictureId {
    /// True if both are of one file.
    fn is_of(&self, site: &str, fid: &str) -> bool {
        self.site == site && self.fid == fid
    }
}

/// The cache.
#[derive(Debug, Default)]
pub struct PictureCache {
    /// The least recently used first.
    kept: VecDeque<(PictureId, Arc<[u8]>)>,
    bytes: usize,
    slow: VecDeque<(String, String)>,
}

impl PictureCache {
    /// The picture, if it is kept.
    pub fn get(&mut self, id: &PictureId) -> Option<Arc<[u8]>> {
        let at = self.kept.iter().position(|(kept, _)| kept == id)?;
        let found = self.kept.remove(at)?;
        let jpeg = found.1.clone();
        self.kept.push_back(found);
        Some(jpeg)
    }

    /// Keeps a picture. One that is larger than the whole cache is not kept.
    pub fn put(&mut self, id: PictureId, jpeg: Arc<[u8]>) {
        if jpeg.len() > BYTES_MAX || self.kept.iter().any(|(kept, _)| *kept == id) {
            return;
        }
        self.bytes += jpeg.len();
        self.kept.push_back((id, jpeg));
        while self.kept.len() > PICTURES_MAX || self.bytes > BYTES_MAX {
            self.bytes -= self.kept.pop_front().map_or(0, |(_, jpeg)| jpeg.len());
        }
    }

    /// Remembers that the pictures of a file take too long.
    pub fn mark_slow(&mut self, id: &PictureId) {
        if !self.is_slow(id) {
            if self.slow.len() == SLOW_MAX {
                self.slow.pop_front();
            }
            self.slow.push_back((id.site.clone(), id.fid.clone()));
        }
    }

    /// True if the pictures of this file take too long.
    pub fn is_slow(&self, id: &PictureId) -> bool {
        self.slow.iter().any(|(site, fid)| id.is_of(site, fid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fragment: usize) -> PictureId {
        PictureId { site: "km-17".into(), fid: "f".into(), fragment, width: 960 }
    }

    #[test]
    fn the_least_recently_used_picture_is_dropped_first() {
        let mut cache = PictureCache::default();
        let large: Arc<[u8]> = vec![7; BYTES_MAX / 4].into();
        (0..4).for_each(|n| cache.put(id(n), large.clone()));
        assert!(cache.get(&id(0)).is_some());
        cache.put(id(4), large.clone());
        let kept: Vec<bool> = (0..5).map(|n| cache.get(&id(n)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true]);
        assert!(cache.bytes <= BYTES_MAX);
        cache.put(id(9), vec![0; BYTES_MAX + 1].into());
        assert!(cache.get(&id(9)).is_none() && cache.get(&id(4)).is_some());
    }

    #[test]
    fn the_number_of_pictures_and_slow_files_is_bounded() {
        let mut cache = PictureCache::default();
        for n in 0..2 * PICTURES_MAX {
            cache.put(id(n), vec![1].into());
            cache.mark_slow(&PictureId { fid: n.to_string(), ..id(n) });
        }
        assert_eq!((cache.kept.len(), cache.slow.len()), (PICTURES_MAX, SLOW_MAX));
        assert!(cache.is_slow(&PictureId { fid: "511".into(), ..id(3) }) && !cache.is_slow(&id(3)));
    }
}
