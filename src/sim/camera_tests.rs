//! The proofs with the quirky camera: each quirk by itself, pairs, seeded sessions, and faults of
//! the driver that must be noticed.

use super::camera_plan::{Plan, Sabotage};
use super::camera_session::run;
use super::camera_verdict::{Summary, expectation, judge};
use super::quirky_camera::footage::{Footage, Sound, Video};
use super::quirky_camera::quirks::CameraQuirk::{self, *};
use super::quirky_camera::quirks::{Expect, Group};
use super::rng::Rng;

/// Quirks that cannot stand together, beside those of one group.
const APART: [(CameraQuirk, CameraQuirk); 14] = [
    // More than 64 packets arrive before one of them.
    (UdpReorderFar, BigKeyFrame),
    (OneByteAtATime, BigKeyFrame),
    // No key frame would arrive whole.
    (UdpLoss, BigKeyFrame),
    (PacketsMissing, BigKeyFrame),
    (PlayByTrack, SdpControlMissing),
    (KeepAliveSilent, PlayUnanswered),
    (SdpControlMissing, SessionChanges),
    (SdpControlMissing, SessionChangesLast),
    (SdpNoVideo, SessionChanges),
    (SdpNoVideo, SessionChangesLast),
    (EofAfterPlay, PlayUnanswered),
    (HalfOpen, FreezeThirtySeconds),
    (RtpInfoMissing, RtptimeZero),
    // The burst brings more packets within 80 ms than the 64 that wait for one before them.
    (PreBuffer, UdpReorderFar),
];

fn apart(one: CameraQuirk, other: CameraQuirk) -> bool {
    let over_tcp = |quirk: CameraQuirk| {
        matches!(quirk.group(), Group::Setup)
            || matches!(quirk, WrongChannel | OddChannel | StrayChannel | GarbageBeforeFrame)
    };
    // Without sequence numbers the order of arrival is the only one, and loss is not seen.
    let ordered = |one: CameraQuirk, other: CameraQuirk| {
        let moved = matches!(one, UdpReorder | UdpReorderFar | UdpReorderBack | UdpShuffled)
            || matches!(one, UdpLate | UdpLoss);
        let repeated = matches!(one, UdpTwice | UdpEachTwice | UdpCopyLate | UdpLastAgain)
            || matches!(one, UdpPictureAgain | UdpGopAgain);
        moved && matches!(other, SeqRandom | SeqConstant) || repeated && other == SeqConstant
    };
    one.group() == other.group()
        || ordered(one, other)
        || ordered(other, one)
        || APART.contains(&(one, other))
        || APART.contains(&(other, one))
        || one.is_udp() && over_tcp(other)
        || other.is_udp() && over_tcp(one)
        || one == SdpControlMissing && other.needs_sound()
        || other == SdpControlMissing && one.needs_sound()
}

/// A plan with what these quirks need; the rest is drawn from the seed.
fn plan(seed: u64, quirks: &[CameraQuirk], seconds: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let has = |quirk: CameraQuirk| quirks.contains(&quirk);
    let video = if rng.one_in(2) { Video::H264 } else { Video::H265 };
    let video = if has(NoKeyFrames) { Video::H264 } else { video };
    let sound = [Sound::None, Sound::Pcmu, Sound::Pcma, Sound::Aac][rng.below(4) as usize];
    let sound = match () {
        () if has(SoundAacPairs) || has(SoundAacFragments) || has(SoundAacEmptyPacket) => {
            Sound::Aac
        }
        () if has(SdpControlMissing) => Sound::None,
        () if has(SdpNoVideo) || quirks.iter().any(|quirk| quirk.needs_sound()) => {
            if sound == Sound::None { Sound::Pcmu } else { sound }
        }
        () => sound,
    };
    let fps = if has(StampsFast) { 20 } else { 10 };
    let footage = Footage { video, sound, fps, gop: 2 * fps };
    Plan { seed, quirks: quirks.to_vec(), footage, seconds, sabotage: None }
}

/// Seconds that a quirk needs to show.
fn seconds_of(quirks: &[CameraQuirk]) -> u64 {
    let long = |quirk: &CameraQuirk| {
        matches!(quirk.group(), Group::Stamps)
            || matches!(quirk, SoundRunaway | SoundSlow | SoundDrift | GopOfMinute)
            || matches!(quirk, UnauthorizedThrice | UnauthorizedTwice | WrongPassword)
            || matches!(quirk, FreezeThirtySeconds | HalfOpen | SilentAtFirst)
    };
    if quirks.iter().any(long) { 100 } else { 45 }
}

fn judged(plan: Plan) -> Result<Summary, String> {
    let (record, camera) = run(plan.clone());
    judge(&plan, &record, &camera)
}

/// Runs the plans and panics with all that went wrong.
fn all_pass(plans: Vec<Plan>) {
    let threads = if plans.len() > 200 { 2 } else { 1 };
    let part = plans.len().div_ceil(threads).max(1);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            plans.chunks(part).map(|plans| scope.spawn(move || failures(plans))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

fn failures(plans: &[Plan]) -> Vec<String> {
    let of = |plan: &Plan| {
        let name = format!("seed {} {:?} {:?}", plan.seed, plan.quirks, plan.footage);
        let failed = judged(plan.clone()).err().map(|why| format!("{name}: {why}"));
        if let Some(failed) = &failed {
            eprintln!("{failed}");
        }
        failed
    };
    plans.iter().filter_map(of).collect()
}

fn of_kind(kind: &str) {
    let quirks = CameraQuirk::ALL.iter().filter(|quirk| quirk.kind() == kind);
    all_pass(
        quirks.map(|quirk| plan(1 + *quirk as u64, &[*quirk], seconds_of(&[*quirk]))).collect(),
    );
}

#[test]
fn a_camera_without_quirks_is_recorded_whole() {
    all_pass((1..9).map(|seed| plan(seed, &[], 60)).collect());
}

#[test]
fn kind_a_refusals_that_are_none() {
    of_kind("A");
}

#[test]
fn kind_b_media_time() {
    of_kind("B");
}

#[test]
fn kind_c_sound() {
    of_kind("C");
}

#[test]
fn kind_d_hints_of_the_protocol() {
    of_kind("D");
}

#[test]
fn kind_e_rtp_headers() {
    of_kind("E");
}

#[test]
fn kind_f_what_a_picture_is() {
    of_kind("F");
}

#[test]
fn kind_g_signs_of_life() {
    of_kind("G");
}

#[test]
fn kind_i_configuration() {
    of_kind("I");
}

#[test]
fn kind_j_the_world_around() {
    of_kind("J");
}

/// Pairs of quirks, each with a row in docs/camera-quirks.md.
const PAIRS: [[CameraQuirk; 2]; 29] = [
    [NonceRotates, SdpH3c],
    [AuthInt, CseqZero],
    [RealmUtf8, LinesLf],
    [DigestSha256Sess, SplitAnywhere],
    [StaleUpperCase, KeepAlive501],
    [StampsFast, MarkEveryPacket],
    [StampsFrozen, SeiOnlyUnits],
    [StampsPairs, MarkNever],
    [StampsJumpBack3s, ClosesMidGop],
    [StampsBackEachGop, SoundRunaway],
    [RtptimeZero, SsrcSetupWrong],
    [SoundSlow, KeepAliveSilent],
    [SessionChanges, StatusNoReason],
    [TransportBlanks, WrongChannel],
    [Redirect302, OneClientSlowClose],
    [SeqBackMid, SetsChange],
    [UdpReorder, MultiSlice],
    [UdpLoss, FuChangesType],
    [PlayUnanswered, SetsInBandOnly],
    [PreBuffer, FuEmpty],
    [PacketsTwice, SetsOwnUnit],
    [PictureAgain, StampsFrozen],
    [PacketsLastAgain, SplitAnywhere],
    [ChannelsSwapped, SoundRunaway],
    [ChannelShared, SoundAacPairs],
    [FramesAgain, StampsFast],
    [UdpGopAgain, MarkNever],
    [UdpShuffled, MultiSlice],
    [UdpReorderFar, StampsPairs],
];

#[test]
fn pairs_of_quirks_are_recorded_or_named() {
    for [one, other] in PAIRS {
        assert!(!apart(one, other), "{one:?} and {other:?} bend the same place");
    }
    all_pass(PAIRS.iter().map(|pair| plan(11, pair, seconds_of(pair))).collect());
}

#[test]
fn repeated_and_reordered_packets_of_large_pictures() {
    let repeats = [
        PacketsTwice,
        PacketsLastAgain,
        PictureAgain,
        GopAgain,
        PacketsThrice,
        UdpEachTwice,
        UdpCopyLate,
        UdpLastAgain,
        UdpPictureAgain,
        UdpGopAgain,
        UdpReorder,
        UdpShuffled,
        UdpReorderBack,
    ];
    let of = |quirk: &CameraQuirk| [1, 2].map(|seed| plan(seed, &[*quirk, BigKeyFrame], 30));
    all_pass(repeats.iter().flat_map(of).collect());
}

/// One to three quirks that can stand together.
fn drawn(seed: u64) -> Vec<CameraQuirk> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let wanted = 1 + rng.below(3) as usize;
    let mut quirks: Vec<CameraQuirk> = Vec::new();
    while quirks.len() < wanted {
        let next = CameraQuirk::ALL[rng.below(CameraQuirk::ALL.len() as u64) as usize];
        if quirks.iter().all(|quirk| !apart(*quirk, next)) {
            quirks.push(next);
        }
    }
    quirks
}

/// The quirks of the environment variable `TAIMAT_CAMERA_QUIRKS`, or those drawn from the seed.
fn quirks_of(seed: u64) -> Vec<CameraQuirk> {
    let Ok(names) = std::env::var("TAIMAT_CAMERA_QUIRKS") else { return drawn(seed) };
    let named = |name: &str| {
        let found = CameraQuirk::ALL.iter().find(|quirk| format!("{quirk:?}") == name.trim());
        *found.unwrap_or_else(|| panic!("no quirk is named {name}"))
    };
    names.split(',').map(named).collect()
}

fn differential(seeds: std::ops::Range<u64>) {
    let of = |seed: u64| {
        let quirks = quirks_of(seed);
        plan(seed, &quirks, seconds_of(&quirks))
    };
    all_pass(seeds.map(of).collect());
}

/// Each quirk with each codec and sound that three seeds draw.
#[test]
#[ignore = "long: each quirk three times; tests/run --full runs it"]
fn every_quirk_with_three_seeds() {
    let of = |quirk: &CameraQuirk| [1, 2, 3].map(|seed| plan(seed, &[*quirk], 120));
    all_pass(CameraQuirk::ALL.iter().flat_map(of).collect());
}

#[test]
fn a_hundred_seeded_sessions_are_recorded_or_named() {
    differential(0..100);
}

/// `TAIMAT_CAMERA_SEEDS=N` runs the session of that seed, `N..M` those from N to M - 1;
/// `TAIMAT_CAMERA_QUIRKS=NAME,NAME` gives them these quirks instead of those drawn from the seed.
#[test]
#[ignore = "long: 2,000 sessions; tests/run --full runs it"]
fn two_thousand_seeded_sessions_are_recorded_or_named() {
    let text = std::env::var("TAIMAT_CAMERA_SEEDS").unwrap_or("0..2000".into());
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match text.split_once("..") {
        Some((from, to)) => differential(number(from)..number(to)),
        None => differential(number(&text)..number(&text) + 1),
    }
}

#[test]
fn faults_of_the_driver_are_noticed() {
    for (sabotage, word) in [
        (Sabotage::DropPicture, "missing without a count"),
        (Sabotage::FlipByte, "not what was sent"),
        (Sabotage::DropSound, "sound frame"),
        (Sabotage::Twice, "is recorded after"),
        (Sabotage::Date, "dated"),
        (Sabotage::Chatter, "lines of log"),
    ] {
        let mut plan = plan(2, &[SoundFirst], 30);
        plan.sabotage = Some(sabotage);
        let found = judged(plan).expect_err("a fault of the driver is not noticed");
        assert!(found.contains(word), "{sabotage:?}: {found}");
    }
}

/// The document with what happened with each quirk.
const DOCUMENT: &str = include_str!("../../docs/camera-quirks.md");

#[test]
fn the_document_has_a_row_for_each_quirk_and_pair() {
    for quirk in CameraQuirk::ALL {
        let row = format!("| {} | {quirk:?} | {} | ", quirk.kind(), quirk.what());
        assert!(DOCUMENT.contains(&row), "docs/camera-quirks.md lacks {row}");
    }
    for [one, other] in PAIRS {
        let row = format!("| {one:?} | {other:?} | ");
        assert!(DOCUMENT.contains(&row), "docs/camera-quirks.md lacks {row}");
    }
    assert!(!DOCUMENT.contains("FAILED"), "a row of docs/camera-quirks.md failed");
}

#[test]
fn no_kind_loses_quirks() {
    let all = CameraQuirk::ALL;
    let count = |kind: &str| all.iter().filter(|quirk| quirk.kind() == kind).count();
    let least = [
        ("A", 28),
        ("B", 23),
        ("C", 18),
        ("D", 65),
        ("E", 29),
        ("F", 28),
        ("G", 17),
        ("I", 10),
        ("J", 22),
    ];
    for (kind, least) in least {
        assert!(count(kind) >= least, "{kind}: {} quirks, were {least}", count(kind));
    }
}

/// What happened in a session of this plan, in words.
fn happened(plan: Plan) -> String {
    let expect = expectation(&plan.quirks);
    match judged(plan) {
        Ok(summary) => in_words(expect, &summary),
        Err(why) => format!("FAILED: {why}"),
    }
}

/// Prints the tables of quirks and pairs:
/// `cargo test --lib table_of_quirks -- --ignored --nocapture`. With
/// `TAIMAT_CAMERA_QUIRK=NAME,NAME` it prints the rows of these quirks alone.
#[test]
#[ignore = "prints two tables"]
fn table_of_quirks() {
    println!("| kind | quirk | what the camera does | what happens |");
    println!("|---|---|---|---|");
    let only = std::env::var("TAIMAT_CAMERA_QUIRK").ok();
    let wanted = |quirk: &&CameraQuirk| {
        only.as_ref().is_none_or(|only| only.split(',').any(|name| name == format!("{quirk:?}")))
    };
    let mut quirks: Vec<CameraQuirk> = CameraQuirk::ALL.iter().filter(wanted).copied().collect();
    quirks.sort_by_key(|quirk| quirk.kind());
    for quirk in quirks {
        let happened = happened(plan(1, &[quirk], seconds_of(&[quirk])));
        println!("| {} | {quirk:?} | {} | {happened} |", quirk.kind(), quirk.what());
    }
    if only.is_some() {
        return;
    }
    println!("\n| quirk | with | what happens |");
    println!("|---|---|---|");
    for pair in PAIRS {
        let happened = happened(plan(11, &pair, seconds_of(&pair)));
        println!("| {:?} | {:?} | {happened} |", pair[0], pair[1]);
    }
}

/// A summary in words.
fn in_words(expect: Expect, summary: &Summary) -> String {
    if summary.recorded == 0 {
        return format!("nothing recorded: {}", summary.fault.clone().unwrap_or_default());
    }
    let mut words = format!("{} of {} pictures", summary.recorded, summary.sent);
    if summary.sound_sent > 0 {
        words += &format!(", {} of {} sound frames", summary.sound_recorded, summary.sound_sent);
    }
    if summary.named_missing > 0 || expect == Expect::Gaps {
        words += &format!(
            ", {} missing and counted, {} sessions",
            summary.named_missing, summary.sessions
        );
    }
    words += &format!("; dated within {} ms", summary.date_error / 1000);
    if !summary.quirks.is_empty() {
        words += &format!("; quirks {}", summary.quirks);
    }
    words
}
