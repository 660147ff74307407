//! The steps of a session up to PLAY: DESCRIBE with redirects, the choice of tracks, SETUP.

use super::client::{Client, Event, Phase, Purpose, Request, address};
use super::control_url::{ControlBase, encoded};
use super::headers::{is_rtp_info, session, transport};
use super::limits::{ANSWER_TIMEOUT, BODY_MAX, LINE_MAX, REDIRECTS_MAX};
use super::message::Message;
use super::open_body::OpenBody;
use super::sdp::{self, MediaDescription, Sdp};
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::camera::track_format::TrackFormat;
use crate::camera::{CameraFault, TrackKind};
use crate::settings::Transport;
use crate::units::MonoTime;

/// Whether audio is recorded. Video never waits for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Sound {
    /// Audio is not set up.
    Off,
    /// Audio is set up when the camera offers it.
    Wanted,
    /// The camera stopped answering when audio was set up: the next session does without.
    Silenced(String),
    /// The camera offers audio that cannot be recorded, for this reason.
    None(String),
}

/// A track of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its payload.
    pub format: TrackFormat,
    /// The camera's ports of RTP and RTCP, for UDP.
    pub server_ports: Option<(u16, u16)>,
    pub(super) url: String,
    /// SETUP was sent.
    pub(super) asked: bool,
    /// The interleaved channel of RTP.
    pub(super) channel: u8,
    /// The camera named the channel.
    pub(super) channel_confirmed: bool,
    /// The latest RTP on its channel had its payload type.
    pub(super) at_home: bool,
    /// The SSRC that the camera promised, until it is compared.
    pub(super) ssrc: Option<u32>,
}

impl Track {
    /// Whether this is its channel of RTP or RTCP.
    pub(super) fn is_on(&self, channel: u8) -> bool {
        self.channel == channel || self.channel.wrapping_add(1) == channel
    }
}

impl Client {
    /// Sends DESCRIBE.
    pub(super) fn describe(&mut self, now: MonoTime) {
        let headers = vec![("Accept", "application/sdp".to_owned())];
        let uri = encoded(self.options.url.as_str());
        self.send(Request { purpose: Purpose::Describe, method: "DESCRIBE", uri, headers }, now);
    }

    /// DESCRIBE was answered.
    pub(super) fn described_as(
        &mut self,
        status: u16,
        reason: &str,
        message: &Message,
        now: MonoTime,
    ) {
        self.reconnect = false;
        match status {
            200..300 => {}
            300..400 => return self.redirected(status, message, now),
            _ => return self.refused_by_status("DESCRIBE", status, reason),
        }
        let mut message = message.clone();
        let room = (BODY_MAX + 1).saturating_sub(message.body.len());
        let more = self.decoder.take_text(room);
        let is_longer = !more.trim_ascii().is_empty();
        message.body.extend(more);
        if is_longer || message.headers.get("content-length").is_none() {
            self.quirks.note(Quirk::BodyLength);
        } else if message.body.ends_with(b"\n")
            && !sdp::parse(&message.body, &mut QuirkCounts::default()).names.is_empty()
        {
            return self.described(&message, now);
        }
        self.open_body =
            Some(OpenBody { message, quiet_since: now, until: now.plus(ANSWER_TIMEOUT) });
    }

    fn redirected(&mut self, status: u16, message: &Message, now: MonoTime) {
        let location = message.headers.get("location").unwrap_or_default();
        let location = String::from_utf8_lossy(location).trim().to_owned();
        let target = self.options.url.join(&location).ok().filter(|url| {
            !location.is_empty() && url.scheme() == "rtsp" && url.host_str().is_some()
        });
        let Some(mut target) = target else {
            let why = format!(
                "DESCRIBE: {status}: the camera redirects to {location:?}, which is no RTSP URL: set {}",
                self.options.url_key
            );
            return self.fail(CameraFault::Protocol, &why);
        };
        // A login in a Location is not one of the configuration.
        let _ = (target.set_username(""), target.set_password(None));
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            let why = format!(
                "DESCRIBE: {status}: the camera redirects more than {REDIRECTS_MAX} times, last to {target}"
            );
            return self.fail(CameraFault::Protocol, &why);
        }
        let (old, new) = (address(&self.options.url), address(&target));
        if old.0 != new.0 && self.options.login.is_some() {
            let why = format!(
                "DESCRIBE: {status}: the camera redirects to another host, {target}: the login is not sent there; \
                 if that is right, set {}",
                self.options.url_key
            );
            return self.fail(CameraFault::Protocol, &why);
        }
        self.quirks.note(Quirk::Redirect);
        self.aggregate = encoded(target.as_str());
        self.options.url = target;
        if old == new {
            // Some cameras close the connection after a redirect.
            self.reconnect = true;
            return self.describe(now);
        }
        self.events.push_back(Event::Connect(new.0, new.1));
    }

    /// Takes the description: chooses the tracks and sets up the first.
    pub(super) fn described(&mut self, message: &Message, now: MonoTime) {
        let kind = String::from_utf8_lossy(
            message.headers.get("content-type").unwrap_or(b"application/sdp"),
        )
        .to_ascii_lowercase();
        if kind.split(';').next().unwrap_or_default().trim() != "application/sdp" {
            self.quirks.note(Quirk::ContentType);
        }
        let mut quirks = QuirkCounts::default();
        let sdp = sdp::parse(&message.body, &mut quirks);
        if sdp.names.is_empty() {
            let body = &message.body[..message.body.len().min(LINE_MAX)];
            let text = self.known.hidden(&String::from_utf8_lossy(body));
            let text: String = text.chars().take(60).collect();
            let what = if text.trim().is_empty() { "nothing".into() } else { format!("{text:?}") };
            let why = format!("DESCRIBE: the camera describes no media, but answers {what}");
            return self.fail(CameraFault::Protocol, &why);
        }
        self.quirks.add(&quirks);
        let named = ["content-base", "content-location"]
            .into_iter()
            .filter_map(|name| message.headers.get(name))
            .find(|value| !value.is_empty());
        let (base, foreign) = ControlBase::new(self.options.url.as_str(), named);
        let (aggregate, other) = base.url(sdp.control.as_deref());
        self.aggregate = aggregate;
        if foreign || other {
            self.quirks.note(Quirk::ControlUrl);
        }
        match self.choose(&sdp, TrackKind::Video) {
            Ok(Some(video)) => self.add_track(&base, video),
            Ok(None) => {
                let why = format!(
                    "no H.264 or H.265 video in this stream, only: {}",
                    sdp.names.join(", ")
                );
                return self.fail(CameraFault::NoVideo, &why);
            }
            Err(why) => return self.fail(CameraFault::NoVideo, &why),
        }
        match &self.options.sound {
            Sound::Wanted => match self.choose(&sdp, TrackKind::Audio) {
                Ok(Some(audio)) => self.add_track(&base, audio),
                Ok(None) => {}
                Err(why) => self.options.sound = Sound::None(why),
            },
            Sound::Silenced(why) => self.options.sound = Sound::None(why.clone()),
            Sound::Off | Sound::None(_) => {}
        }
        self.set_up(0, now);
    }

    /// The first track of a kind that can be recorded; why none can be, where there are some.
    fn choose<'s>(
        &self,
        sdp: &'s Sdp,
        kind: TrackKind,
    ) -> Result<Option<&'s MediaDescription>, String> {
        let encodings: &[&str] = match kind {
            TrackKind::Video => &["h264", "h265"],
            TrackKind::Audio => &["mpeg4-generic", "pcma", "pcmu"],
        };
        // Audio with `sendonly` is a back channel (ONVIF), unless the camera means its own sending.
        let video_too =
            sdp.media.iter().any(|media| media.format.kind == TrackKind::Video && media.sendonly);
        let back =
            |media: &&MediaDescription| kind == TrackKind::Audio && media.sendonly && !video_too;
        let offered = || sdp.media.iter().filter(|media| media.format.kind == kind && !back(media));
        let mut why = None;
        for media in offered().filter(|media| encodings.contains(&media.format.encoding.as_str())) {
            match (self.options.accepts)(&media.format) {
                Ok(()) => return Ok(Some(media)),
                Err(error) => {
                    let encoding = &media.format.encoding;
                    why = why.or(Some(self.known.masked(&format!(
                        "taimat does not record this kind of {encoding}: {error}"
                    ))));
                }
            }
        }
        why.map_or(Ok(None), Err)
    }

    fn add_track(&mut self, base: &ControlBase, media: &MediaDescription) {
        let (url, foreign) = base.url(media.control.as_deref());
        if foreign {
            self.quirks.note(Quirk::ControlUrl);
        }
        let channel = 2 * self.tracks.len() as u8;
        self.tracks.push(Track {
            format: media.format.clone(),
            server_ports: None,
            url,
            asked: false,
            channel,
            channel_confirmed: false,
            at_home: false,
            ssrc: None,
        });
    }

    /// Sends SETUP of a track.
    fn set_up(&mut self, track: usize, now: MonoTime) {
        let transport = match self.options.transport {
            Transport::Tcp => {
                let channel = 2 * track;
                format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel + 1)
            }
            Transport::Udp => {
                let (rtp, rtcp) = self.options.udp_ports.get(track).copied().unwrap_or_default();
                format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}")
            }
        };
        self.tracks[track].asked = true;
        let uri = self.tracks[track].url.clone();
        for channel in [2 * track as u8, 2 * track as u8 + 1] {
            self.decoder.use_channel(channel);
        }
        let headers = vec![("Transport", transport)];
        self.send(Request { purpose: Purpose::SetUp(track), method: "SETUP", uri, headers }, now);
    }

    /// SETUP of a track was answered.
    pub(super) fn set_up_as(
        &mut self,
        track: usize,
        status: u16,
        reason: &str,
        message: &Message,
        now: MonoTime,
    ) {
        if !(200..300).contains(&status) {
            if track == 0 {
                return self.refused_by_status("SETUP", status, reason);
            }
            // Video is recorded without sound.
            let why = self.status_words("SETUP", status, reason).1;
            self.options.sound = Sound::None(self.known.masked(&why));
            self.tracks.truncate(track);
            return self.play(now);
        }
        self.session_header(message);
        let value = message.headers.get("transport");
        if value.is_none() {
            self.quirks.note(Quirk::TransportHeader);
        }
        let hint = transport(value.unwrap_or_default(), &mut self.quirks);
        let asked = self.tracks[track].channel;
        let own = &mut self.tracks[track];
        (own.ssrc, own.server_ports) = (hint.ssrc, hint.server_ports);
        if self.options.transport == Transport::Tcp {
            match hint.channel {
                Some(channel) => {
                    own.channel = channel;
                    own.channel_confirmed = true;
                    self.decoder.use_channel(channel);
                    self.decoder.use_channel(channel.wrapping_add(1));
                    if channel != asked {
                        self.quirks.note(Quirk::Channel);
                    }
                }
                None => _ = self.quirks.note(Quirk::TransportHeader),
            }
        }
        self.events.push_back(Event::SetUp(track));
        if track + 1 < self.tracks.len() {
            self.set_up(track + 1, now);
        } else {
            self.play(now);
        }
    }

    fn session_header(&mut self, message: &Message) {
        let found =
            message.headers.get("session").and_then(|value| session(value, &mut self.quirks));
        let Some(found) = found else {
            self.quirks.note(Quirk::NoSession);
            return;
        };
        if let Some(timeout) = found.timeout {
            self.keep_alive.set_timeout(timeout);
        }
        if !self.sessions.contains(&found.id) {
            if !self.sessions.is_empty() {
                self.quirks.note(Quirk::SessionChanged);
            }
            self.sessions.push(found.id);
        }
    }

    /// Sends PLAY, of the next track or of the whole session.
    fn play(&mut self, now: MonoTime) {
        let uri = self.play_queue.last().unwrap_or(&self.aggregate).clone();
        let headers =
            if self.with_range { vec![("Range", "npt=0.000-".to_owned())] } else { Vec::new() };
        self.send(Request { purpose: Purpose::Play, method: "PLAY", uri, headers }, now);
    }

    /// PLAY was answered.
    pub(super) fn played_as(
        &mut self,
        status: u16,
        reason: &str,
        message: &Message,
        now: MonoTime,
    ) {
        match status {
            200..300 => {
                if message.headers.get("rtp-info").is_some_and(|value| !is_rtp_info(value)) {
                    self.quirks.note(Quirk::RtpInfo);
                }
                self.play_queue.pop();
                if !self.play_queue.is_empty() {
                    return self.play(now);
                }
                if self.phase == Phase::SetUp {
                    self.playing(now);
                }
            }
            // Each SETUP gave another session, and the first one does not play.
            454 if self.sessions.len() > 1 => {
                self.sessions.remove(0);
                self.play(now);
            }
            459 if self.play_queue.is_empty() => {
                self.quirks.note(Quirk::PlayAlone);
                self.play_queue = self.tracks.iter().rev().map(|track| track.url.clone()).collect();
                self.play(now);
            }
            400..500 if self.with_range && !matches!(status, 403 | 404 | 453 | 454) => {
                self.quirks.note(Quirk::PlayAlone);
                self.with_range = false;
                self.play(now);
            }
            _ => self.refused_by_status("PLAY", status, reason),
        }
    }

    fn refused_by_status(&mut self, method: &str, status: u16, reason: &str) {
        self.is_full |= matches!(status, 453 | 503);
        let (fault, why) = self.status_words(method, status, reason);
        self.fail(fault, &why);
    }

    /// Fault and words of a status.
    fn status_words(&self, method: &str, status: u16, reason: &str) -> (CameraFault, String) {
        let other = match self.options.transport {
            Transport::Tcp => ("TCP", "udp"),
            Transport::Udp => ("UDP", "tcp"),
        };
        let words = match status {
            403 => "the camera forbids this stream to this user".to_owned(),
            404 => format!("the camera has no such stream: look at {}", self.options.url_key),
            453 => "the camera has no place for another session: close other clients".to_owned(),
            454 => "the camera does not know its session any more".to_owned(),
            461 => format!(
                "the camera does not send over {}: set camera.transport = {:?}",
                other.0, other.1
            ),
            503 => "the camera is busy, or has no place for another session".to_owned(),
            _ => reason.to_owned(),
        };
        (CameraFault::Protocol, format!("{method}: {status}: {words}"))
    }
}
