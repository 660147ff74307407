//! Pictures of stored clips as JPEG, for browsers that cannot decode them and for thumbnails.
//!
//! One thread decodes one key frame at a time. Its queue is short: a page asks again. A hostile
//! stream costs at most one slow picture for each file.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, starts a thread or task")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::media::ClipFault;
use super::media::shrink::shrink;
use super::picture_cache::PictureCache;
pub use super::picture_cache::PictureId;
use crate::analytics::decode::decoder::{Decoded, Decoder};
use crate::analytics::track::snapshot;
use crate::camera::Frame;
use crate::office::thread_priority::yield_to_receipts;

/// Pictures that wait at most.
pub const WAITING_MAX: usize = 8;
/// Width of a picture at most, pixels: a tile of a page, and cheap to encode.
pub const WIDTH_MAX: u16 = 960;
/// Width of a picture at least, pixels.
pub const WIDTH_MIN: u16 = 64;
/// Bytes of a picture at most; a lower quality is used for a larger one.
const JPEG_MAX: usize = 512 << 10;
/// A file of which one picture takes longer is not decoded again.
const TIME_MAX: Duration = Duration::from_secs(3);
/// A picture that waited longer is not made: its page asks again or is gone.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureFault {
    /// The queue is full, or the picture waited too long.
    #[error("{WAITING_MAX} pictures wait to be decoded; ask again")]
    Busy,
    /// A picture of this file took too long.
    #[error("the pictures of this file take too long to decode")]
    Slow,
    /// The key frame cannot be taken out of its file.
    #[error(transparent)]
    Clip(#[from] ClipFault),
    /// The decoder rejected the key frame.
    #[error("the picture cannot be decoded: {0}")]
    Undecodable(String),
    /// The thread has ended.
    #[error("the decoder has stopped")]
    Stopped,
}

impl PictureFault {
    /// The code in an answer of the API.
    pub fn code(&self) -> &'static str {
        match self {
            PictureFault::Busy => "busy",
            PictureFault::Slow => "picture_slow",
            PictureFault::Clip(fault) => fault.code(),
            PictureFault::Undecodable(_) => "codec_unsupported",
            PictureFault::Stopped => "unavailable",
        }
    }
}

/// A picture or why there is none.
pub type Outcome = Result<Arc<[u8]>, PictureFault>;

/// Takes the key frame out of its file ([`super::media::key_frame`]); runs on the thread, so that
/// waiting requests hold no footage.
pub type KeyFrameSource = Box<dyn FnOnce() -> Result<Frame, ClipFault> + Send>;

struct Request {
    id: PictureId,
    source: KeyFrameSource,
    reply: oneshot::Sender<Outcome>,
    since: Instant,
}

/// Handle of the thread; it ends with the last handle.
#[derive(Clone)]
pub struct Pictures {
    requests: SyncSender<Request>,
    cache: Arc<Mutex<PictureCache>>,
}

impl Pictures {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no further thread.
    pub fn start() -> std::io::Result<Pictures> {
        let (requests, received) = sync_channel(WAITING_MAX);
        let cache = Arc::<Mutex<PictureCache>>::default();
        let kept = cache.clone();
        std::thread::Builder::new().name("pictures".into()).spawn(move || {
            yield_to_receipts();
            serve(&received, &kept);
        })?;
        Ok(Pictures { requests, cache })
    }

    /// Asks for a picture; `source` takes its key frame out of the file. The answer may be there at
    /// once. Widths outside of [`WIDTH_MIN`] to [`WIDTH_MAX`] become the nearest one.
    ///
    /// # Errors
    /// The queue is full, the file is slow, or the thread has ended.
    pub fn request(
        &self,
        id: PictureId,
        source: KeyFrameSource,
    ) -> Result<oneshot::Receiver<Outcome>, PictureFault> {
        let id = PictureId { width: id.width.clamp(WIDTH_MIN, WIDTH_MAX), ..id };
        let (reply, answer) = oneshot::channel();
        {
            let mut cache = locked(&self.cache);
            if let Some(jpeg) = cache.get(&id) {
                let _ = reply.send(Ok(jpeg));
                return Ok(answer);
            }
            if cache.is_slow(&id) {
                return Err(PictureFault::Slow);
            }
        }
        let request = Request { id, source, reply, since: Instant::now() };
        match self.requests.try_send(request) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(PictureFault::Busy),
            Err(TrySendError::Disconnected(_)) => Err(PictureFault::Stopped),
        }
    }
}

/// The cache: each of its operations leaves it whole, or drops a picture at worst.
fn locked(cache: &Mutex<PictureCache>) -> MutexGuard<'_, PictureCache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes pictures until the last handle is gone.
fn serve(requests: &Receiver<Request>, cache: &Mutex<PictureCache>) {
    while let Ok(Request { id, source, reply, since }) = requests.recv() {
        if reply.is_closed() {
            continue;
        }
        if since.elapsed() > WAIT_MAX {
            let _ = reply.send(Err(PictureFault::Busy));
            continue;
        }
        // Requests of two pages for one picture wait in the same queue.
        let kept = locked(cache).get(&id);
        let outcome = kept.map_or_else(|| made(&id, source, cache), Ok);
        let _ = reply.send(outcome);
    }
}

/// Makes one picture and keeps it.
fn made(id: &PictureId, source: KeyFrameSource, cache: &Mutex<PictureCache>) -> Outcome {
    if locked(cache).is_slow(id) {
        return Err(PictureFault::Slow);
    }
    let begun = Instant::now();
    let width = usize::from(id.width);
    // A panic on a hostile file costs its picture, not the thread.
    let outcome = catch_unwind(AssertUnwindSafe(|| picture(source, width)))
        .unwrap_or_else(|_| Err(PictureFault::Undecodable("the decoder panicked".into())));
    let took = begun.elapsed();
    let mut cache = locked(cache);
    if took > TIME_MAX {
        let (site, fid, ms) = (&id.site, &id.fid, took.as_millis() as u64);
        tracing::warn!(site, fid, ms, "a picture took too long: none of this file is made again");
        cache.mark_slow(id);
    }
    if let Ok(jpeg) = &outcome {
        cache.put(id.clone(), jpeg.clone());
    }
    outcome
}

/// Decodes a key frame and encodes it as a JPEG of at most `width` pixels.
fn picture(source: KeyFrameSource, width: usize) -> Outcome {
    let frame = source()?;
    let undecodable = |why: &str| PictureFault::Undecodable(why.into());
    let mut decoder =
        Decoder::new(frame.params.codec).ok_or_else(|| undecodable("no video codec"))?;
    let picture = match decoder.decode(&frame) {
        Decoded::Picture(picture) => shrink(*picture, width),
        Decoded::Nothing => return Err(undecodable("the decoder shows nothing")),
        Decoded::Rejected(why) => return Err(PictureFault::Undecodable(why)),
    };
    let jpeg = snapshot::jpeg(&picture, &[], JPEG_MAX);
    jpeg.map(Arc::from).ok_or_else(|| undecodable("no quality is small enough"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fragment: usize) -> PictureId {
        PictureId { site: "km-17".into(), fid: "f".into(), fragment, width: 960 }
    }

    fn absent() -> Result<Frame, ClipFault> {
        Err(ClipFault::Absent("no such fragment"))
    }

    #[test]
    fn a_full_queue_is_busy_and_a_panic_ends_nothing() {
        let pictures = Pictures::start().unwrap();
        let (open, closed) = std::sync::mpsc::channel::<()>();
        let first = pictures
            .request(
                id(0),
                Box::new(move || {
                    let _ = closed.recv();
                    panic!("a hostile file")
                }),
            )
            .unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match pictures.request(id(1), Box::new(absent)) {
                Ok(answer) => waiting.push(answer),
                Err(fault) => break fault,
            }
        };
        assert_eq!(refused, PictureFault::Busy);
        // The thread may not have taken the first one yet.
        assert!((WAITING_MAX - 1..=WAITING_MAX).contains(&waiting.len()));
        open.send(()).unwrap();
        assert!(matches!(first.blocking_recv().unwrap(), Err(PictureFault::Undecodable(_))));
        for answer in waiting {
            let fault = answer.blocking_recv().unwrap().unwrap_err();
            assert_eq!(fault.code(), "clip_part_absent");
        }
    }

    #[test]
    fn a_picture_nobody_waits_for_is_not_made() {
        let pictures = Pictures::start().unwrap();
        let (open, closed) = std::sync::mpsc::channel::<()>();
        let held = Box::new(move || {
            let _ = closed.recv();
            absent()
        });
        let first = pictures.request(id(0), held).unwrap();
        drop(pictures.request(id(1), Box::new(|| unreachable!("was made"))).unwrap());
        let last = pictures.request(id(2), Box::new(absent)).unwrap();
        open.send(()).unwrap();
        assert!(first.blocking_recv().unwrap().is_err());
        assert!(last.blocking_recv().unwrap().is_err());
    }

    /// A key frame of the drawn road and its track.
    #[cfg(feature = "sim")]
    fn drawn(width: u16, height: u16) -> (Arc<crate::camera::TrackParams>, Vec<u8>) {
        use crate::camera::Codec;
        use crate::sim::encode::Camera264;
        use crate::sim::scene::{Disturbance, Scene};
        let (w, h) = (usize::from(width), usize::from(height));
        let picture = Scene::new(1, Disturbance::None, 10.0).draw(2.0, w, h);
        let mut encoder = Camera264::of_quality(w, h, 10, 26).unwrap();
        let unit = encoder.encode(&picture, 0).unwrap();
        let prefixed = |nal: &Vec<u8>| [&(nal.len() as u32).to_be_bytes()[..], nal].concat();
        let is = |nal: &Vec<u8>, kind: u8| nal.first().is_some_and(|head| head & 0x1f == kind);
        let sets = |kind| unit.nals.iter().filter(move |nal| is(nal, kind)).cloned();
        let sets: Vec<Vec<u8>> = sets(7).chain(sets(8)).collect();
        let params = crate::camera::rtp::params_of_sets(Codec::H264, &sets).unwrap();
        let slices = unit.nals.iter().filter(|nal| !is(nal, 7) && !is(nal, 8));
        (Arc::new(params), slices.flat_map(prefixed).collect())
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_key_frame_becomes_a_jpeg_once() {
        use crate::office::media::clip_index::index;
        use crate::office::media::key_frame::key_frame;
        use crate::office::media::test_clip::{Second, clip, reader};
        let (track, sample) = drawn(1280, 720);
        let second = Second { video: vec![sample], sound: vec![], ..Second::at(1) };
        let (manifest, bytes) = clip(&[track], &[second]);
        let index = index(&manifest, reader(&bytes)).unwrap();
        let frame = key_frame(&index, 0, reader(&bytes)).unwrap();
        assert_eq!(frame.params.size, (1280, 720));
        assert_eq!(key_frame(&index, 1, reader(&bytes)).unwrap_err().code(), "clip_part_absent");
        let pictures = Pictures::start().unwrap();
        let wide = PictureId { width: 4000, ..id(0) };
        let answer = pictures.request(wide, Box::new(move || Ok(frame))).unwrap();
        let jpeg = answer.blocking_recv().unwrap().unwrap();
        assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
        assert!(jpeg.len() > 4000, "{} bytes", jpeg.len());
        let again = pictures.request(id(0), Box::new(|| unreachable!("it is kept"))).unwrap();
        assert_eq!(again.blocking_recv().unwrap().unwrap(), jpeg);
    }
}
