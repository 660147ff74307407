//! What was found, for people and programs: streams, clock, warnings with what to set in the camera.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::device::CameraTime;
use super::devices::Device;
use super::interview::Answers;
use super::media::{Choice, Coding, Encoder, Profile};
use super::soap::CallError;
use super::stream_uri::{self, StreamUrl};
use crate::redact::masked;
use crate::units::WallTime;

/// A clock that is wrong by more is reported, microseconds: the exchange itself takes a part of a second.
const CLOCK_TOLERANCE: i64 = 2_000_000;
/// A clock before 2000 was never set.
const NEVER_SET_BEFORE: i64 = 946_684_800_000_000;
/// Seconds from key frame to key frame that are reported when there are more: clips and recovery begin at key frames.
const GOP_MAX: f64 = 4.0;
/// Pictures a second that are reported when there are fewer or more: fewer show no vehicle in time, more cost without use.
const RATE_MIN: f64 = 5.0;
const RATE_MAX: f64 = 30.0;
/// Pixels of a sub-stream that are reported when there are more: 1280 x 720.
const SUB_PIXELS_MAX: u64 = 1280 * 720;

/// A stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// URL without a login before its host. Its path may hold one: shown only by [`masked`].
    pub url: String,
    /// Name of the profile.
    pub profile: String,
    /// Its encoder.
    pub encoder: Option<Encoder>,
}

/// The camera's clock beside this machine's.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// The camera's time.
    pub camera: WallTime,
    /// How far it is ahead of this machine, microseconds.
    pub ahead: i64,
    /// Minutes of its local time east of UTC.
    pub offset: Option<i32>,
    /// Its zone, as it names it.
    pub zone: Option<String>,
    /// It is set by NTP.
    pub ntp: Option<bool>,
}

/// A camera: one video source of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Camera {
    /// Its address, with the scope of a link-local one.
    pub address: String,
    /// The interface on which it answered.
    pub interface: String,
    /// Maker and model, or its name.
    pub model: String,
    /// Version of its firmware.
    pub firmware: String,
    /// The video source of a device with several.
    pub source: Option<String>,
    /// Its clock.
    pub clock: Option<Clock>,
    /// The stream to record.
    pub main: Option<Stream>,
    /// The stream to analyse.
    pub sub: Option<Stream>,
    /// What to set in the camera.
    pub warnings: Vec<String>,
    /// What it did not answer, and what helps.
    pub problems: Vec<String>,
}

/// The cameras of a device. `offset` is this machine's offset from UTC in minutes, `has_login` whether it was asked with a login.
pub fn cameras(device: &Device, answers: &Answers, offset: i32, has_login: bool) -> Vec<Camera> {
    let base = base(device, answers, offset, has_login);
    if answers.choices.is_empty() {
        return vec![base];
    }
    let several = answers.choices.len() > 1;
    let one = |choice: &Choice| {
        let mut camera = base.clone();
        camera.source = several.then(|| choice.source.clone());
        camera.main = stream(&choice.main, &device.address, answers, &mut camera.warnings);
        let sub = choice.sub.as_ref();
        camera.sub =
            sub.and_then(|sub| stream(sub, &device.address, answers, &mut camera.warnings));
        let advised = advice(camera.main.as_ref(), camera.sub.as_ref());
        camera.warnings.extend(advised);
        camera
    };
    answers.choices.iter().map(one).collect()
}

fn base(device: &Device, answers: &Answers, offset: i32, has_login: bool) -> Camera {
    let said = &answers.information;
    let model = [said.maker.as_str(), said.model.as_str()].join(" ").trim().to_owned();
    let clock = answers.time.as_ref().and_then(|(time, ours)| clock(time, *ours));
    let mut camera = Camera {
        address: address(&device.address),
        interface: device.interface.clone(),
        model: if model.is_empty() { device.name.clone().unwrap_or_default() } else { model },
        firmware: said.firmware.clone(),
        ..Camera::default()
    };
    camera
        .warnings
        .extend(clock.as_ref().into_iter().flat_map(|clock| clock_advice(clock, offset)));
    camera.problems = problems(answers, has_login);
    if answers.is_onvif && clock.is_none() {
        camera.problems.push("its clock is unknown: it did not tell its time".into());
    }
    camera.clock = clock;
    camera
}

/// Each kind of problem once, with what helps.
fn problems(answers: &Answers, has_login: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (what, error) in &answers.problems {
        let line = match error {
            CallError::NotAuthorized if !has_login => {
                "it asks for a login: --login-file FILE, one line user:password; its ONVIF user may be another than that of its web page"
                    .to_owned()
            }
            CallError::NotAuthorized | CallError::LoginRefused => {
                "it refuses this login: check user, password and that ONVIF is switched on for this user; no further try was made, because cameras lock accounts"
                    .to_owned()
            }
            other => format!("{what}: {other}"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if answers.is_onvif && answers.problems.is_empty() && answers.choices.is_empty() {
        lines.push("it offers no H.264 or H.265 stream by ONVIF".into());
    }
    lines
}

fn address(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    }
}

fn clock(time: &CameraTime, ours: WallTime) -> Option<Clock> {
    let camera = time.utc?;
    let (offset, zone, ntp) = (time.offset, time.zone.clone(), time.ntp);
    // It answers in whole seconds: half of one has passed on average.
    Some(Clock { camera, ahead: camera.plus_micros(500_000).0 - ours.0, offset, zone, ntp })
}

fn stream(
    profile: &Profile,
    device: &SocketAddr,
    answers: &Answers,
    warnings: &mut Vec<String>,
) -> Option<Stream> {
    let uri = answers.uris.get(&profile.token)?;
    let StreamUrl { url, had_login, other_host } = match stream_uri::stream_url(uri, device) {
        Ok(made) => made,
        Err(reason) => {
            note(warnings, format!("{}: {reason}", profile.name));
            return None;
        }
    };
    if had_login {
        note(
            warnings,
            "it writes a user and a password into its stream addresses: they are left out here"
                .into(),
        );
    }
    if let Some(host) = other_host {
        note(
            warnings,
            format!(
                "it names {host} in its stream addresses; the address that answered stands here instead: check its network settings"
            ),
        );
    }
    if masked(&url) != url {
        note(warnings, "its stream addresses hold a login in their path, shown as ***; the file of --write holds the whole address".into());
    }
    if url.contains("%25") && url.starts_with("rtsp://[fe80") {
        note(warnings, "it answers on an IPv6 link-local address alone, which a configuration cannot name: give it an IPv4 address".into());
    }
    Some(Stream { url, profile: profile.name.clone(), encoder: profile.encoder.clone() })
}

fn note(warnings: &mut Vec<String>, text: String) {
    if !warnings.contains(&text) {
        warnings.push(text);
    }
}

fn clock_advice(clock: &Clock, offset: i32) -> Vec<String> {
    let mut lines = Vec::new();
    if clock.camera.0 < NEVER_SET_BEFORE {
        lines.push(
            "its clock was never set: set its time by NTP, or the time in its picture is wrong"
                .into(),
        );
    } else if clock.ahead.abs() > CLOCK_TOLERANCE {
        lines.push(format!(
            "its clock is {} this machine's: set its time by NTP, or the time in its picture is wrong (taimat dates footage by this machine)",
            distance(clock.ahead)
        ));
    }
    // A board whose zone is UTC has none of its own.
    if let Some(other) = clock.offset.filter(|other| *other != offset && offset != 0) {
        lines.push(format!(
            "its zone is {}, this machine's {}: set the zone",
            utc(other),
            utc(offset)
        ));
    }
    lines
}

/// `3 h 5 min ahead of`; `2 s behind`.
pub fn distance(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs().div_ceil(1_000_000);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let words = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    };
    format!("{words} {}", if ahead < 0 { "behind" } else { "ahead of" })
}

/// `UTC+7`, `UTC-3:30`.
pub fn utc(minutes: i32) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    match (minutes.abs() / 60, minutes.abs() % 60) {
        (0, 0) => "UTC".into(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, rest) => format!("UTC{sign}{hours}:{rest:02}"),
    }
}

/// What to set in the encoders.
fn advice(main: Option<&Stream>, sub: Option<&Stream>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, stream) in [("main", main), ("sub", sub)] {
        if let Some(encoder) = stream.and_then(|stream| stream.encoder.as_ref()) {
            encoder_advice(name, encoder, &mut lines);
        }
    }
    if main.is_some() && sub.is_none() {
        lines.push("it has no sub-stream: motion is sought in the main stream, which costs many times the CPU; set a second stream of 640x360, H.264, 10 pictures a second".into());
    }
    lines
}

fn encoder_advice(name: &str, encoder: &Encoder, lines: &mut Vec<String>) {
    let is_sub = name == "sub";
    match (&encoder.coding, is_sub) {
        (Coding::H265, false) => lines.push("main is H.265: it is recorded as it is, but many browsers and phones do not play it; set H.264 if the office must see clips anywhere".into()),
        (Coding::H265, true) => lines.push("sub is H.265, which costs more CPU to analyse: set H.264".into()),
        _ => {}
    }
    if encoder.smart {
        lines.push(format!("{name} seems to have a \"smart codec\" (H.264+, H.265+, Zipstream) by its name: switch it off, it leaves out key frames and detail"));
    }
    if let Some(seconds) = encoder.gop_seconds().filter(|seconds| *seconds > GOP_MAX) {
        let wanted = (encoder.rate.unwrap_or(25.0) * 2.0).round().max(1.0);
        lines.push(format!("{name} has a key frame only every {seconds:.0} s: clips begin at key frames and a loss lasts to the next one; set a key frame every {wanted:.0} pictures (2 s), and switch a \"smart codec\" off, which ONVIF may not show"));
    }
    match encoder.rate {
        Some(rate) if rate < RATE_MIN => lines.push(format!(
            "{name} has only {rate:.1} pictures a second: set at least {}",
            if is_sub { 10 } else { 15 }
        )),
        Some(rate) if rate > RATE_MAX => lines.push(format!(
            "{name} has {rate:.0} pictures a second: 25 are enough and wear the card less"
        )),
        _ => {}
    }
    let (width, height) = encoder.size;
    if is_sub && u64::from(width) * u64::from(height) > SUB_PIXELS_MAX {
        lines.push(format!("sub is {width}x{height}: set about 640x360, motion is sought in it"));
    }
}

impl Stream {
    /// `1920x1080 H.264 25/s, key frame every 2 s`, as far as it is known.
    pub fn words(&self) -> String {
        let Some(encoder) = &self.encoder else { return "unknown".into() };
        let size = match encoder.size {
            (0, _) | (_, 0) => String::new(),
            (width, height) => format!("{width}x{height} "),
        };
        let rate = encoder.rate.map_or(String::new(), |rate| format!(" {rate:.0}/s"));
        let gop = encoder
            .gop_seconds()
            .map_or(String::new(), |gop| format!(", key frame every {gop:.0} s"));
        format!("{size}{}{rate}{gop}", encoder.coding.as_str())
    }

    fn json(&self) -> Value {
        let encoder = self.encoder.as_ref();
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        json!({
            "url": masked(&self.url), "profile": masked(&self.profile),
            "codec": encoder.map(|encoder| encoder.coding.as_str()),
            "width": encoder.map(|encoder| encoder.size.0), "height": encoder.map(|encoder| encoder.size.1),
            "fps": encoder.and_then(|encoder| encoder.rate).map(rounded),
            "kbit_per_second": encoder.and_then(|encoder| encoder.kilobits),
            "gop_seconds": encoder.and_then(Encoder::gop_seconds).map(rounded),
            "smart_codec": encoder.is_some_and(|encoder| encoder.smart),
        })
    }
}

/// One JSON object for all cameras. Texts of cameras are without logins.
pub fn json(cameras: &[Camera]) -> Value {
    let one = |(at, camera): (usize, &Camera)| {
        let clock = camera.clock.as_ref().map(|clock| {
            json!({"utc": clock.camera.rfc3339(), "ahead_seconds": (clock.ahead as f64 / 1e5).round() / 10.0,
                "utc_offset_minutes": clock.offset, "zone": clock.zone, "ntp": clock.ntp})
        });
        json!({"camera": at + 1, "address": camera.address, "interface": camera.interface, "model": masked(&camera.model),
            "firmware": masked(&camera.firmware), "source": camera.source, "clock": clock,
            "main": camera.main.as_ref().map(Stream::json), "sub": camera.sub.as_ref().map(Stream::json),
            "warnings": masked_all(&camera.warnings), "problems": masked_all(&camera.problems)})
    };
    json!({"cameras": cameras.iter().enumerate().map(one).collect::<Vec<_>>()})
}

fn masked_all(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| masked(line)).collect()
}

/// The table for people: one line a camera, and below it its streams, warnings (`!`) and problems (`?`).
pub fn table(cameras: &[Camera]) -> String {
    let clock = |camera: &Camera| match &camera.clock {
        None => "unknown".to_owned(),
        Some(clock) => {
            let zone = clock.offset.map_or(String::new(), |offset| format!(", {}", utc(offset)));
            let words = if clock.camera.0 < NEVER_SET_BEFORE {
                "never set".into()
            } else if clock.ahead.abs() > CLOCK_TOLERANCE {
                distance(clock.ahead).replace("ahead of", "ahead")
            } else {
                "right".into()
            };
            format!("{words}{zone}")
        }
    };
    let rows: Vec<[String; 4]> =
        std::iter::once(["#", "ADDRESS", "MODEL", "CLOCK"].map(String::from))
            .chain(cameras.iter().enumerate().map(|(at, camera)| {
                let source =
                    camera.source.as_ref().map_or(String::new(), |source| format!(" ({source})"));
                let model = crate::escape::shown(&masked(&format!("{}{source}", camera.model)));
                [format!("{}", at + 1), camera.address.clone(), model, clock(camera)]
            }))
            .collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        let [number, address, model, clock] = row;
        let [a, b, c] = widths;
        out.push_str(&format!("{number:>a$}  {address:b$}  {model:c$}  {clock}\n"));
        let Some(camera) = at.checked_sub(1).map(|at| &cameras[at]) else { continue };
        let indent = " ".repeat(a + 2);
        for (name, stream) in [("main", &camera.main), ("sub ", &camera.sub)] {
            if let Some(stream) = stream {
                out.push_str(&format!(
                    "{indent}{name} {}\n",
                    crate::escape::shown(&masked(&stream.url))
                ));
                out.push_str(&format!("{indent}     {}\n", crate::escape::shown(&stream.words())));
            }
        }
        for (sign, lines) in [("!", &camera.warnings), ("?", &camera.problems)] {
            for line in lines {
                out.push_str(&format!("{indent}{sign} {}\n", crate::escape::shown(&masked(line))));
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod report_tests;
