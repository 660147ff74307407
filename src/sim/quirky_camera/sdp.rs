//! The SDP of the quirky camera.

use super::footage::{Footage, Sound, Video, sets};
use super::quirks::CameraQuirk::{self, *};
use crate::units::{base64, hex};

/// The URL of the stream at the camera, which has no password.
pub(super) const BASE: &str = "rtsp://camera.test/cam";

/// The description of the stream. `control` is the URL that DESCRIBE asked for.
pub(super) fn description(
    has: impl Fn(CameraQuirk) -> bool,
    footage: &Footage,
    asked: &str,
) -> Vec<u8> {
    let mut lines: Vec<String> = match () {
        () if has(SdpNoOrigin) => Vec::new(),
        () if has(SdpH3c) => {
            let head = "v=0|o=- 1001 1 IN|s=VCP IPC Realtime stream|m=application 0 RTP/AVP 107|c=IN|\
                a=control:rtsp://192.168.0.60/media/video1/metadata|\
                a=rtpmap:107 vnd.onvif.metadata/90000|a=recvonly";
            head.split('|').map(str::to_owned).collect()
        }
        () => {
            let origin =
                if has(SdpNumbers) { "1698143674.978737 -8959200248001175080" } else { "1 1" };
            let time = if has(SdpNumbers) { "2EC08200" } else { "0" };
            vec![
                "v=0".into(),
                format!("o=- {origin} IN IP4 192.0.2.7"),
                "s=cam".into(),
                "c=IN IP4 0.0.0.0".into(),
                format!("t=0 {time}"),
                "a=control:*".into(),
            ]
        }
    };
    if has(SdpControlMissing) {
        lines.retain(|line| line != "a=control:*");
    }
    let (video, sound) = (video(&has, footage, asked), sound(&has, footage.sound, asked));
    if has(SdpBackChannel) {
        lines.extend(
            ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendonly", "a=control:track4"]
                .map(String::from),
        );
    }
    match () {
        () if has(SdpNoVideo) => lines.extend(sound),
        () if has(SoundFirst) => lines.extend(sound.into_iter().chain(video)),
        () => lines.extend(video.into_iter().chain(sound)),
    }
    if has(SdpTwoVideos) {
        lines.extend(["m=video 0 RTP/AVP 26", "a=control:track3"].map(String::from));
    }
    let end = match () {
        () if has(SdpLf) => "\n",
        () if has(SdpBlanks) => "  \t\r\n",
        () => "\r\n",
    };
    let mut out = if has(SdpByteOrderMark) { vec![0xef, 0xbb, 0xbf] } else { Vec::new() };
    for line in lines {
        if has(SdpLatin1) && line.starts_with("s=") {
            out.extend(b"s=Stra\xdfe \xa7");
        } else {
            out.extend(line.bytes());
        }
        out.extend(end.bytes());
    }
    out
}

fn control(has: &impl Fn(CameraQuirk) -> bool, track: &str, asked: &str) -> Option<String> {
    let url = match () {
        () if has(SdpControlMissing) => return None,
        () if has(SdpH3c) => format!("rtsp://192.168.0.60/media/video1/{track}"),
        () if has(SdpControlAbsolute) || has(UrlPasswordControl) => format!("{asked}/{track}"),
        () if has(SdpControlQuery) => format!("?id={track}"),
        () => track.to_owned(),
    };
    let blank = if has(SdpCapitals) { " " } else { "" };
    Some(format!("a=control:{blank}{url}"))
}

fn video(has: &impl Fn(CameraQuirk) -> bool, footage: &Footage, asked: &str) -> Vec<String> {
    let codec = match (has(OtherCodec), footage.video) {
        (false, codec) => codec,
        (true, Video::H264) => Video::H265,
        (true, Video::H265) => Video::H264,
    };
    let sets: Vec<String> = sets(codec, 0).iter().map(|set| base64(set)).collect();
    let cut = |set: &String| if has(SpropBroken) { set[..6].to_owned() } else { set.clone() };
    let sets: Vec<String> = sets.iter().map(cut).collect();
    let blank = if has(SdpCapitals) { " " } else { "" };
    let (name, fmtp) = match codec {
        Video::H264 => {
            ("H264", format!("packetization-mode=1;sprop-parameter-sets={}", sets.join(",")))
        }
        Video::H265 => {
            ("H265", format!("sprop-vps={};sprop-sps={};sprop-pps={}", sets[0], sets[1], sets[2]))
        }
    };
    let name = if has(SdpCapitals) { name.to_lowercase() } else { name.to_owned() };
    let mut lines =
        vec!["m=video 0 RTP/AVP 96".to_owned(), format!("a=rtpmap:{blank}96 {name}/90000")];
    if !has(SetsInBandOnly) {
        lines.push(format!("a=fmtp:{blank}96 {fmtp}"));
    } else if codec == Video::H264 {
        lines.push("a=fmtp:96 packetization-mode=1".into());
    }
    lines.extend(control(has, "track1", asked));
    lines
}

fn sound(has: &impl Fn(CameraQuirk) -> bool, sound: Sound, asked: &str) -> Vec<String> {
    let mut lines: Vec<String> = match (has(SoundUnknownCodec), has(SoundOpus), sound) {
        (_, _, Sound::None) => return Vec::new(),
        (true, ..) => vec!["m=audio 0 RTP/AVP 98".into(), "a=rtpmap:98 G726-32/8000".into()],
        (_, true, _) => vec!["m=audio 0 RTP/AVP 98".into(), "a=rtpmap:98 opus/48000/2".into()],
        (.., Sound::Pcmu) => vec!["m=audio 0 RTP/AVP 0".into(), "a=rtpmap:0 PCMU/8000".into()],
        // A static payload type needs no rtpmap (RFC 3551 6).
        (.., Sound::Pcma) => vec!["m=audio 0 RTP/AVP 8".into()],
        (.., Sound::Aac) => vec![
            "m=audio 0 RTP/AVP 97".into(),
            "a=rtpmap:97 MPEG4-GENERIC/16000/1".into(),
            format!(
                "a=fmtp:97 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;\
                 indexdeltalength=3;config={}",
                hex(&[0x14, 0x08])
            ),
        ],
    };
    lines.extend(control(has, "track2", asked));
    lines
}
