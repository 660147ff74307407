//! The quirks of the simulated camera: what each bends, and what a session with it must give.

/// What a session with a quirk must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// One session; every picture and sound frame, bit for bit.
    All,
    /// One session; every picture bit for bit. Sound may be missing.
    Pictures,
    /// One session. Pictures may be missing where the receiver counts loss, and at the start.
    Counted,
    /// Sessions end and begin again: every picture is recorded or lies in a gap.
    Gaps,
    /// As `Pictures`, or a fault whose sentence has these words.
    Either(&'static str),
    /// Nothing can be recorded: a fault whose sentence has these words.
    Fault(&'static str),
}

/// Quirks of one group bend the same place: a camera has at most one of each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Login.
    Login,
    /// Time stamps of the picture.
    Stamps,
    /// Sound.
    Sound,
    /// Form of all answers.
    Form,
    /// DESCRIBE and its SDP.
    Describe,
    /// SETUP.
    Setup,
    /// PLAY.
    Play,
    /// Headers of RTP packets, and RTCP.
    Rtp,
    /// Units of pictures and their payloads.
    Unit,
    /// Life of the session.
    Life,
    /// The network and the camera as a whole.
    Link,
}

macro_rules! quirks {
    ($($name:ident $kind:ident $group:ident $expect:expr, $what:literal;)*) => {
        /// A deviation of the simulated camera.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum CameraQuirk { $(#[doc = $what] $name,)* }

        use CameraQuirk::*;
        use Expect::*;

        impl CameraQuirk {
            /// All quirks in the order of their kinds.
            pub(crate) const ALL: &[CameraQuirk] = &[$($name,)*];

            /// Kind of fault, as in the cases from the field.
            pub(crate) fn kind(self) -> &'static str {
                match self { $($name => stringify!($kind),)* }
            }

            /// The place that it bends.
            pub(crate) fn group(self) -> Group {
                match self { $($name => Group::$group,)* }
            }

            /// What a session with it alone must give.
            pub(crate) fn expect(self) -> Expect {
                match self { $($name => $expect,)* }
            }

            /// What it bends.
            pub(crate) fn what(self) -> &'static str {
                match self { $($name => $what,)* }
            }
        }
    };
}

quirks! {
    // Kind A: refusals that are none.
    NonceRotates A Login All, "a nonce is good for one request; the next answer is 401 with stale=true";
    NonceRotatesSilently A Login All, "a nonce is good for one request; the next answer is 401 without stale";
    AuthInt A Login All, "the challenge offers qop=\"auth,auth-int\"";
    AuthIntOnly A Login All, "the challenge offers qop=\"auth-int\" alone";
    AuthNoHeader A Login Either("does not say how"), "401 without WWW-Authenticate; Basic is expected unasked";
    NoLogin A Login Fault("login"), "the camera wants a login and none is configured";
    NoLoginBasic A Login Fault("login"), "the camera wants a Basic login and none is configured";
    WrongPassword A Login Fault("rejects this user and password"), "the configured password is wrong";
    UnauthorizedThrice A Login Gaps, "after a reboot the right password, taken before, is refused three times";
    UnauthorizedTwice A Login Gaps, "the first two DESCRIBEs with the right password are refused";
    DigestNoQop A Login All, "Digest of RFC 2069, without qop";
    DigestSha256 A Login All, "Digest with SHA-256";
    DigestSha256Sess A Login All, "Digest with SHA-256-sess";
    DigestMd5Sess A Login All, "Digest with MD5-sess";
    DigestUserhash A Login All, "Digest with SHA-256 and userhash=true";
    BasicOnly A Login All, "Basic alone is offered";
    SeveralChallenges A Login All, "three challenges in three headers; Basic is refused afterwards";
    ChallengesInOneHeader A Login All, "Basic and Digest in one header, parted by a comma";
    UnknownAlgorithmFirst A Login All, "Digest with SHA-512-256, then with MD5";
    NegotiateFirst A Login All, "Negotiate and NTLM stand before Digest";
    StaleSameNonce A Login All, "every second request is refused once with stale=true and the same nonce";
    StaleUpperCase A Login All, "the nonce expires every 10 s, with STALE=\"TRUE\"";
    ChallengeUnquoted A Login All, "the values of the challenge have no quotes";
    ChallengeLowerCase A Login All, "the scheme is written `digest`, the names in capitals";
    RealmEscaped A Login All, "the realm has escaped quotes and a comma";
    RealmEmpty A Login All, "the realm is empty";
    LoginAtSetup A Login All, "DESCRIBE is open, SETUP wants the login";
    LoginAtPlay A Login All, "only PLAY wants the login";
    RealmUtf8 D Login All, "the realm holds the camera's name in UTF-8";
    // Kind B: media time.
    StampsFast B Stamps All, "stamps say 25 pictures a second, 20 come";
    StampsSlow B Stamps All, "stamps run 25 % ahead of the pictures";
    StampsDrift B Stamps All, "stamps run 1,000 ppm fast";
    StampsThirtySlow B Stamps All, "stamps run 30 % slow";
    StampsFrozen B Stamps All, "every packet has the same stamp";
    StampsFrozenAWhile B Stamps All, "stamps stand still for 8 s";
    StampsJumpBack3s B Stamps All, "the camera's clock is set back 3 s once";
    StampsJumpOn3s B Stamps All, "the camera's clock is set forward 3 s once";
    StampsJumpOn10h B Stamps All, "the camera's clock is set forward 10 h once";
    StampsBack9800s B Stamps All, "the camera's clock is set back 9,800 s once";
    StampsOutlier B Stamps All, "one picture in 90 is stamped 10 h later";
    StampsPairs B Stamps All, "two pictures in a row share a stamp";
    StampsBackEachGop B Stamps All, "each key frame's stamp lies 200 ms before the picture in front of it";
    StampsReset B Stamps All, "stamps begin again at 0";
    StampsWrap B Stamps All, "stamps pass 2^32 after 5 s";
    StampsMillis B Stamps All, "stamps count milliseconds";
    StampsSeconds B Stamps All, "stamps count whole seconds";
    StampsJitter B Stamps All, "stamps are off by up to 20 ms";
    StampsRandom B Stamps All, "stamps are random";
    StampsReordered B Stamps All, "pictures with B-frames: stamps out of order by one picture";
    PreBuffer B Stamps All, "PLAY begins with 5 s of buffered pictures in a burst";
    SenderReports1970 B Stamps All, "Sender Reports are of 1970";
    SenderReportsHour B Stamps All, "the clock of the Sender Reports steps by an hour";
    // Kind C: sound.
    SoundRunaway C Sound All, "the sound's clock runs 5 % fast";
    SoundSlow C Sound All, "the sound's clock runs 5 % slow";
    SoundDrift C Sound All, "the sound's clock runs 1 % slow";
    RtptimeZero C Sound All, "RTP-Info says rtptime=0 for both tracks";
    SoundFrozen C Sound Pictures, "every sound packet has the same stamp";
    SoundJumpBack C Sound Pictures, "the sound's stamps go back 3 s once";
    SoundNinetyKilohertz C Sound Pictures, "the sound's stamps count 90 kHz";
    SoundLate C Sound All, "sound begins 5 s after the picture";
    SoundFirst C Sound All, "the SDP lists sound before the picture";
    SoundStops C Sound All, "sound ends after 10 s";
    SoundBursts C Sound All, "sound comes in bursts of a second";
    SoundSetupRefused C Sound Pictures, "SETUP of the sound is refused with 461";
    SoundSetupMissing C Sound Pictures, "SETUP of the sound is answered 404";
    SoundUnknownCodec C Sound Pictures, "the sound is G.726";
    SoundOpus C Sound Pictures, "the sound is Opus of a dynamic payload type";
    SoundAacPairs C Sound All, "AAC, two frames in each packet";
    SoundAacFragments C Sound All, "AAC frames in two fragments";
    SoundAacEmptyPacket C Sound Counted, "AAC packets without a payload between the others";
    // Kind D: hints of the protocol.
    TransportBlanks D Setup All, "blanks stand behind the semicolons of Transport";
    TransportBare D Setup All, "Transport has no interleaved parameter";
    TransportMissing D Setup All, "SETUP's answer has no Transport header";
    TransportCapitals D Setup All, "Transport is written in capitals, with unknown parameters";
    TransportOtherChannels D Setup All, "SETUP is answered with channels 6-7 and up";
    TransportOneChannel D Setup All, "SETUP names one channel, not two";
    SessionMoreParams D Setup All, "the Session header carries something behind the time-out";
    SessionTimeoutBroken D Setup All, "the Session header has `timeout=` without a number";
    SessionBlanks D Setup All, "the Session header has blanks around the semicolon";
    SessionLongId D Setup All, "the session id has 200 characters";
    SetupNoSession D Setup All, "SETUP's answer has no Session header";
    SessionChanges D Setup All, "each SETUP answers with another session id, the first is valid";
    SessionChangesLast D Setup Pictures, "each SETUP answers with another session id, the last is valid";
    SetupBusyOnce D Setup Gaps, "the first SETUP is answered 453: an old session is not over yet";
    Setup461 I Setup Fault("udp"), "the camera offers RTP over UDP only";
    ContentTypeCharset D Describe All, "Content-Type has a parameter";
    ContentTypeCapitals D Describe All, "Content-Type is `Application/SDP`";
    ContentTypeMissing D Describe All, "DESCRIBE's answer has no Content-Type";
    ContentBaseMissing D Describe All, "DESCRIBE's answer has no Content-Base";
    ContentBaseOther D Describe All, "Content-Base names another host";
    ContentBaseNoSlash D Describe All, "Content-Base has no slash at its end";
    LengthMissing D Describe All, "DESCRIBE's answer has no Content-Length and the connection stays open";
    LengthTooLong D Describe Either("incomplete"), "Content-Length counts two bytes too many";
    LengthTooShort D Describe All, "Content-Length counts two bytes too few";
    DescribeSlow D Describe All, "DESCRIBE is answered after 8 s";
    DescribeContinue D Describe All, "DESCRIBE is answered 100 Continue first";
    Redirect302 D Describe All, "DESCRIBE is answered 302 with a Location on the same host";
    RedirectRelative D Describe All, "DESCRIBE is answered 301 with a path as Location";
    RedirectLoop D Describe Fault("redirect"), "DESCRIBE is answered 302 for ever";
    RedirectAway D Describe Fault("10.9.8.7"), "DESCRIBE is answered 302 to another host";
    RedirectAwayWithLogin D Describe Fault("another host"), "the same, and the device has a login";
    DescribeHtml I Describe Fault(""), "DESCRIBE is answered with text/html; the URL has a password";
    UrlPassword I Describe All, "the URL has a password and is answered as asked";
    UrlPasswordMissing I Describe Fault("404"), "404 whose reason repeats the URL with its password";
    UrlPasswordAway I Describe Fault("10.9.8.7"), "302 to another host, with the URL's password in the Location";
    UrlPasswordRelative I Describe All, "302 to a path that has the URL's password";
    UrlPasswordControl I Describe All, "control attributes are absolute URLs with the URL's password";
    UrlPasswordSilent I Describe Either("incomplete"), "the URL has a password; Content-Length counts two bytes too many";
    ReasonHasPassword I Describe Fault("404"), "404 whose reason repeats the password of the login";
    HtmlHasPassword I Describe Fault("no media"), "DESCRIBE is answered with a page that repeats the password of the login";
    DescribeMissing D Describe Fault("404"), "DESCRIBE is answered 404";
    SdpH3c D Describe All, "o= and c= without their ends, metadata first, control URLs of another host";
    SdpNumbers D Describe All, "numbers of o= and t= are decimals, negative or hexadecimal";
    SdpNoOrigin D Describe All, "the SDP begins with m=";
    SdpLf D Describe All, "the SDP's lines end with LF";
    SdpBlanks D Describe All, "blanks stand behind each line of the SDP";
    SdpByteOrderMark D Describe All, "the SDP begins with a byte order mark";
    SdpControlAbsolute D Describe All, "control attributes are absolute URLs";
    SdpControlQuery D Describe All, "control attributes begin with `?`";
    SdpControlMissing D Describe All, "the SDP has no control attribute";
    SdpCapitals D Describe All, "the encoding name is in lower case, attributes have blanks behind the colon";
    SdpTwoVideos D Describe All, "a second video track, M-JPEG, stands behind the first";
    SdpBackChannel D Describe All, "a back channel for sound stands first";
    SdpLatin1 D Describe All, "s= has bytes of Latin-1";
    SdpNoVideo D Describe Fault("video"), "the SDP has sound alone";
    CseqZero D Form All, "every answer has CSeq 0";
    CseqMissing D Form All, "no answer has a CSeq";
    CseqPrevious D Form All, "every answer has the CSeq of the request before";
    StatusNoReason D Form All, "the status line has no reason";
    LinesLf D Form All, "lines end with LF";
    VersionTwo D Form All, "answers say RTSP/2.0";
    HeadersLower D Form All, "header names are in lower case, without a blank behind the colon";
    HeadersFolded D Form All, "long headers are folded";
    HeadersBroken D Form All, "a header line without a colon stands in each answer";
    HeadersMany D Form All, "each answer has 40 more headers";
    BlankLineFirst D Form All, "an empty line stands before each answer";
    AnswerTwice D Form All, "each answer is sent twice";
    CameraAsks D Form All, "the camera sends OPTIONS and ANNOUNCE of its own";
    RtpInfoBroken D Play All, "RTP-Info has no url=";
    RtpInfoMissing D Play All, "PLAY's answer has no RTP-Info";
    PlayNoRange D Play All, "PLAY with a Range is answered 457";
    PlayByTrack D Play All, "PLAY of the whole is answered 459";
    PlayUnanswered G Play All, "PLAY is never answered; media comes";
    PlayAnsweredLate D Play All, "media begins before PLAY is answered";
    PlaySlow D Play All, "PLAY is answered after 6 s";
    // Kind E: RTP headers.
    SsrcSetupWrong E Rtp All, "SETUP promises an SSRC and RTP has another";
    SsrcChangesMid E Rtp Counted, "the SSRC changes in the middle";
    SsrcEachPacket E Rtp Counted, "each packet has another SSRC";
    SeqBackMid E Rtp All, "the sequence numbers jump back once";
    SeqOnMid E Rtp All, "the sequence numbers jump forward by 20,000 once";
    SeqWrap E Rtp All, "the sequence numbers pass 2^16";
    SeqConstant E Rtp Counted, "every sequence number is 0";
    SeqRandom E Rtp Counted, "the sequence numbers are random";
    PacketsMissing E Rtp Counted, "the camera itself leaves out a packet every 3 s";
    PayloadTypeChanges E Rtp Counted, "the payload type changes in the middle";
    PayloadTypeOther E Rtp Counted, "RTP has another payload type than the SDP";
    WrongChannel E Rtp All, "media comes on channel 8 although SETUP said 0";
    OddChannel E Rtp All, "media comes on the channel of its RTCP";
    StrayChannel E Rtp All, "frames on channel 200 stand between the others";
    RtpPadding E Rtp All, "packets are padded";
    RtpExtension E Rtp All, "packets have a header extension and two CSRCs";
    RtcpOnDataChannel E Rtp All, "Sender Reports come on the channel of the media";
    NoReports E Rtp All, "no Sender Report comes";
    ByeMidStream E Rtp All, "RTCP BYE in the middle; media goes on";
    PacketsTwice E Rtp All, "each packet is sent twice";
    PacketsLastAgain E Rtp All, "the last 20 packets are sent again, 60 packets on";
    PictureAgain E Rtp All, "each picture is sent again as a whole";
    GopAgain E Rtp All, "after a stall of 3 s the GOP before it is sent again";
    PacketsThrice E Rtp All, "each packet is sent again twice, 7 packets later";
    ChannelsSwapped E Rtp All, "the picture comes on the channel of the sound, the sound on that of the picture";
    ChannelsSwapMid E Rtp Counted, "the channels of picture and sound are swapped in the middle";
    ChannelShared E Rtp All, "picture and sound come on the channel of the picture";
    TinyPackets E Rtp All, "packets of 3 bytes and reports cut short stand between the others";
    GarbageBeforeFrame E Rtp All, "some bytes of garbage stand before an interleaved frame";
    // Kind F: what a picture is.
    MarkEveryPacket F Unit All, "every packet has the marker bit";
    MarkNever F Unit All, "no packet has the marker bit";
    MarkOnSei F Unit All, "an SEI with the marker bit stands in front of each picture, with its stamp";
    SeiOnlyUnits F Unit All, "units that hold an SEI or AUD alone, with stamps of their own";
    SeiAfterPicture F Unit All, "behind each picture two SEI with its stamp and the marker bit";
    AudBeforeEach F Unit All, "an AUD stands before each picture";
    FuChangesType F Unit All, "later fragments name another NAL type";
    FuEmpty F Unit All, "fragments without content stand between the others";
    FuStartAndEnd F Unit All, "small NAL units are sent as one fragment with start and end";
    Aggregated F Unit All, "parameter sets and small slices come in aggregation packets";
    AnnexBInPayload F Unit All, "NAL units begin with a start code";
    AnnexBWhole F Unit All, "a packet holds NAL units parted by start codes";
    SetsInBandOnly F Unit All, "the SDP has no parameter sets";
    SetsOutOfBandOnly F Unit All, "parameter sets stand in the SDP alone";
    SetsEachPicture F Unit All, "parameter sets stand before each picture";
    SetsChange F Unit All, "parameter sets change every 2 s";
    SetsOwnUnit F Unit All, "parameter sets come as a unit of their own, with marker and stamp";
    SpropBroken F Unit All, "the parameter sets of the SDP are cut off";
    MultiSlice F Unit All, "pictures have four slices";
    RecoveryPoint F Unit All, "no IDR: recovery points begin a GOP";
    NoKeyFrames F Unit Counted, "no IDR and no recovery point; I slices alone";
    GopOfOne F Unit All, "every picture is a key frame";
    GopOfMinute F Unit Gaps, "a GOP lasts 60 s";
    BigKeyFrame F Unit All, "key frames have 700 KB";
    ZeroLengthNal F Unit Counted, "packets without a payload and aggregates with an empty unit";
    IllegalNal F Unit Counted, "NAL units of forbidden types stand between the pictures";
    FillerBehind F Unit All, "filler data stands behind each picture";
    OtherCodec F Unit Either("codec"), "the stream has the other codec than the SDP says";
    // Kind G: signs of life.
    KeepAliveSilent G Life All, "no request is answered once media plays; the time-out is 20 s";
    KeepAlive400 G Life All, "keep-alives are answered 400 with the previous CSeq";
    KeepAlive454 G Life All, "keep-alives are answered 454; the media goes on";
    KeepAlive501 G Life All, "GET_PARAMETER and SET_PARAMETER are answered 501; a session without requests ends after 20 s";
    KeepAlive401 G Life All, "keep-alives are answered 401 without a challenge";
    KeepAliveLate G Life All, "keep-alives are answered after 9 s";
    TimeoutStrict G Life All, "a session without requests ends after 10 s, as its time-out says";
    TimeoutZero G Life All, "the Session header says timeout=0";
    TimeoutHuge G Life All, "the Session header says timeout=99999999999";
    EofAfterPlay G Life Gaps, "the first two sessions end right after PLAY";
    ClosesMidGop G Life Gaps, "the camera closes in the middle of a GOP after 20 s";
    HalfOpen G Life Gaps, "after 15 s of the first session nothing comes any more";
    ByeAndClose G Life Gaps, "RTCP BYE and the end of the connection after 20 s";
    RebootsOnce G Life Gaps, "the camera is gone for 10 s in the middle";
    FramesAgain G Life Gaps, "the camera closes after 20 s; a new session begins with the latest GOP once more";
    TeardownSilent G Life All, "TEARDOWN is never answered";
    // Kind J: the world around.
    OneClientSlowClose J Link Gaps, "room for one connection, and a second until it notices that one has gone";
    RefusedAtFirst J Link Gaps, "the first three connections are refused";
    SilentAtFirst J Link Gaps, "the first connection is accepted and never answered";
    OneByteAtATime J Link All, "bytes arrive one at a time";
    SplitAnywhere J Link All, "the bytes are split anywhere";
    Coalesced J Link All, "bytes arrive in lumps of half a second";
    FreezeTenSeconds J Link All, "the network stands still for 10 s, then all comes at once";
    FreezeThirtySeconds J Link Gaps, "the network stands still for 30 s, then all comes at once";
    UdpPlain J Link All, "RTP over UDP";
    UdpReorder J Link All, "UDP: one packet in seven arrives behind its neighbour";
    UdpReorderFar J Link All, "UDP: packets are up to 80 ms late, each by its own time";
    UdpShuffled J Link All, "UDP: packets arrive in any order within 60 packets and 80 ms";
    UdpReorderBack J Link All, "UDP: each eight packets arrive in reversed order";
    UdpTwice J Link All, "UDP: one packet in five arrives twice";
    UdpEachTwice J Link All, "UDP: each packet arrives twice";
    UdpCopyLate J Link All, "UDP: one packet in ten arrives again after 250 ms";
    UdpLastAgain J Link All, "UDP: the last 20 packets arrive again, 60 packets on";
    UdpPictureAgain J Link All, "UDP: each picture arrives again as a whole";
    UdpGopAgain J Link All, "UDP: after a stall of 3 s the GOP before it arrives again";
    UdpLoss J Link Counted, "UDP: one packet in 200 is lost";
    UdpLate J Link All, "UDP: one packet in 100 arrives 60 ms late";
    UdpTransportBare J Link All, "UDP: the Transport header has no server_port";
}

impl CameraQuirk {
    /// RTP comes over UDP.
    pub(crate) fn is_udp(self) -> bool {
        let repeated = matches!(
            self,
            UdpTwice | UdpEachTwice | UdpCopyLate | UdpLastAgain | UdpPictureAgain | UdpGopAgain
        );
        let moved = matches!(self, UdpReorder | UdpReorderFar | UdpReorderBack)
            || matches!(self, UdpShuffled | UdpLate);
        repeated || moved || matches!(self, UdpPlain | UdpLoss | UdpTransportBare)
    }

    /// The URL of the stream has a password in its path.
    pub(crate) fn has_url_password(self) -> bool {
        matches!(self, DescribeHtml | UrlPassword | UrlPasswordMissing | UrlPasswordAway)
            || matches!(self, UrlPasswordRelative | UrlPasswordControl | UrlPasswordSilent)
    }

    /// The device has a login although the camera's challenge is not bent.
    pub(crate) fn needs_login(self) -> bool {
        matches!(self, RedirectAwayWithLogin | ReasonHasPassword | HtmlHasPassword)
    }

    /// The quirk needs sound.
    pub(crate) fn needs_sound(self) -> bool {
        self.group() == Group::Sound
            || matches!(self, SessionChanges | SessionChangesLast)
            || matches!(self, ChannelsSwapped | ChannelsSwapMid | ChannelShared)
    }
}
