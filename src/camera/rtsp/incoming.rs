//! What the client machine does with what has come: responses, requests of the camera, frames.

use std::ops::Range;

use super::auth::AuthVerdict;
use super::client::{Client, Phase, Purpose, Request, address};
use super::limits::{ANSWER_TIMEOUT, OUTPUT_MAX, SERVER_REQUESTS_MAX, UNEXPECTED_MAX};
use super::message::{Headers, Message, Start};
use super::set_up::Track;
use crate::camera::CameraFault;
use crate::camera::quirk::Quirk;
use crate::http_auth::challenges;
use crate::units::MonoTime;

impl Client {
    /// Why an answer did not come in time.
    pub(super) fn silence(&self, method: &str) -> String {
        let limit = ANSWER_TIMEOUT.as_secs();
        if let Some((have, want)) = self.decoder.incomplete_body() {
            return format!(
                "{method}: the answer is incomplete: {have} of {want} bytes within {limit} s"
            );
        }
        let waiting = self.decoder.waiting();
        let waiting = waiting.trim();
        if waiting.is_empty() {
            let hint = if self.answered { String::new() } else { self.no_rtsp_hint() };
            return format!("{method}: no answer within {limit} s{hint}");
        }
        format!("{method}: no complete answer within {limit} s, only: {waiting}")
    }

    /// What is wrong when the camera has sent no response after `seconds`; `None` after its first, and
    /// while a part of one is there.
    pub(super) fn never_answered(&self, seconds: u64) -> Option<String> {
        if self.answered || !self.decoder.waiting().trim().is_empty() {
            return None;
        }
        let (host, port) = address(&self.options.url);
        let hint = self.no_rtsp_hint();
        Some(format!("{host}:{port} sends no RTSP answer within {seconds} s{hint}"))
    }

    fn no_rtsp_hint(&self) -> String {
        let key = self.options.url_key;
        format!("; the address accepts connections: check port and protocol of {key}")
    }

    pub(super) fn message(&mut self, message: Message, now: MonoTime) {
        match &message.start {
            Start::Request(method) => self.serve(method, &message.headers),
            Start::Response(status, _) if *status < 200 => self.unexpected(),
            Start::Response(status, reason) => {
                let (status, reason) = (*status, reason.clone());
                self.response(status, &reason, &message, now);
            }
        }
    }

    /// Answers a request of the camera.
    fn serve(&mut self, method: &str, headers: &Headers) {
        self.quirks.note(Quirk::ServerRequest);
        self.server_requests += 1;
        if self.server_requests > SERVER_REQUESTS_MAX {
            return;
        }
        let status = match method {
            "OPTIONS" | "GET_PARAMETER" => "200 OK",
            _ => "501 Not Implemented",
        };
        let number: String = String::from_utf8_lossy(headers.get("cseq").unwrap_or(b"0"))
            .chars()
            .filter(char::is_ascii_digit)
            .take(10)
            .collect();
        let answer = format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n\r\n");
        if self.output.len() + answer.len() <= OUTPUT_MAX {
            self.output.extend(answer.bytes());
        }
    }

    /// A response that answers nothing: too many in a row end the session.
    fn unexpected(&mut self) {
        self.unexpected += 1;
        if self.unexpected > UNEXPECTED_MAX {
            let why = format!("more than {UNEXPECTED_MAX} responses in a row answer no request");
            match self.phase {
                Phase::TearingDown => self.torn_down(),
                _ => self.fail(CameraFault::Protocol, &why),
            }
        }
    }

    fn response(&mut self, status: u16, reason: &str, message: &Message, now: MonoTime) {
        let headers = &message.headers;
        self.answered = true;
        let number = headers.get("cseq").map(|value| String::from_utf8_lossy(value).into_owned());
        let number: Option<u32> = number.and_then(|number| number.trim().parse().ok());
        let late = number.and_then(|number| self.abandoned.iter().position(|own| *own == number));
        if let Some(at) = late {
            self.abandoned.remove(at);
            return;
        }
        // A camera that sends each response twice: the second does not answer the next request.
        let again = |(old, same): &(u32, Message)| number == Some(*old) && same == message;
        let again = self.phase == Phase::SetUp && self.numbered.as_ref().is_some_and(again);
        let Some(pending) = self.pending.take_if(|_| !again) else {
            self.quirks.note(Quirk::UnexpectedResponse);
            return self.unexpected();
        };
        self.unexpected = 0;
        if number == Some(pending.cseq) {
            let of_set_up = self.phase == Phase::SetUp;
            self.numbered = of_set_up.then(|| (pending.cseq, message.clone()));
        } else {
            self.quirks.note(Quirk::CSeq);
        }
        let learned = headers.get("public").is_some_and(|value| self.keep_alive.public(value));
        let request = pending.request;
        if status == 401 {
            return self.unauthorized(request, message, now);
        }
        self.auth.answered(headers);
        match request.purpose {
            Purpose::Describe => self.described_as(status, reason, message, now),
            Purpose::SetUp(track) => self.set_up_as(track, status, reason, message, now),
            Purpose::Play => self.played_as(status, reason, message, now),
            Purpose::KeepAlive if status >= 300 => self.keep_alive_refused(request.method, now),
            // The session may end before the next interval: GET_PARAMETER at once.
            Purpose::KeepAlive if learned => self.send_keep_alive(now),
            Purpose::KeepAlive => {}
            Purpose::TearDown if self.sessions.len() > 1 => {
                self.sessions.remove(0);
                self.send_tear_down(now);
            }
            Purpose::TearDown => self.torn_down(),
        }
    }

    fn keep_alive_refused(&mut self, method: &str, now: MonoTime) {
        self.quirks.note(Quirk::KeepAliveRefused);
        if self.keep_alive.refuse(method) {
            self.send_keep_alive(now);
        }
    }

    fn unauthorized(&mut self, request: Request, message: &Message, now: MonoTime) {
        let verdict = self.auth.unauthorized(&message.headers, &mut self.quirks);
        if verdict == AuthVerdict::Retry {
            // Some cameras close the connection after a 401.
            self.reconnect = request.purpose == Purpose::Describe;
            return self.transmit(request, now);
        }
        match (request.purpose, verdict) {
            (Purpose::KeepAlive, _) => self.keep_alive_refused(request.method, now),
            (Purpose::TearDown, _) => self.torn_down(),
            (_, AuthVerdict::Unanswerable(why)) => self.fail(CameraFault::Unauthorized, &why),
            _ if self.auth.is_accepted() => {
                // Not the password: another request of this session was taken with it.
                let why = format!(
                    "{}: 401: the camera accepts the login, but refuses this request",
                    request.method
                );
                self.fail(CameraFault::Unauthorized, &why);
            }
            _ => {
                self.refused = true;
                let offers = challenges(message.headers.all("www-authenticate")).list;
                let silent =
                    if offers.is_empty() { "; it does not say how it wants a login" } else { "" };
                let why = format!(
                    "{}: the camera rejects this user and password{silent}",
                    request.method
                );
                self.fail(CameraFault::Unauthorized, &why);
            }
        }
    }

    /// The track of an interleaved frame, and whether it is RTCP. `None`: it is not used.
    pub(super) fn frame(&mut self, channel: u8, place: Range<usize>) -> Option<(usize, bool)> {
        if !matches!(self.phase, Phase::SetUp | Phase::Playing) {
            return None;
        }
        let bytes = self.decoder.bytes(place);
        let kind = *bytes.get(1)?;
        let ssrc = bytes.get(8..12).and_then(|four| <[u8; 4]>::try_from(four).ok());
        let rtcp = (200..=207).contains(&kind);
        let payload_type = kind & 0x7f;
        let track = match rtcp {
            true => self.track_of_channel(channel)?,
            false => self.track_of_media(channel, payload_type)?,
        };
        self.media_seen = true;
        if !rtcp
            && let Some(promised) = self.tracks[track].ssrc.take()
            && ssrc.is_some_and(|ssrc| ssrc != promised.to_be_bytes())
        {
            self.quirks.note(Quirk::SsrcPromise);
        }
        Some((track, rtcp))
    }

    fn track_of_channel(&self, channel: u8) -> Option<usize> {
        self.tracks.iter().position(|track| track.is_on(channel))
    }

    /// The track of RTP with this payload type on this channel. The channel decides where the
    /// camera confirmed it, unless the type is that of another track whose own channel does not
    /// carry it: then the camera has swapped the channels, or has one for all.
    fn track_of_media(&mut self, channel: u8, payload_type: u8) -> Option<usize> {
        let found = self.track_of_channel(channel);
        let typed = |track: &Track| track.format.payload_type == payload_type;
        let by_type = self.tracks.iter().position(typed);
        let only = self.tracks.iter().filter(|track| typed(track)).count() == 1;
        let same = self.tracks.iter().filter(|track| track.is_on(channel)).count();
        let mut sure = false;
        if let Some(own) = found.map(|at| &mut self.tracks[at]) {
            sure = own.channel_confirmed && same == 1;
            own.at_home = typed(own);
        }
        let away = only && by_type.is_some_and(|at| !self.tracks[at].at_home);
        if by_type.is_none() || by_type == found || sure && !away {
            return found;
        }
        self.quirks.note(Quirk::Channel);
        by_type
    }
}
