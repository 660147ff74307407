//! Requests of the client and the answers of the quirky camera (RFC 2326).

use super::login::Asked;
use super::quirks::CameraQuirk::*;
use super::sdp::{BASE, description};
use super::{Film, QuirkyCamera, Track};
use crate::units::MonoTime;

/// Time that the camera needs for an answer, microseconds.
const ANSWER: u64 = 2_000;
/// Another host that a redirect names.
const AWAY: &str = "rtsp://10.9.8.7/cam";

/// A request of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|header| header.1.as_str())
    }

    fn cseq(&self) -> u32 {
        self.header("CSeq").and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// Takes the next request out of `input`, and skips interleaved frames and responses.
pub(super) fn take_request(input: &mut Vec<u8>) -> Option<Request> {
    loop {
        if input.first() == Some(&b'$') {
            let length = u16::from_be_bytes([*input.get(2)?, *input.get(3)?]);
            let end = 4 + usize::from(length);
            if input.len() < end {
                return None;
            }
            input.drain(..end);
            continue;
        }
        let end = input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&input[..end]).into_owned();
        let mut lines = head.lines();
        let first: Vec<String> =
            lines.next().unwrap_or_default().split(' ').map(str::to_owned).collect();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        let headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let length = headers.iter().find(|header| header.0.eq_ignore_ascii_case("content-length"));
        let length: usize = length.and_then(|header| header.1.parse().ok()).unwrap_or(0);
        if input.len() < end + length {
            return None;
        }
        let body = input[end..end + length].to_vec();
        input.drain(..end + length);
        if first.first().is_some_and(|word| !word.starts_with("RTSP/")) && first.len() == 3 {
            let (method, url) = (first[0].clone(), first[1].clone());
            return Some(Request { method, url, headers, body });
        }
    }
}

/// An answer before it is written.
struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, headers: Vec<String>) -> Answer {
        Answer { status, headers, body: Vec::new() }
    }
}

impl QuirkyCamera {
    /// Answers a request.
    pub(super) fn answer(&mut self, request: &Request, now: MonoTime) {
        let mut delay = ANSWER;
        let playing = self.connection.as_ref().is_some_and(|conn| conn.film.is_some());
        if self.has(SilentAtFirst) && self.connections == 1 {
            return;
        }
        if self.has(KeepAliveSilent) && playing && request.method != "TEARDOWN"
            || self.has(TeardownSilent) && request.method == "TEARDOWN"
        {
            return;
        }
        let asked = Asked {
            method: &request.method,
            url: &request.url,
            authorization: request.header("Authorization"),
            body: &request.body,
        };
        let answer = match self.login.refuses(&asked, now) {
            Some(challenge) => Answer::new("401 Unauthorized", challenge),
            None => match request.method.as_str() {
                "OPTIONS" => {
                    let methods = if self.has(KeepAlive501) {
                        "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                    } else {
                        "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
                    };
                    self.kept_alive(now);
                    Answer::new("200 OK", vec![format!("Public: {methods}")])
                }
                "DESCRIBE" => self.describe(request, &mut delay, now),
                "SETUP" => self.set_up(request, now),
                "PLAY" => {
                    let answer = self.play(request, &mut delay, now);
                    if self.has(PlayUnanswered) && answer.status.starts_with("200") {
                        return;
                    }
                    answer
                }
                "TEARDOWN" => self.tear_down(request),
                _ => self.keep_alive(request, now),
            },
        };
        if playing && self.has(KeepAliveLate) && request.method != "TEARDOWN" {
            delay = 9_000_000;
        }
        if playing && self.has(KeepAlive400) && answer.status.starts_with("400") {
            let bytes = self.written(&answer, request.cseq().saturating_sub(1));
            return self.send_later(bytes, now.plus_micros(delay));
        }
        let number = match () {
            () if self.has(CseqPrevious) => request.cseq().saturating_sub(1),
            () => request.cseq(),
        };
        let bytes = self.written(&answer, number);
        if self.has(CameraAsks) && request.method == "DESCRIBE" {
            self.ask_client(now);
        }
        self.send_later(bytes, now.plus_micros(delay));
    }

    /// A request of the camera to its client.
    pub(super) fn ask_client(&mut self, now: MonoTime) {
        let text = "OPTIONS rtsp://client RTSP/1.0\r\nCSeq: 7\r\n\r\n\
            ANNOUNCE rtsp://client/cam RTSP/1.0\r\nCSeq: 8\r\nContent-Type: application/sdp\r\n\
            Content-Length: 5\r\n\r\nv=0\r\n";
        self.send_later(text.as_bytes().to_vec(), now);
    }

    fn kept_alive(&mut self, now: MonoTime) {
        if let Some(conn) = &mut self.connection {
            conn.alive_at = now;
        }
    }

    fn describe(&mut self, request: &Request, delay: &mut u64, now: MonoTime) -> Answer {
        let moved = request.url.ends_with("/moved");
        let to = |place: String| Answer::new("302 Moved Temporarily", vec![place]);
        match () {
            () if self.has(DescribeMissing) => return Answer::new("404 Not Found", Vec::new()),
            () if self.has(UrlPasswordMissing) => {
                return Answer::new("404 user=admin_password=tlJwpbo6_channel=1", Vec::new());
            }
            () if self.has(ReasonHasPassword) => {
                return Answer::new("404 No stream for user:secret", Vec::new());
            }
            () if self.has(UrlPasswordRelative) && !request.url.ends_with("stream=1.sdp") => {
                return to("Location: /user=admin_password=tlJwpbo6_channel=1_stream=1.sdp".into());
            }
            () if self.has(UrlPasswordAway) => {
                return to(format!("Location: {AWAY}/user=admin_password=tlJwpbo6_channel=1"));
            }
            () if self.has(Redirect302) && !moved => {
                return to("Location: rtsp://camera.test/moved".into());
            }
            () if self.has(RedirectRelative) && !moved => {
                return Answer::new("301 Moved", vec!["Location: /moved".into()]);
            }
            () if self.has(RedirectLoop) => {
                let again = self.rng.below(1000);
                return to(format!("Location: rtsp://camera.test/loop{again}"));
            }
            () if self.has(RedirectAway) || self.has(RedirectAwayWithLogin) => {
                return to(format!("Location: {AWAY}"));
            }
            () => {}
        }
        if self.has(DescribeSlow) {
            *delay = 8_000_000;
        }
        if self.has(DescribeContinue) {
            let text = format!("RTSP/1.0 100 Continue\r\nCSeq: {}\r\n\r\n", request.cseq());
            self.send_later(text.into_bytes(), now.plus_micros(1));
        }
        let asked = request.url.split('?').next().unwrap_or_default().trim_end_matches('/');
        let mut headers = Vec::new();
        match () {
            () if self.has(ContentBaseMissing) || self.has(SdpH3c) => {}
            () if self.has(ContentBaseOther) => {
                headers.push("Content-Base: rtsp://192.168.0.60:8554/cam/".into());
            }
            () if self.has(ContentBaseNoSlash) => headers.push(format!("Content-Base: {asked}")),
            () => headers.push(format!("Content-Base: {asked}/")),
        }
        let kind = match () {
            () if self.has(ContentTypeCharset) => "application/sdp; charset=utf-8",
            () if self.has(ContentTypeCapitals) => "Application/SDP",
            () if self.has(DescribeHtml) || self.has(HtmlHasPassword) => "text/html",
            () => "application/sdp",
        };
        if !self.has(ContentTypeMissing) {
            headers.push(format!("Content-Type: {kind}"));
        }
        let quirks = self.quirks.clone();
        let body = match () {
            () if self.has(DescribeHtml) => b"<html><body>log in</body></html>".to_vec(),
            () if self.has(HtmlHasPassword) => {
                b"<html><body>user:secret is not known</body></html>".to_vec()
            }
            () => description(|quirk| quirks.contains(&quirk), &self.footage, asked),
        };
        Answer { status: "200 OK", headers, body }
    }

    fn set_up(&mut self, request: &Request, now: MonoTime) -> Answer {
        self.kept_alive(now);
        let transport = request.header("Transport").unwrap_or_default().to_owned();
        let is_tcp = transport.contains("RTP/AVP/TCP");
        let is_sound = request.url.contains("track2");
        let sound_refused = match () {
            () if self.has(SoundSetupRefused) => Some("461 Unsupported Transport"),
            () if self.has(SoundSetupMissing) => Some("404 Not Found"),
            () => None,
        };
        if let Some(status) = sound_refused.filter(|_| is_sound) {
            return Answer::new(status, Vec::new());
        }
        if is_tcp && (self.has(Setup461) || self.is_udp()) {
            return Answer::new("461 Unsupported Transport", Vec::new());
        }
        self.setups += 1;
        if self.has(SetupBusyOnce) && self.setups == 1 {
            return Answer::new("453 Not Enough Bandwidth", Vec::new());
        }
        let pair = |name: &str| {
            let text = transport.split(name).nth(1)?;
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u16>().ok()
        };
        let (channel, port) = (pair("interleaved="), pair("client_port="));
        let Some(id) = self.new_session_id() else { return Answer::new("500 Odd", Vec::new()) };
        let channel = channel.unwrap_or(0) as u8;
        let (header, channel) = self.transport_header(is_tcp, channel, port, is_sound);
        let filmed = !request.url.contains("track3") && !request.url.contains("track4");
        if let Some(conn) = self.connection.as_mut().filter(|_| filmed) {
            conn.tracks.push(Track { is_sound, channel, port });
        }
        let mut headers = Vec::new();
        if !self.has(TransportMissing) {
            headers.push(header);
        }
        if !self.has(SetupNoSession) {
            headers.push(self.session_header(&id));
        }
        Answer::new("200 OK", headers)
    }

    /// The id that SETUP answers with.
    fn new_session_id(&mut self) -> Option<String> {
        let fresh = format!("{:08}", 12_345_670 + self.setups);
        let changes = self.has(SessionChanges) || self.has(SessionChangesLast);
        let last = self.has(SessionChangesLast);
        let long = self.has(SessionLongId);
        let conn = self.connection.as_mut()?;
        let id = if long { "s".repeat(200) } else { fresh };
        let valid = conn.session.get_or_insert_with(|| id.clone());
        if !changes {
            return Some(valid.clone());
        }
        if last {
            *valid = id.clone();
        }
        Some(id)
    }

    fn session_header(&self, id: &str) -> String {
        let limit = match () {
            () if self.has(KeepAliveSilent) || self.has(KeepAlive501) => "20",
            () if self.has(TimeoutStrict) => "10",
            () if self.has(TimeoutZero) => "0",
            () if self.has(TimeoutHuge) => "99999999999",
            () if self.has(SessionTimeoutBroken) => "",
            () => "60",
        };
        match () {
            () if self.has(SessionMoreParams) => format!("Session: {id};timeout={limit};server=7"),
            () if self.has(SessionBlanks) => format!("Session:   {id} ; timeout = {limit} "),
            () => format!("Session: {id};timeout={limit}"),
        }
    }

    /// The Transport header, and the channel on which media will come.
    fn transport_header(
        &self,
        is_tcp: bool,
        channel: u8,
        port: Option<u16>,
        is_sound: bool,
    ) -> (String, u8) {
        if !is_tcp {
            let port = port.unwrap_or(0);
            let server = if self.has(UdpTransportBare) { "" } else { ";server_port=6000-6001" };
            let text = format!("RTP/AVP;unicast;client_port={port}-{}{server}", port + 1);
            return (format!("Transport: {text}"), channel);
        }
        let ssrc = self.ssrc(is_sound);
        let ssrc = if self.has(SsrcSetupWrong) { 0x5d4a_00c6 } else { ssrc };
        let other = if self.has(TransportOtherChannels) { channel + 6 } else { channel };
        let both = format!("interleaved={other}-{}", other + 1);
        let text = match () {
            () if self.has(TransportBlanks) => format!("RTP/AVP/TCP; unicast; {both}"),
            () if self.has(TransportBare) => "RTP/AVP/TCP;unicast".into(),
            () if self.has(TransportCapitals) => {
                format!("RTP/AVP/TCP;UNICAST;INTERLEAVED={other}-{};MODE=\"PLAY\";x-odd", other + 1)
            }
            () if self.has(TransportOneChannel) => {
                format!("RTP/AVP/TCP;unicast;interleaved={other}")
            }
            () => format!("RTP/AVP/TCP;unicast;{both};ssrc={ssrc:08X}"),
        };
        (format!("Transport: {text}"), other)
    }

    fn session_is_right(&self, request: &Request) -> bool {
        let given = request.header("Session").map(|id| id.split(';').next().unwrap_or(id).trim());
        let valid = self.connection.as_ref().and_then(|conn| conn.session.as_deref());
        self.has(SetupNoSession) || given == valid
    }

    fn play(&mut self, request: &Request, delay: &mut u64, now: MonoTime) -> Answer {
        if !self.session_is_right(request) {
            return Answer::new("454 Session Not Found", Vec::new());
        }
        if self.has(PlayNoRange) && request.header("Range").is_some() {
            return Answer::new("457 Invalid Range", Vec::new());
        }
        if self.has(PlayByTrack) && !request.url.contains("track") {
            return Answer::new("459 Aggregate Operation Not Allowed", Vec::new());
        }
        self.kept_alive(now);
        let mut begins = now.plus_micros(ANSWER + 1000);
        if self.has(PlaySlow) {
            *delay = 6_000_000;
            begins = now.plus_micros(*delay + 1000);
        }
        if self.has(PlayAnsweredLate) {
            *delay = 700_000;
        }
        let video_asked = !self.has(PlayByTrack) || request.url.contains("track1");
        let playing = self.connection.as_ref().is_some_and(|conn| conn.film.is_some());
        if video_asked && !playing {
            self.sessions += 1;
            let film = Film::new(self, begins);
            if let Some(conn) = &mut self.connection {
                conn.film = Some(film);
            }
        }
        let mut headers = vec!["Range: npt=0.000-".to_owned()];
        if let Some(id) = self.connection.as_ref().and_then(|conn| conn.session.clone())
            && !self.has(SetupNoSession)
        {
            headers.push(format!("Session: {id}"));
        }
        headers.extend(self.rtp_info());
        Answer::new("200 OK", headers)
    }

    fn rtp_info(&self) -> Option<String> {
        let film = self.connection.as_ref()?.film.as_ref()?;
        let has_sound = self.connection.as_ref()?.tracks.iter().any(|track| track.is_sound);
        if self.has(RtpInfoMissing) {
            return None;
        }
        if self.has(RtpInfoBroken) {
            return Some("RTP-Info: track1;seq=1000;rtptime=0".into());
        }
        let [video, sound] = film.first_stamps(self);
        let (video, sound) = if self.has(RtptimeZero) { (0, 0) } else { (video, sound) };
        let mut text = format!("RTP-Info: url={BASE}/track1;seq={};rtptime={video}", film.seq);
        if has_sound {
            text += &format!(",url={BASE}/track2;seq={};rtptime={sound}", film.sound_seq);
        }
        Some(text)
    }

    fn tear_down(&mut self, request: &Request) -> Answer {
        if !self.session_is_right(request) {
            return Answer::new("454 Session Not Found", Vec::new());
        }
        if let Some(conn) = &mut self.connection {
            conn.film = None;
        }
        self.torn_down += 1;
        Answer::new("200 OK", Vec::new())
    }

    fn keep_alive(&mut self, request: &Request, now: MonoTime) -> Answer {
        let status = match () {
            () if self.has(KeepAlive400) => "400 Bad Request",
            () if self.has(KeepAlive454) => "454 Session Not Found",
            () if self.has(KeepAlive501) => "501 Not Implemented",
            () if self.has(KeepAlive401) => "401 Unauthorized",
            () if !self.session_is_right(request) => "454 Session Not Found",
            () => {
                self.kept_alive(now);
                "200 OK"
            }
        };
        Answer::new(status, Vec::new())
    }

    /// The bytes of an answer in the camera's form.
    fn written(&self, answer: &Answer, number: u32) -> Vec<u8> {
        let end = if self.has(LinesLf) { "\n" } else { "\r\n" };
        let version = if self.has(VersionTwo) { "RTSP/2.0" } else { "RTSP/1.0" };
        let status = if self.has(StatusNoReason) { &answer.status[..3] } else { answer.status };
        let mut lines = vec![format!("{version} {status}")];
        match () {
            () if self.has(CseqZero) => lines.push("CSeq: 0".into()),
            () if self.has(CseqMissing) => {}
            () => lines.push(format!("CSeq: {number}")),
        }
        if self.has(HeadersBroken) {
            lines.push("this line has no colon".into());
        }
        if self.has(HeadersMany) {
            lines.extend((0..40).map(|at| format!("X-Odd-{at}: {}", "y".repeat(at))));
        }
        lines.extend(answer.headers.iter().cloned());
        let length = answer.body.len();
        match () {
            () if length == 0 || self.has(LengthMissing) => {}
            () if self.has(LengthTooLong) || self.has(UrlPasswordSilent) => {
                lines.push(format!("Content-Length: {}", length + 2))
            }
            () if self.has(LengthTooShort) => lines.push(format!("Content-Length: {}", length - 2)),
            () => lines.push(format!("Content-Length: {length}")),
        }
        let shape = |line: &String| match line.split_once(": ") {
            Some((name, value)) if self.has(HeadersLower) => {
                format!("{}:{value}", name.to_lowercase())
            }
            Some((name, value)) if self.has(HeadersFolded) && value.contains(';') => {
                format!("{name}:{end} {}", value.replacen(';', &format!(";{end} "), 1))
            }
            _ => line.clone(),
        };
        let mut out = if self.has(BlankLineFirst) { end.as_bytes().to_vec() } else { Vec::new() };
        let status = lines.remove(0);
        let text: Vec<String> = [status].into_iter().chain(lines.iter().map(shape)).collect();
        let mut message = text.join(end).into_bytes();
        message.extend(end.repeat(2).bytes());
        message.extend(&answer.body);
        out.extend(&message);
        if self.has(AnswerTwice) {
            out.extend(&message);
        }
        out
    }
}
