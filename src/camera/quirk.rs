//! Quirks: the deviations of a camera from its protocols, by name, counted once per session.
//!
//! A quirk is tolerated. It is logged once per session and listed by `taimat probe` with its
//! meaning and what the device does about it.

/// A deviation of the camera that is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quirk {
    /// A response carries another CSeq than its request, or none.
    CSeq,
    /// Lines end with LF alone, or blanks and folding stand where the grammar has none.
    LineEnds,
    /// The SSRC changes.
    SsrcChange,
    /// Packets of another SSRC among those of the track.
    ForeignSsrc,
    /// Another payload type than the SDP says.
    PayloadTypeChange,
    /// Packets of another payload type among those of the track.
    ForeignPayloadType,
    /// RTCP packets where RTP belongs.
    RtcpAmongRtp,
    /// A padding length that cannot be right.
    Padding,
    /// Sequence numbers jump.
    SequenceJump,
    /// Sequence numbers jump all the time.
    SequenceNoise,
    /// Packets in another order (UDP).
    Reordered,
    /// Packets that come twice, or too late (UDP).
    LatePackets,
    /// Packets that come twice (TCP).
    RepeatedPackets,
    /// The marker bit within pictures.
    MarkerWrong,
    /// Pictures without a marker bit.
    MarkerMissing,
    /// The marker bit on what is no picture.
    MarkerElsewhere,
    /// SEI or delimiters with time stamps of their own.
    SeiAlone,
    /// More SEI than there is room for.
    SeiLeftOut,
    /// NAL units beside the slices that cannot be valid.
    NalLeftOut,
    /// Start codes within payloads.
    StartCodes,
    /// Payloads or NAL units of no bytes.
    EmptyNal,
    /// A last fragment without its end bit.
    FragmentEnd,
    /// Fragments that differ in their type.
    FragmentType,
    /// Another video codec than the SDP says.
    OtherCodec,
    /// No usable parameter sets in the SDP.
    SetsMissing,
    /// Parameter sets that change or contradict the SDP.
    SetsChange,
    /// A GOP that begins at a recovery point.
    RecoveryPoint,
    /// A GOP that begins at an I picture without a sign of it.
    IntraKey,
    /// A status line has no reason phrase.
    StatusLine,
    /// A header value has bytes outside of ASCII.
    HeaderBytes,
    /// Answers name RTSP 2.0, which was not asked for.
    Version2,
    /// The length of a body is missing, too small or no number.
    BodyLength,
    /// Bytes stand between messages that belong to none.
    Garbage,
    /// A response answers no request.
    UnexpectedResponse,
    /// The camera sends requests.
    ServerRequest,
    /// The camera sends to another address.
    Redirect,
    /// The description of the stream names another type than SDP.
    ContentType,
    /// An SDP line cannot be read.
    SdpLine,
    /// Control URLs name another host.
    ControlUrl,
    /// SETUP is answered without a session id.
    NoSession,
    /// The session id changes during set-up.
    SessionChanged,
    /// The Session header has unknown parameters or an unreadable timeout.
    SessionHeader,
    /// The Transport header has blanks, or lacks a parameter.
    TransportHeader,
    /// Media comes on other channels than asked for.
    Channel,
    /// RTP has another SSRC than SETUP promised.
    SsrcPromise,
    /// The RTP-Info of PLAY cannot be read.
    RtpInfo,
    /// PLAY works only track by track, or only without a range.
    PlayAlone,
    /// Media comes although PLAY is not answered.
    PlaySilent,
    /// The nonce of Digest authentication expires during the session.
    NonceChanged,
    /// The challenge of a login is missing or not formed as it should be.
    Challenge,
    /// Keep-alive requests are not answered.
    KeepAliveSilent,
    /// Keep-alive requests are refused.
    KeepAliveRefused,
    /// Several pictures in a row carry one time stamp.
    RepeatedStamps,
    /// The time stamps do not move.
    FrozenStamps,
    /// The time stamps jump: the clock was set, or single stamps are wrong.
    JumpingStamps,
}

impl Quirk {
    /// All quirks with their stable names, what they mean, and what the device does.
    pub const ALL: [(Quirk, &'static str, &'static str); 55] = [
        (
            Quirk::CSeq,
            "cseq",
            "a response does not carry the number of its request; the one outstanding request takes it",
        ),
        (
            Quirk::LineEnds,
            "line_ends",
            "header lines are not formed as RFC 2326 demands; they are read all the same",
        ),
        (
            Quirk::SsrcChange,
            "ssrc_change",
            "the SSRC of a track changes; the track follows the one that keeps coming",
        ),
        (
            Quirk::ForeignSsrc,
            "foreign_ssrc",
            "packets of another SSRC come while the track goes on; they are dropped",
        ),
        (
            Quirk::PayloadTypeChange,
            "payload_type",
            "packets have another payload type than the SDP says; the one that keeps coming is taken",
        ),
        (
            Quirk::ForeignPayloadType,
            "foreign_payload_type",
            "packets of another payload type come among those of the track; they are dropped",
        ),
        (Quirk::RtcpAmongRtp, "rtcp_among_rtp", "RTCP comes where RTP belongs; it is dropped"),
        (
            Quirk::Padding,
            "padding",
            "the padding of a packet is longer than the packet; it is taken for payload",
        ),
        (
            Quirk::SequenceJump,
            "sequence_jump",
            "sequence numbers jump; a small step forward counts as loss, any other as a restart",
        ),
        (
            Quirk::SequenceNoise,
            "sequence_noise",
            "sequence numbers jump or repeat all the time; they are ignored: over UDP, lost packets are not seen then",
        ),
        (
            Quirk::Reordered,
            "reordered",
            "packets come in another order; they are put in order within 100 ms",
        ),
        (Quirk::LatePackets, "late_packets", "packets come twice, or too late; they are dropped"),
        (
            Quirk::RepeatedPackets,
            "repeated_packets",
            "packets come twice over TCP; the second one is dropped",
        ),
        (
            Quirk::MarkerWrong,
            "marker_wrong",
            "the marker bit stands within pictures; it is ignored, and a picture ends where the next begins",
        ),
        (
            Quirk::MarkerMissing,
            "marker_missing",
            "pictures end without a marker bit; they end where the next begins",
        ),
        (
            Quirk::MarkerElsewhere,
            "marker_elsewhere",
            "the marker bit stands on SEI or parameter sets; there it is ignored",
        ),
        (
            Quirk::SeiAlone,
            "sei_alone",
            "SEI or delimiters have time stamps of their own; they are put before the next picture",
        ),
        (
            Quirk::SeiLeftOut,
            "sei_left_out",
            "more SEI than a picture may have; the rest is left out",
        ),
        (
            Quirk::NalLeftOut,
            "nal_left_out",
            "SEI or other NAL units beside the slices cannot be valid; they are left out, the picture stays",
        ),
        (
            Quirk::StartCodes,
            "start_codes",
            "start codes stand within RTP payloads; the NAL units are separated there",
        ),
        (Quirk::EmptyNal, "empty_nal", "payloads or NAL units of no bytes; they are passed over"),
        (
            Quirk::FragmentEnd,
            "fragment_end",
            "the last fragment of a NAL unit is not marked as such; it ends where the next begins",
        ),
        (
            Quirk::FragmentType,
            "fragment_type",
            "the fragments of a NAL unit name different types; the first one counts",
        ),
        (
            Quirk::OtherCodec,
            "other_codec",
            "the video has another codec than the SDP says; it is recorded as what it is",
        ),
        (
            Quirk::SetsMissing,
            "sets_missing",
            "the SDP has no usable parameter sets; those of the stream are taken",
        ),
        (
            Quirk::SetsChange,
            "sets_change",
            "the parameter sets change, or are others than in the SDP; those of the stream count",
        ),
        (
            Quirk::RecoveryPoint,
            "recovery_point",
            "a GOP begins at a recovery point; its first pictures may be incomplete",
        ),
        (
            Quirk::IntraKey,
            "intra_key",
            "I pictures without any sign of random access; one that comes late enough begins a GOP",
        ),
        (
            Quirk::StatusLine,
            "status_line",
            "a status line has no reason phrase; the number is enough",
        ),
        (
            Quirk::HeaderBytes,
            "header_bytes",
            "a header has bytes outside of ASCII; they are kept and returned as they came",
        ),
        (Quirk::Version2, "rtsp_2", "answers name RTSP/2.0; they are read as those of 1.0"),
        (
            Quirk::BodyLength,
            "body_length",
            "Content-Length is missing or wrong; the body is taken up to the next message",
        ),
        (Quirk::Garbage, "garbage", "bytes belong to no message and no frame; they are skipped"),
        (
            Quirk::UnexpectedResponse,
            "unexpected_response",
            "a response answers no request; it is ignored",
        ),
        (
            Quirk::ServerRequest,
            "server_request",
            "the camera sends requests; OPTIONS and GET_PARAMETER are answered 200, others 501",
        ),
        (
            Quirk::Redirect,
            "redirect",
            "the camera redirects to another address; it is followed on the same host",
        ),
        (
            Quirk::ContentType,
            "content_type",
            "DESCRIBE names another content type than application/sdp; it is read as SDP",
        ),
        (Quirk::SdpLine, "sdp_line", "lines of the SDP cannot be read; they are skipped"),
        (
            Quirk::ControlUrl,
            "control_url",
            "control URLs name another host; their path is asked of the configured one",
        ),
        (
            Quirk::NoSession,
            "no_session",
            "SETUP is answered without a session id; requests are sent without one",
        ),
        (
            Quirk::SessionChanged,
            "session_changed",
            "the session id changes during set-up; the first one is kept as long as it works",
        ),
        (
            Quirk::SessionHeader,
            "session_header",
            "the Session header has parameters that cannot be read; they are ignored",
        ),
        (
            Quirk::TransportHeader,
            "transport_header",
            "the Transport header lacks parameters or has blanks; what was asked for is assumed",
        ),
        (
            Quirk::Channel,
            "channel",
            "media comes on other channels or ports than asked for; it is sorted by payload type",
        ),
        (
            Quirk::SsrcPromise,
            "ssrc_promise",
            "RTP has another SSRC than SETUP promised; that of the packets counts",
        ),
        (Quirk::RtpInfo, "rtp_info", "RTP-Info cannot be read; it is a hint and ignored"),
        (
            Quirk::PlayAlone,
            "play_alone",
            "PLAY is refused in its usual form; it is repeated track by track or without a range",
        ),
        (
            Quirk::PlaySilent,
            "play_silent",
            "PLAY is not answered although media comes; media counts",
        ),
        (
            Quirk::NonceChanged,
            "nonce_changed",
            "the nonce expires during the session; the request is repeated with the new one",
        ),
        (
            Quirk::Challenge,
            "challenge",
            "the challenge for the login is missing or malformed; what can be read of it is answered",
        ),
        (
            Quirk::KeepAliveSilent,
            "keep_alive_silent",
            "keep-alive requests are not answered; media itself is the sign of life",
        ),
        (
            Quirk::KeepAliveRefused,
            "keep_alive_refused",
            "keep-alive requests are refused; another method is used, and media itself is the sign of life",
        ),
        (
            Quirk::RepeatedStamps,
            "repeated_stamps",
            "several pictures in a row carry one time stamp; they are spread up to the next one",
        ),
        (
            Quirk::FrozenStamps,
            "frozen_stamps",
            "the time stamps do not move; pictures are dated by their arrival",
        ),
        (
            Quirk::JumpingStamps,
            "jumping_stamps",
            "a time stamp does not continue those before; time goes on from the picture before",
        ),
    ];

    /// The stable name in logs, payloads and tables.
    pub fn name(self) -> &'static str {
        Quirk::ALL[self as usize].1
    }

    /// What it means and what the device does about it.
    pub fn meaning(self) -> &'static str {
        Quirk::ALL[self as usize].2
    }
}

/// Counts of the quirks of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuirkCounts([u32; Quirk::ALL.len()]);

impl Default for QuirkCounts {
    fn default() -> QuirkCounts {
        QuirkCounts([0; Quirk::ALL.len()])
    }
}

impl QuirkCounts {
    /// Counts a quirk. True the first time.
    pub fn note(&mut self, quirk: Quirk) -> bool {
        let count = &mut self.0[quirk as usize];
        *count = count.saturating_add(1);
        *count == 1
    }

    /// How often a quirk was seen.
    pub fn count(&self, quirk: Quirk) -> u32 {
        self.0[quirk as usize]
    }

    /// The quirks seen, with their counts.
    pub fn seen(&self) -> impl Iterator<Item = (Quirk, u32)> + '_ {
        Quirk::ALL
            .iter()
            .map(|(quirk, ..)| (*quirk, self.0[*quirk as usize]))
            .filter(|seen| seen.1 > 0)
    }

    /// Adds the counts of another part of the same session.
    pub fn add(&mut self, other: &QuirkCounts) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quirk_stands_at_its_own_place_and_has_a_name() {
        for (at, (quirk, name, meaning)) in Quirk::ALL.iter().enumerate() {
            assert_eq!(*quirk as usize, at);
            assert!(!name.is_empty() && !meaning.is_empty());
        }
    }

    #[test]
    fn a_quirk_is_new_once_and_counted_each_time() {
        let mut counts = QuirkCounts::default();
        assert!(counts.note(Quirk::CSeq) && !counts.note(Quirk::CSeq));
        assert_eq!(counts.seen().collect::<Vec<_>>(), [(Quirk::CSeq, 2)]);
    }
}
