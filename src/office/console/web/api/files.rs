//! Footage: bytes with ranges, the index of a clip, pictures, the axis of a day.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, IF_NONE_MATCH, IF_RANGE, RANGE};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::evidence::manifest::Manifest;
use crate::office::console::acts::Ending;
use crate::office::console::audit::shown::within;
use crate::office::console::people::rights::Right;
use crate::office::console::web::Web;
use crate::office::console::web::admission::openable;
use crate::office::console::web::answer::{Answer, Pieces, Representation};
use crate::office::console::web::call::Call;
use crate::office::console::web::limits;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{
    Any, Bool, List, Object, Text, Time, Values, Whole,
};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::office::console::web::web_state::lock;
use crate::office::media::ClipFault;
use crate::office::media::clip_index::{self, ClipIndex};
use crate::office::media::key_frame::key_frame;
use crate::office::pictures::{PictureFault, PictureId, WIDTH_MAX};
use crate::office::queries::Reader;
use crate::office::queries::rows::StoredFile;
use crate::units::{MonoTime, SiteId, WallTime};

/// Ranges of one report of what was on a screen at most: five seconds of nine cameras.
const SPANS_MAX: usize = 64;

const TRACKS: &[Field] = &[maybe("tracks", Text, "video: without sound.")];
const WIDTH: &[Field] = &[maybe("width", Whole, "64 to 960; 960.")];
const INDEX: &[Field] = &[
    field("codecs", List(CODEC), "Tracks."),
    field("init", Object(BYTES), "Initialisation segment."),
    field("fragments", List(FRAGMENT), "Fragments in their order."),
    field("from", Time, "First picture."),
    field("to", Time, "End."),
    field("gaps", List(GAP), "Gaps inside."),
    field("clock", Text, "ntp, camera, rtc, unset."),
    maybe("sha256", Text, "Of the stored file; null for the one without sound."),
    maybe("video_only_init", Any, "Head of the file without sound."),
];
const CODEC: &[Field] =
    &[field("track", Text, "video or audio."), field("codec", Text, "RFC 6381, or alaw, ulaw.")];
const BYTES: &[Field] = &[field("offset", Whole, "First byte."), field("length", Whole, "Bytes.")];
const FRAGMENT: &[Field] = &[
    field("offset", Whole, "First byte."),
    field("length", Whole, "Bytes."),
    field("media_us", Whole, "Start on the file's clock, microseconds."),
    field("duration_us", Whole, "Duration, microseconds."),
    field("wall_us", Whole, "Start in wall time, microseconds since 1970."),
    field("key", Bool, "It begins with a key frame."),
];
const GAP: &[Field] =
    &[field("from", Time, "Start."), field("to", Time, "End."), field("reason", Text, "Reason.")];
const AXIS_QUERY: &[Field] = &[
    field("sites", Text, "Site ids with commas between."),
    field("from", Time, "Start."),
    field("to", Time, "End."),
];
const AXIS: &[Field] = &[field("sites", List(SITE_AXIS), "One for each site.")];
const SITE_AXIS: &[Field] = &[
    field("site", Text, "Site id."),
    field("spans", List(SPAN), "Stored footage."),
    field("gaps", List(GAP), "Gaps."),
    field("events", List(AXIS_EVENT), "Motion events."),
    field("is_cut", Bool, "More is there than one answer holds."),
];
const SPAN: &[Field] = &[
    field("from", Time, "First picture."),
    field("to", Time, "End."),
    field("fid", Text, "File id."),
    field("clock", Text, "Clock quality."),
    field("purpose", Text, "clip or requested."),
];
const AXIS_EVENT: &[Field] = &[
    field("id", Text, "Id."),
    field("from", Time, "Start."),
    maybe("to", Time, "End; null while it is open."),
];
const SHOWN: &[Field] = &[
    field("site", Text, "Site id."),
    field("fid", Text, "File id."),
    field("spans", Values(&Values(&Whole)), "Pairs of wall times, microseconds since 1970."),
    maybe("ended", Bool, "The clip has ended, or its page is left."),
];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/files/{site}/{fid}",
        Access::File,
        "The bytes of a stored file, or a range of them.",
        Gives::Bytes("video/mp4"),
        bytes_of,
    )
    .query(TRACKS)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/files/{site}/{fid}/index",
        Access::File,
        "Where the fragments of a clip lie, and when they were recorded.",
        Gives::Json(INDEX),
        index,
    )
    .query(TRACKS)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/files/{site}/{fid}/pictures/{n}",
        Access::File,
        "The first picture of a fragment as JPEG, for browsers that cannot decode the clip.",
        Gives::Bytes("image/jpeg"),
        picture,
    )
    .query(WIDTH)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/axis",
        Access::AnySite(Right::Board),
        "Footage, gaps and events of several sites.",
        Gives::Json(AXIS),
        axis,
    )
    .query(AXIS_QUERY)
    .weight(Weight::Heavy),
    Route::new(
        Method::Post,
        "/api/v1/shown",
        Access::AnySite(Right::Clip),
        "Report what was on the screen.",
        Gives::Nothing,
        shown,
    )
    .takes(Takes::Json(SHOWN)),
];

/// Reads a file of the archive, without its sound where that is wanted.
struct FilePieces {
    web: Arc<Web>,
    key: String,
    index: Option<Arc<ClipIndex>>,
    /// The session's cookie.
    cookie: String,
    /// When the session was last known to hold.
    checked: MonoTime,
}

impl FilePieces {
    /// A long answer ends with its session.
    fn check_session(&mut self) -> io::Result<()> {
        let now = self.web.clock.now().mono;
        if now.since(self.checked) < limits::STREAM_CHECK.as_micros() as u64 {
            return Ok(());
        }
        self.checked = now;
        match self.web.peek_session(&self.cookie) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(io::ErrorKind::PermissionDenied.into()),
            Err(problem) => Err(io::Error::other(problem.detail)),
        }
    }
}

fn read(reader: &Reader, key: &str, range: Range<u64>) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let piece = reader.file_read(key, at..range.end).map_err(|error| error.line())?;
        if piece.is_empty() {
            return Err(format!("{key}: shorter than the index says"));
        }
        at += piece.len() as u64;
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

impl Pieces for FilePieces {
    fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        self.check_session()?;
        let stored = |range| read(&self.web.reader, &self.key, range);
        let read = match &self.index {
            None => stored(range),
            Some(index) => index.patches.read(range, stored).map_err(|fault| fault.to_string()),
        };
        read.map(Bytes::from).map_err(io::Error::other)
    }
}

/// The file of the path; the guard has found it.
fn file(call: &Call) -> Result<&StoredFile, Problem> {
    call.file.as_ref().ok_or_else(Problem::not_found)
}

/// True when the answer has no sound: it is asked for so, or the user may not hear it.
fn is_silent(call: &Call) -> Result<bool, Problem> {
    let asked = match call.text("tracks") {
        None => false,
        Some("video") => true,
        Some(_) => return Err(Problem::bad("tracks is video")),
    };
    let group = call.web.known_group(&file(call)?.site);
    Ok(asked || !call.may(Right::Sound, &group))
}

fn clip_problem(fault: ClipFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        ClipFault::Unreadable(_) => Problem::new(Code::Internal, detail),
        ClipFault::Absent(_) => Problem::new(Code::NotFound, detail),
        _ => Problem::new(Code::CodecUnsupported, detail),
    }
}

/// The index of the clip; a player asks for a hundred ranges of it.
fn clip_index(call: &Call) -> Result<Arc<ClipIndex>, Problem> {
    let file = file(call)?;
    if let Some(index) = lock(&call.web.indexes).get(&file.key) {
        return Ok(index);
    }
    let manifest: Manifest = serde_json::from_value(file.manifest.clone())
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let reader = &call.web.reader;
    let index = clip_index::index(&manifest, |range| read(reader, &file.key, range))
        .map_err(clip_problem)?;
    let index = Arc::new(index);
    lock(&call.web.indexes).put(&file.key, index.clone());
    Ok(index)
}

/// The index of the clip for who gets no sound; of sound alone nothing is left.
fn silent_index(call: &Call) -> Result<Arc<ClipIndex>, Problem> {
    Some(clip_index(call)?).filter(|index| index.video().is_some()).ok_or_else(Problem::not_found)
}

fn bytes_of(call: &Call) -> Result<Answer, Problem> {
    let file = file(call)?;
    let is_clip = file.purpose != "snapshot";
    let index = match is_clip && is_silent(call)? {
        true => Some(silent_index(call)?).filter(|index| !index.patches.is_empty()),
        false => None,
    };
    let content_type = if is_clip { "video/mp4" } else { "image/jpeg" };
    let silent = if index.is_some() { "-video" } else { "" };
    let of = Representation {
        content_type,
        etag: format!("\"{}{silent}\"", file.sha256),
        size: file.size,
    };
    let asked = (call.header(&RANGE), call.header(&IF_RANGE), call.header(&IF_NONE_MATCH));
    let pieces = FilePieces {
        web: call.web.clone(),
        key: file.key.clone(),
        index,
        cookie: call.cookie.clone(),
        checked: call.web.clock.now().mono,
    };
    Answer::ranged(&of, asked, Box::new(pieces))
}

fn index(call: &Call) -> Result<Answer, Problem> {
    match is_silent(call)? {
        true => Answer::json(&silent_index(call)?.video_only()),
        false => Answer::json(&*clip_index(call)?),
    }
}

fn picture(call: &Call) -> Result<Answer, Problem> {
    let number = usize::try_from(call.number("n")?).map_err(|_| Problem::not_found())?;
    let width = u16::try_from(call.whole("width")?.unwrap_or(u64::from(WIDTH_MAX)));
    let (index, file) = (clip_index(call)?, file(call)?);
    index.fragments.get(number).ok_or_else(Problem::not_found)?;
    let id = PictureId {
        site: file.site.clone(),
        fid: file.fid.clone(),
        fragment: number,
        width: width.unwrap_or(WIDTH_MAX),
    };
    let (reader, key) = (call.web.reader.clone(), file.key.clone());
    let source = move || key_frame(&index, number, |range: Range<u64>| read(&reader, &key, range));
    let asked = call.web.pictures.request(id, Box::new(source)).map_err(picture_problem)?;
    let made = asked.blocking_recv().map_err(|_| picture_problem(PictureFault::Stopped))?;
    let jpeg = made.map_err(picture_problem)?;
    Ok(Answer::of("image/jpeg", Bytes::from_owner(jpeg)).with(CACHE_CONTROL, "private, no-store"))
}

fn picture_problem(fault: PictureFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        PictureFault::Busy => Problem::new(Code::Busy, detail).with("retry_after", 1.into()),
        PictureFault::Clip(fault) => clip_problem(fault),
        PictureFault::Slow | PictureFault::Undecodable(_) => {
            Problem::new(Code::CodecUnsupported, detail)
        }
        PictureFault::Stopped => Problem::new(Code::Timeout, detail),
    }
}

fn axis(call: &Call) -> Result<Answer, Problem> {
    let (from, to) = call.range()?;
    let sites: Vec<String> = call
        .text("sites")
        .unwrap_or_default()
        .split(',')
        .filter(|site| !site.is_empty())
        .map(str::to_owned)
        .collect();
    if sites.is_empty() || sites.len() > limits::AXIS_SITES {
        return Err(Problem::bad(format!("sites has 1 to {} site ids", limits::AXIS_SITES)));
    }
    for site in &sites {
        let group = call.web.group_of(site)?.ok_or_else(Problem::not_found)?;
        if !call.may(Right::Board, &group) {
            return Err(Problem::not_found());
        }
    }
    Answer::json(&json!({"sites": call.web.reader.axis(&sites, from, to)?}))
}

#[derive(Deserialize)]
struct Shown {
    site: String,
    fid: String,
    spans: Vec<(i64, i64)>,
    #[serde(default)]
    ended: bool,
}

/// The file that a report names. What its session plays already may be reported to its end, though
/// it has become too old for a viewer meanwhile.
fn shown_file(call: &Call, site: &str, fid: &str) -> Result<StoredFile, Problem> {
    let problem = match openable(call, site, fid) {
        Ok((file, _)) => return Ok(file),
        Err(problem) => problem,
    };
    let refusals = [Code::NotAllowed, Code::PrivacyZones, Code::TooOld, Code::PurposeMissing];
    if !refusals.contains(&problem.code) {
        return Err(problem);
    }
    let session = call.session()?.id.as_str();
    let plays = call.web.console.read(|tables| tables.playback(session, (site, fid)))?.is_some();
    call.web.file(site, fid)?.filter(|_| plays).ok_or_else(Problem::not_found)
}

/// The times of a file; a clock that was set within it may have put its end before its start.
fn times(file: &StoredFile) -> Result<(i64, i64), Problem> {
    let time = |text: &str| WallTime::parse(text).map_err(|_| Problem::not_found());
    let (from, to) = (time(&file.from)?.0, time(&file.to)?.0);
    Ok((from.min(to), from.max(to)))
}

/// Pictures of a clip that had ended are a new playback, with a record of its own.
fn shown(call: &Call) -> Result<Answer, Problem> {
    let Shown { site, fid, spans, ended } = call.json()?;
    if spans.len() > SPANS_MAX || spans.iter().any(|(from, to)| from > to) {
        return Err(Problem::bad(format!("spans has at most {SPANS_MAX} pairs, from before to")));
    }
    let file = shown_file(call, &site, &fid)?;
    let spans = within(&spans, times(&file)?);
    let id = SiteId::parse(&site).map_err(|_| Problem::not_found())?;
    let (session, by) = (call.session()?.clone(), call.origin()?);
    let start = Some(call.web.footage_entry(&file)?).filter(|_| file.purpose != "snapshot");
    let stopped = call.web.console.act(move |store, now| {
        let plays = store.note_report(&session.id, (&site, &fid), now)?;
        if let Some(start) = start.filter(|_| !plays && !spans.is_empty()) {
            store.begin_playback(&by, now, (&site, &fid), start)?;
        }
        store.shown(&session, (&id, &fid), &spans)?;
        match ended {
            true => store.end_playbacks(now, Ending::File(&session.id, &site, &fid)),
            false => Ok(Vec::new()),
        }
    })?;
    call.web.close_footage(&stopped);
    Ok(Answer::nothing())
}
