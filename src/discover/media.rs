//! The ONVIF Media services 1 and 2: profiles, addresses of streams, and which profile is main and which sub.

use super::device::{Question, question};
use super::short;
use super::xml::{Element, escaped};

const FIRST: &str = "http://www.onvif.org/ver10/media/wsdl";
const SECOND: &str = "http://www.onvif.org/ver20/media/wsdl";
const SCHEMA: &str = "http://www.onvif.org/ver10/schema";
/// Profiles of a device that are read at most: a recorder with 64 channels has two for each.
pub const PROFILES_MAX: usize = 128;
/// Video sources of a device at most.
pub const SOURCES_MAX: usize = 16;
/// Characters of a token at most; ONVIF allows 64.
const TOKEN_MAX: usize = 256;
/// Pixels of the sub-stream that analysis needs: 640 x 360.
const SUB_PIXELS: f64 = 640.0 * 360.0;

/// Which Media service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Media 1 (`ver10`).
    First,
    /// Media 2 (`ver20`).
    Second,
}

/// All profiles.
pub fn ask_profiles(version: Version) -> Question {
    match version {
        Version::First => question(FIRST, "GetProfiles", ""),
        Version::Second => {
            question(SECOND, "GetProfiles", "<Type>VideoSource</Type><Type>VideoEncoder</Type>")
        }
    }
}

/// The address of a profile's stream.
pub fn ask_uri(version: Version, token: &str) -> Question {
    let token = escaped(token);
    match version {
        Version::First => question(
            FIRST,
            "GetStreamUri",
            &format!(
                "<StreamSetup><Stream xmlns=\"{SCHEMA}\">RTP-Unicast</Stream><Transport xmlns=\"{SCHEMA}\">\
                 <Protocol>RTSP</Protocol></Transport></StreamSetup><ProfileToken>{token}</ProfileToken>"
            ),
        ),
        Version::Second => question(
            SECOND,
            "GetStreamUri",
            &format!("<Protocol>RTSP</Protocol><ProfileToken>{token}</ProfileToken>"),
        ),
    }
}

/// Reads the answer to [`ask_uri`] of either version.
pub fn uri(answer: &Element) -> Option<&str> {
    answer.text_at(&["MediaUri", "Uri"]).or_else(|| answer.text_at(&["Uri"]))
}

/// How pictures are coded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coding {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// Another one, which is not recorded: JPEG, MPEG-4.
    Other(String),
}

impl Coding {
    /// The name in tables and JSON.
    pub fn as_str(&self) -> &str {
        match self {
            Coding::H264 => "H.264",
            Coding::H265 => "H.265",
            Coding::Other(name) => name,
        }
    }
}

/// The encoder of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// How pictures are coded.
    pub coding: Coding,
    /// Width and height; 0 where the camera does not say.
    pub size: (u32, u32),
    /// Pictures a second.
    pub rate: Option<f64>,
    /// Kilobits a second at most.
    pub kilobits: Option<u32>,
    /// Pictures from key frame to key frame.
    pub gop: Option<u32>,
    /// Its names speak of a "smart codec": H.264+, H.265+, Zipstream and the like.
    pub smart: bool,
}

/// A profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The key for further questions.
    pub token: String,
    /// Its name for people.
    pub name: String,
    /// The video source (lens, channel of a recorder).
    pub source: String,
    /// The encoder; `None` for profiles of sound or metadata alone.
    pub encoder: Option<Encoder>,
}

/// Reads the answer to [`ask_profiles`] of either version. Profiles without a usable token are passed over.
pub fn profiles(answer: &Element) -> Vec<Profile> {
    let found = answer.all("Profiles").filter_map(profile);
    found.take(PROFILES_MAX).collect()
}

fn profile(element: &Element) -> Option<Profile> {
    let token = element.attribute("token").filter(|token| !token.is_empty())?;
    if token.chars().count() > TOKEN_MAX || token.contains(char::is_control) {
        return None;
    }
    // Media 2 has its configurations one level deeper, with other names.
    let second = element.child("Configurations");
    let (source, encoder) = match second {
        Some(inner) => (inner.child("VideoSource"), inner.child("VideoEncoder")),
        None => {
            (element.child("VideoSourceConfiguration"), element.child("VideoEncoderConfiguration"))
        }
    };
    Some(Profile {
        token: token.to_owned(),
        name: short(element.text_at(&["Name"]).unwrap_or(token)),
        source: short(
            source.and_then(|source| source.text_at(&["SourceToken"])).unwrap_or_default(),
        ),
        encoder: encoder.map(|encoder| self::encoder(encoder, &short(token))),
    })
}

fn encoder(element: &Element, token: &str) -> Encoder {
    let named = element.text_at(&["Encoding"]).unwrap_or("unknown");
    let plain: String = named.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_uppercase();
    let coding = match plain.as_str() {
        text if text.contains("H264") || text == "AVC" => Coding::H264,
        text if text.contains("H265") || text.contains("HEVC") => Coding::H265,
        _ => Coding::Other(short(named)),
    };
    let whole = |path: &[&str]| {
        let number = element.number_at(path)?;
        (0.0..1e9).contains(&number).then_some(number as u32)
    };
    let gop = whole(&["H264", "GovLength"])
        .or_else(|| whole(&["H265", "GovLength"]))
        .or_else(|| element.attribute("GovLength")?.parse().ok());
    let interval = element.number_at(&["RateControl", "EncodingInterval"]).filter(|n| *n >= 1.0);
    let rate =
        element.number_at(&["RateControl", "FrameRateLimit"]).filter(|n| (0.1..1e3).contains(n));
    let names = [named, element.text_at(&["Name"]).unwrap_or_default(), token].join(" ");
    Encoder {
        coding,
        size: (
            whole(&["Resolution", "Width"]).unwrap_or(0),
            whole(&["Resolution", "Height"]).unwrap_or(0),
        ),
        rate: rate.map(|rate| rate / interval.unwrap_or(1.0)),
        kilobits: whole(&["RateControl", "BitrateLimit"]).filter(|number| *number > 0),
        gop: gop.filter(|number| *number > 0),
        smart: is_smart(&names),
    }
}

/// Names of codings that leave out key frames or pictures.
fn is_smart(names: &str) -> bool {
    let names = names.to_ascii_lowercase();
    ["h264+", "h265+", "h.264+", "h.265+", "smart", "zipstream", "u-code", "ucode", "lightstream"]
        .iter()
        .any(|word| names.contains(word))
}

impl Encoder {
    fn pixels(&self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1)
    }

    fn is_recorded(&self) -> bool {
        matches!(self.coding, Coding::H264 | Coding::H265)
    }

    /// Seconds from key frame to key frame.
    pub fn gop_seconds(&self) -> Option<f64> {
        Some(f64::from(self.gop?) / self.rate?)
    }
}

/// Takes coding, rate and GOP of Media 2 for profiles of Media 1: the older service has no word for H.265, and some cameras call it
/// H.264 there.
pub fn overlay(first: &mut [Profile], second: &[Profile]) {
    for profile in first {
        let other = second.iter().find(|other| other.token == profile.token);
        if let Some(encoder) = other.and_then(|other| other.encoder.clone()) {
            profile.encoder = Some(encoder);
        }
    }
}

/// The profiles of one video source that are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The video source.
    pub source: String,
    /// The profile to record.
    pub main: Profile,
    /// The profile to analyse.
    pub sub: Option<Profile>,
}

/// For each video source: main is the largest picture (then the higher bit rate, then the first), sub the one nearest to
/// 640 x 360 that is smaller than main; H.264 is preferred for it, because decoding H.265 costs more.
pub fn choose(profiles: &[Profile]) -> Vec<Choice> {
    let mut sources: Vec<&str> = Vec::new();
    for profile in profiles.iter().filter(|profile| is_recorded(profile)) {
        if !sources.contains(&profile.source.as_str()) && sources.len() < SOURCES_MAX {
            sources.push(&profile.source);
        }
    }
    let choice = |source: &str| {
        let own: Vec<(&Profile, &Encoder)> = profiles
            .iter()
            .filter(|profile| profile.source == source && is_recorded(profile))
            .filter_map(|profile| Some((profile, profile.encoder.as_ref()?)))
            .collect();
        // `max_by_key` would take the last of equals.
        let main =
            own.iter().rev().max_by_key(|(_, encoder)| (encoder.pixels(), encoder.kilobits))?;
        let distance = |encoder: &Encoder| (encoder.pixels() as f64 / SUB_PIXELS).ln().abs();
        let sub = own
            .iter()
            .filter(|(_, encoder)| (1..main.1.pixels()).contains(&encoder.pixels()))
            .min_by(|(_, a), (_, b)| {
                let key = |encoder: &Encoder| (encoder.coding != Coding::H264, distance(encoder));
                let ((a_other, a_far), (b_other, b_far)) = (key(a), key(b));
                a_other.cmp(&b_other).then(a_far.total_cmp(&b_far))
            });
        Some(Choice {
            source: source.to_owned(),
            main: main.0.clone(),
            sub: sub.map(|(profile, _)| (*profile).clone()),
        })
    };
    sources.into_iter().filter_map(choice).collect()
}

fn is_recorded(profile: &Profile) -> bool {
    profile.encoder.as_ref().is_some_and(Encoder::is_recorded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::xml::parse;

    const FIRST_ANSWER: &str = "<R><t:Profiles token='p1' fixed='true'><t:Name>main &amp; big</t:Name>\
        <t:VideoSourceConfiguration token='v'><t:SourceToken>s1</t:SourceToken></t:VideoSourceConfiguration>\
        <t:VideoEncoderConfiguration token='e'><t:Name>H264+</t:Name><t:Encoding>H264</t:Encoding>\
        <t:Resolution><t:Width>1920</t:Width><t:Height>1080</t:Height></t:Resolution>\
        <t:RateControl><t:FrameRateLimit>25</t:FrameRateLimit><t:EncodingInterval>1</t:EncodingInterval>\
        <t:BitrateLimit>4096</t:BitrateLimit></t:RateControl><t:H264><t:GovLength>250</t:GovLength></t:H264>\
        </t:VideoEncoderConfiguration></t:Profiles><t:Profiles token=''/><t:Profiles token='audio'/></R>";
    const SECOND_ANSWER: &str = "<R><Profiles token='p1'><Name>x</Name><Configurations>\
        <VideoSource><SourceToken>s1</SourceToken></VideoSource><VideoEncoder GovLength='50'><Encoding>H265</Encoding>\
        <Resolution><Width>1920</Width><Height>1080</Height></Resolution><RateControl><FrameRateLimit>12.5</FrameRateLimit>\
        <BitrateLimit>2048</BitrateLimit></RateControl></VideoEncoder></Configurations></Profiles></R>";

    #[test]
    fn both_services_name_profiles_that_are_laid_over() {
        let mut first = profiles(&parse(FIRST_ANSWER.as_bytes()).unwrap());
        assert_eq!(first.len(), 2);
        let encoder = first[0].encoder.clone().unwrap();
        assert_eq!((encoder.size, encoder.gop_seconds()), ((1920, 1080), Some(10.0)));
        assert!(encoder.smart && encoder.coding == Coding::H264);
        assert_eq!((first[0].name.as_str(), first[0].source.as_str()), ("main & big", "s1"));
        let second = profiles(&parse(SECOND_ANSWER.as_bytes()).unwrap());
        overlay(&mut first, &second);
        let encoder = first[0].encoder.clone().unwrap();
        assert_eq!(
            (encoder.coding, encoder.gop, encoder.rate),
            (Coding::H265, Some(50), Some(12.5))
        );
    }

    fn made(token: &str, source: &str, size: (u32, u32), coding: Coding) -> Profile {
        let encoder = Encoder {
            coding,
            size,
            rate: Some(25.0),
            kilobits: Some(1),
            gop: Some(50),
            smart: false,
        };
        Profile {
            token: token.into(),
            name: token.into(),
            source: source.into(),
            encoder: Some(encoder),
        }
    }

    #[test]
    fn main_is_the_largest_and_sub_fits_analysis() {
        let jpeg = Coding::Other("JPEG".into());
        let all = [
            made("tiny", "1", (176, 144), Coding::H264),
            made("sub", "1", (704, 576), Coding::H264),
            made("main", "1", (2560, 1440), Coding::H265),
            made("again", "1", (2560, 1440), Coding::H265),
            made("near", "1", (640, 360), Coding::H265),
            made("jpeg", "1", (3840, 2160), jpeg.clone()),
            made("other", "2", (1280, 720), Coding::H264),
            made("only-jpeg", "3", (640, 480), jpeg),
        ];
        let chosen = choose(&all);
        let shown: Vec<_> = chosen
            .iter()
            .map(|c| (c.main.token.as_str(), c.sub.as_ref().map(|sub| sub.token.as_str())))
            .collect();
        assert_eq!(shown, [("main", Some("sub")), ("other", None)]);
    }

    #[test]
    fn a_token_cannot_leave_its_element() {
        let asked = ask_uri(Version::First, "a</ProfileToken><x>");
        let root = parse(asked.body.as_bytes()).unwrap();
        assert_eq!(root.text_at(&["ProfileToken"]), Some("a</ProfileToken><x>"));
    }

    #[test]
    fn many_profiles_and_sources_are_cut() {
        let many: Vec<Profile> = (0..500)
            .map(|i| made(&format!("{i}"), &format!("{i}"), (640, 480), Coding::H264))
            .collect();
        assert_eq!(choose(&many).len(), SOURCES_MAX);
        let text = format!("<R>{}</R>", "<Profiles token='x'/>".repeat(500));
        assert_eq!(profiles(&parse(text.as_bytes()).unwrap()).len(), PROFILES_MAX);
    }
}
