//! `taimat probe`: connects to a camera and prints its streams.
#![expect(clippy::disallowed_methods, reason = "shell: waits, starts a thread or task")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::Usage;
use crate::camera::quirk::QuirkCounts;
use crate::camera::session_places::SharedSessions;
use crate::camera::{CameraFault, CameraUpdate, Frame, StreamRole, TrackKind, rtsp};
use crate::clock::SystemClock;
use crate::escape::shown_json_line;
use crate::redact::KnownLogin;
use crate::settings::{CameraSettings, Login, load, parse};
use crate::units::Digest;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Arguments of `taimat probe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// RTSP URL, without user and password.
    url: String,
    /// A file with one line user:password.
    #[arg(long)]
    login: Option<PathBuf>,
    /// Time of the probe, seconds.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=120))]
    seconds: u64,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// Says how to give a login. Redaction must leave it whole.
const NO_LOGIN: &str = "the camera requires a login: --login FILE, one line user:password";

/// Longer than each limit of a session's set-up that `run` has.
const SECONDS_TO_SEE: u64 = 20;

/// Formats of a track that are named at most; a camera that changes its resolution has two.
const FORMATS_MAX: usize = 4;
/// Changes of the parameter sets from which on they count as continual: one is a person who sets the
/// camera.
const CHANGES_MIN: u64 = 2;

/// Statistics of a track.
#[derive(Default)]
struct ProbeReport {
    /// The formats in the order of their first frame, [`FORMATS_MAX`] at most.
    formats: Vec<String>,
    /// Parameter sets of the last frame, and how often they changed.
    digest: Option<Digest>,
    changes: u64,
    frames: u64,
    keys: u64,
    bytes: u64,
    lost: u64,
    pts: Option<(i64, i64)>,
}

/// Connects once and prints the received tracks. Exit code 1 if the camera does not play, 2 for a wrong URL or login file.
///
/// # Errors
/// The URL or the login is invalid.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let login =
        args.login.as_ref().map_or(String::new(), |path| format!("login_file = {path:?}\n"));
    let text = format!(
        "site = \"probe\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = {:?}\n{login}",
        args.url
    );
    let settings = match parse::parse(&text, &load::read) {
        Ok(settings) => settings,
        Err(problems) => {
            let problems = in_flags(&problems.to_string());
            if args.json {
                failed(&args, &KnownLogin::default(), "invalid", &problems);
                return Ok(ExitCode::from(2));
            }
            return Err(Usage(problems).into());
        }
    };
    let known = settings.camera.login.as_ref().map(Login::known).unwrap_or_default();
    let heard: Arc<Mutex<BTreeMap<&'static str, ProbeReport>>> = Arc::default();
    let hearing = heard.clone();
    let take = move |frame: Arc<Frame>| {
        let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .entry(if frame.kind() == TrackKind::Video { "video" } else { "audio" })
            .or_default()
            .take(&frame);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (failure, quirks, is_playing) =
        runtime.block_on(listen(settings.camera, Duration::from_secs(args.seconds), take));
    runtime.shutdown_background();
    if !args.json {
        for (quirk, _) in quirks.seen() {
            println!("quirk {}: {}", quirk.name(), quirk.meaning());
        }
    }
    if let Some((fault, detail)) = failure {
        let no_login = args.login.is_none() && matches!(fault, CameraFault::Unauthorized);
        let detail = if no_login { NO_LOGIN } else { &in_flags(&detail) };
        return Ok(failed(&args, &known, fault.as_str(), detail));
    }
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if heard.get("video").is_none_or(|video| video.keys == 0) {
        let (fault, detail) = without_picture(is_playing, args.seconds);
        return Ok(failed(&args, &known, fault.as_str(), &detail));
    }
    print_report(&heard, &quirks, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Why no picture came in time, as far as the probe knows.
fn without_picture(is_playing: bool, seconds: u64) -> (CameraFault, String) {
    if is_playing {
        let detail = "the camera plays, but no key frame came";
        let more = "--seconds extends the probe";
        return (CameraFault::NoKeyFrame, format!("{detail} within {seconds} s ({more})"));
    }
    let detail = "the address does not take the connection, or the camera answers slowly";
    let more = format!("--seconds {SECONDS_TO_SEE} shows which");
    (CameraFault::Protocol, format!("not playing after {seconds} s: {detail} ({more})"))
}

/// Prints why the probe failed: a line, or with `--json` an object with `error`.
fn failed(args: &Args, known: &KnownLogin, fault: &str, detail: &str) -> ExitCode {
    let (url, detail) = (known.masked(&args.url), known.masked(detail));
    if args.json {
        let error = failure(&url, fault, &detail);
        println!("{}", shown_json_line(&error).unwrap_or_default());
    } else {
        eprintln!("{url}: {fault}: {detail}");
    }
    ExitCode::FAILURE
}

fn failure(url: &str, fault: &str, detail: &str) -> serde_json::Value {
    json!({"error": {"url": url, "fault": fault, "detail": detail}})
}

/// Replaces configuration keys in an error by the flags of this command.
fn in_flags(problems: &str) -> String {
    [
        ("camera.main_url", "the URL"),
        ("camera.sub_url", "the URL"),
        ("camera.login_file", "--login"),
        // A probe runs once.
        (", then restart", ""),
    ]
    .iter()
    .fold(problems.to_owned(), |text, (key, flag)| text.replace(key, flag))
}

/// Receives for the given time, or until the first failure, and returns that, the quirks and whether it played. There is no second attempt: with a
/// wrong password it could lock the account.
async fn listen(
    settings: CameraSettings,
    how_long: Duration,
    take: impl Fn(Arc<Frame>) + Send + 'static,
) -> (Option<(CameraFault, String)>, QuirkCounts, bool) {
    let (update, mut updates) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let shared: Arc<Mutex<SharedSessions>> = Arc::default();
    let (clock, heartbeat) = (Arc::new(SystemClock::new()), Heartbeat::default());
    let stream = rtsp::Stream {
        role: StreamRole::Main,
        settings,
        clock,
        shared: shared.clone(),
        heartbeat,
        run: 0,
        wakeup: WakeupCoalescer::default(),
    };
    let camera = tokio::spawn(rtsp::run(stream, take, update, stopped));
    let listening = tokio::time::sleep(how_long);
    tokio::pin!(listening);
    let mut found = QuirkCounts::default();
    let failure = loop {
        tokio::select! {
            () = &mut listening => break None,
            update = updates.recv() => match update {
                Some(CameraUpdate::Down { fault, detail, .. }) => break Some((fault, detail)),
                Some(CameraUpdate::Quirks { quirks, .. }) => found = quirks,
                _ => {}
            },
        }
    };
    let is_playing = shared.lock().unwrap_or_else(PoisonError::into_inner).places.is_main_playing();
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(4), camera).await;
    // The counts of the whole session.
    while let Ok(update) = updates.try_recv() {
        if let CameraUpdate::Quirks { quirks, .. } = update {
            found = quirks;
        }
    }
    (failure, found, is_playing)
}

impl ProbeReport {
    fn take(&mut self, frame: &Frame) {
        let format = frame.params.describe();
        if !self.formats.contains(&format) && self.formats.len() < FORMATS_MAX {
            self.formats.push(format);
        }
        let before = self.digest.replace(frame.params.digest);
        self.changes += u64::from(before.is_some_and(|before| before != frame.params.digest));
        self.frames += 1;
        self.keys += u64::from(frame.key);
        self.bytes += frame.data.len() as u64;
        self.lost += u64::from(frame.lost);
        let now = frame.pts_micros();
        self.pts =
            Some(self.pts.map_or((now, now), |(first, last)| (first.min(now), last.max(now))));
    }
}

impl ProbeReport {
    /// What a person must switch off in the camera.
    fn warning(&self) -> Option<String> {
        (self.changes >= CHANGES_MIN).then(|| {
            format!(
                "! the parameter sets changed {} times: one change in 10 s is recorded, so most pictures would be \
                 left out; switch adaptive resolution or a second profile off in the camera, and set one codec and size",
                self.changes
            )
        })
    }
}

fn print_report(heard: &BTreeMap<&'static str, ProbeReport>, quirks: &QuirkCounts, json: bool) {
    let mut rows = serde_json::Map::new();
    for (kind, track) in heard {
        let span = track.pts.map_or(0, |(first, last)| last - first).max(1) as f64 / 1e6;
        let rate = track.frames.saturating_sub(1) as f64 / span;
        let gop =
            if track.keys > 1 { track.frames as f64 / track.keys as f64 / rate } else { span };
        let kilobits = (track.bytes as f64 * 8.0 / span / 1000.0).round();
        let row = json!({"codec": track.formats.join(" / "), "changes": track.changes, "frames": track.frames, "per_second": (rate * 100.0).round() / 100.0,
            "kbit_per_second": kilobits, "gop_seconds": (gop * 10.0).round() / 10.0, "packets_lost": track.lost});
        if !json {
            println!(
                "{kind}: {}, {rate:.1} frames/s, {kilobits} kbit/s, key frame every {gop:.1} s, {} packets lost",
                track.formats.join(" / "),
                track.lost
            );
            if let Some(warning) = track.warning() {
                println!("{warning}");
            }
        }
        rows.insert((*kind).to_owned(), row);
    }
    if json {
        let quirks = quirks.seen().map(|(quirk, count)| {
            json!({"name": quirk.name(), "count": count, "meaning": quirk.meaning()})
        });
        rows.insert("quirks".to_owned(), quirks.collect());
        println!("{}", shown_json_line(&serde_json::Value::Object(rows)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::TrackParams;
    use crate::redact::masked;

    #[test]
    fn a_reason_names_the_flags_and_redaction_keeps_them() {
        let wanted = "look at the URL: correct --login";
        let said = in_flags("look at camera.main_url: correct camera.login_file, then restart");
        assert_eq!(said, wanted);
        for text in [NO_LOGIN, wanted] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn a_probe_without_connection_does_not_say_connected() {
        let (fault, detail) = without_picture(false, 6);
        assert!(fault == CameraFault::Protocol && detail.contains("not playing after 6 s"));
        assert!(!detail.contains("connected") && detail.contains("--seconds 20"), "{detail}");
        let (fault, detail) = without_picture(true, 6);
        assert!(fault == CameraFault::NoKeyFrame && detail.contains("no key frame"), "{detail}");
    }

    #[test]
    fn formats_that_take_turns_are_named_with_a_warning() {
        let mut report = ProbeReport::default();
        for turn in 0..3_u8 {
            let mut params = TrackParams::clone(&crate::format::record::tests::video(turn % 2));
            params.size = [(640, 360), (320, 180)][usize::from(turn % 2)];
            let data = bytes::Bytes::from_static(&[0; 4]);
            let (role, at) = (StreamRole::Main, crate::units::Timestamp::default());
            let params = Arc::new(params);
            report.take(&Frame { role, params, data, key: true, pts: 0, run: 0, at, lost: 0 });
        }
        assert_eq!((report.formats.len(), report.changes), (2, 2), "{:?}", report.formats);
        assert!(report.warning().unwrap().contains("changed 2 times"));
        assert_eq!(ProbeReport { changes: 1, ..report }.warning(), None);
    }

    #[test]
    fn a_failed_probe_is_an_object_with_error() {
        let error = failure("rtsp://127.0.0.1/main", "unreachable", "no answer");
        let wanted =
            json!({"url": "rtsp://127.0.0.1/main", "fault": "unreachable", "detail": "no answer"});
        assert_eq!(error, json!({"error": wanted}));
    }
}
