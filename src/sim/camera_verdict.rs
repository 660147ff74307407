//! Judges a session of the client with the quirky camera: recorded equals sent, bit for bit, or what
//! is missing is named.

use std::collections::BTreeMap;

use super::camera_plan::{Dated, Plan, Record, Unit};
use super::quirky_camera::footage::{Picture, Sound, number_of};
use super::quirky_camera::login::PASSWORD;
use super::quirky_camera::quirks::CameraQuirk::{self, *};
use super::quirky_camera::quirks::{Expect, Group};
use super::quirky_camera::{QuirkyCamera, SoundFrame};
use crate::units::MonoTime;

/// Lines of log within any minute at most.
const LINES_MAX: usize = 50;
/// Largest error of a capture time, microseconds; twice that while the clock converges.
const DATE_ERROR: u64 = 1_000_000;
/// Time of a session in which the clock converges, microseconds.
const CONVERGE: u64 = 15_000_000;
/// What was sent so shortly before the end may be on its way, microseconds.
const ON_ITS_WAY: u64 = 1_500_000;
/// A session without any picture for this long is a failure, microseconds.
const BEGIN_MAX: u64 = 16_000_000;

/// What came of a plan, in numbers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Summary {
    pub(crate) sent: usize,
    pub(crate) recorded: usize,
    pub(crate) named_missing: usize,
    pub(crate) sound_sent: usize,
    pub(crate) sound_recorded: usize,
    pub(crate) sessions: u32,
    /// The end of the last session or try.
    pub(crate) fault: Option<String>,
    /// Deviations that the client counted.
    pub(crate) quirks: String,
    /// Largest error of a capture time after convergence, microseconds.
    pub(crate) date_error: u64,
}

/// What a plan must give: the most lenient of its quirks.
pub(crate) fn expectation(quirks: &[CameraQuirk]) -> Expect {
    let rank = |expect: &Expect| match expect {
        Expect::All => 0,
        Expect::Pictures => 1,
        Expect::Counted => 2,
        Expect::Gaps => 3,
        Expect::Either(_) => 4,
        Expect::Fault(_) => 5,
    };
    quirks.iter().map(|quirk| quirk.expect()).max_by_key(rank).unwrap_or(Expect::All)
}

fn has_gaps(plan: &Plan) -> bool {
    plan.quirks.iter().any(|quirk| quirk.expect() == Expect::Gaps)
}

/// Judges a record.
///
/// # Errors
/// What is wrong, as a sentence.
pub(crate) fn judge(
    plan: &Plan,
    record: &Record,
    camera: &QuirkyCamera,
) -> Result<Summary, String> {
    let expect = expectation(&plan.quirks);
    let mut summary = Summary {
        sent: camera.pictures.len(),
        sound_sent: camera.sounds.len(),
        sound_recorded: record.units[1].len(),
        sessions: camera.sessions,
        fault: record.ends.last().map(|(_, (fault, why))| format!("{}: {why}", fault.as_str())),
        quirks: record.quirks.seen().map(|(quirk, _)| quirk.name()).collect::<Vec<_>>().join(" "),
        ..Summary::default()
    };
    check_lines(record)?;
    check_tries(plan, record, camera)?;
    // A back channel and a second picture are not recorded.
    let odd = |url: &str| url.contains("track3") || url.contains("track4");
    if camera.requests.iter().any(|(_, asked)| asked.method == "SETUP" && odd(&asked.url)) {
        return Err("a back channel or second video is set up".into());
    }
    check_secrets(record)?;
    check_outages(record)?;
    if let Expect::Fault(words) = expect {
        return check_fault(plan, words, record, &camera.pictures).map(|()| summary);
    }
    if let Expect::Either(words) = expect
        && record.units[0].is_empty()
    {
        return check_fault(plan, words, record, &camera.pictures).map(|()| summary);
    }
    check_pictures(plan, expect, record, camera, &mut summary)?;
    check_sound(plan, expect, record, camera)?;
    check_dates(plan, record, camera, &mut summary)?;
    check_sessions(plan, record, camera)?;
    Ok(summary)
}

fn check_lines(record: &Record) -> Result<(), String> {
    let lines = &record.lines;
    for (at, line) in lines.iter().enumerate() {
        let minute = lines[at..].iter().take_while(|other| other.since(*line) < 60_000_000).count();
        if minute > LINES_MAX {
            return Err(format!("{minute} lines of log within a minute"));
        }
    }
    Ok(())
}

/// No endless reconnect, and no password shown too often.
fn check_tries(plan: &Plan, record: &Record, camera: &QuirkyCamera) -> Result<(), String> {
    // Pauses of 1, 2, 5, 10, 30 s at random from 0.25 s on, and the first tries.
    let most = 8 + plan.seconds as u32 / 8;
    if camera.connections > most {
        let (_, last) = record.ends.last().ok_or("connects without an end")?;
        return Err(format!(
            "{} connections in {} s, last {last:?}",
            camera.connections, plan.seconds
        ));
    }
    let (denied, wrong) = (camera.denied(), plan.has(WrongPassword));
    if wrong && denied > 3 {
        return Err(format!("a wrong password was shown {denied} times"));
    }
    let unasked = plan.has(NoLogin) || plan.has(NoLoginBasic);
    if unasked && denied > 0 {
        return Err("credentials were sent without a login".into());
    }
    let locked = record.ends.iter().any(|(_, (fault, _))| fault.as_str() == "locked_out");
    let may_lock = wrong || plan.has(UnauthorizedThrice) || plan.has(AuthNoHeader);
    if locked && !may_lock {
        return Err("the right password ended in a lock-out".into());
    }
    Ok(())
}

fn check_secrets(record: &Record) -> Result<(), String> {
    let shown =
        record.ends.iter().find(|(_, (_, why))| why.contains(PASSWORD) || why.contains("tlJwpbo6"));
    shown.map_or(Ok(()), |(_, failure)| Err(format!("a password is shown: {failure:?}")))
}

fn check_fault(plan: &Plan, words: &str, record: &Record, sent: &[Picture]) -> Result<(), String> {
    if !record.units[0].is_empty() && plan.quirks.len() == 1 {
        return Err(format!("{} pictures were recorded", record.units[0].len()));
    }
    if plan.quirks.len() > 1 {
        // The other quirks may keep the session from the fault; what is recorded is what was sent.
        return record.units[0].iter().try_for_each(|unit| number(&unit.data, sent).map(|_| ()));
    }
    let named = |(_, (_, why)): &&(MonoTime, (_, String))| {
        why.to_lowercase().contains(&words.to_lowercase())
    };
    match record.ends.iter().find(named) {
        Some(_) => Ok(()),
        None => Err(format!("no end names {words:?}: {:?}", record.ends.last())),
    }
}

/// The NAL units of a sample in MP4 form.
pub(crate) fn nals(sample: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = sample;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, body) = rest.split_at_checked(4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (nal, after) = body.split_at_checked(length)?;
        out.push(nal);
        rest = after;
    }
    Some(out)
}

/// The number of a recorded picture, whose slices must equal those that were sent.
fn number(unit: &[u8], sent: &[Picture]) -> Result<u64, String> {
    let nals = nals(unit).ok_or("a sample is no list of NAL units")?;
    let slices: Vec<&[u8]> = nals.into_iter().filter(|nal| number_of(nal).is_some()).collect();
    let Some(number) = slices.first().and_then(|slice| number_of(slice)) else {
        return Err("a sample without a picture".into());
    };
    let picture = sent.get(number as usize).ok_or(format!("picture {number} was never sent"))?;
    let equal = slices.len() == picture.slices.len()
        && slices.iter().zip(&picture.slices).all(|(slice, sent)| slice == sent);
    let part = picture.damaged
        && slices.iter().all(|slice| picture.slices.iter().any(|sent| sent.starts_with(slice)));
    if equal || part {
        return Ok(number);
    }
    let lengths = |list: Vec<usize>| format!("{list:?}");
    Err(format!(
        "picture {number} is not what was sent: slices of {} bytes, sent {}",
        lengths(slices.iter().map(|slice| slice.len()).collect()),
        lengths(picture.slices.iter().map(Vec::len).collect()),
    ))
}

fn check_pictures(
    plan: &Plan,
    expect: Expect,
    record: &Record,
    camera: &QuirkyCamera,
    summary: &mut Summary,
) -> Result<(), String> {
    let mut last: Option<(u64, &Unit)> = None;
    let mut seen = 0;
    for (at, unit) in record.units[0].iter().enumerate() {
        let number =
            number(&unit.data, &camera.pictures).map_err(|why| format!("sample {at}: {why}"))?;
        seen += 1;
        let first = camera.pictures.iter().position(|picture| picture.session == unit.session);
        let first = first.unwrap_or(0) as u64;
        let (expected, same) = match last {
            // Another session may begin with pictures of the one before.
            Some((before, other))
                if number <= before
                    && !(plan.has(FramesAgain) && other.session != unit.session) =>
            {
                return Err(format!("picture {number} is recorded after {before}"));
            }
            Some((before, other)) if other.session == unit.session => (before + 1, true),
            _ => (first, false),
        };
        let missing = number - expected.min(number);
        let counted = matches!(expect, Expect::Counted | Expect::Gaps | Expect::Either(_));
        if missing > 0 && same && unit.lost == 0 {
            return Err(format!("pictures {expected} to {number} are missing without a count"));
        }
        if missing > 0 && !counted {
            return Err(format!("pictures {expected} to {number} are missing, {} lost", unit.lost));
        }
        if missing > 0
            && !same
            && camera.pictures[number as usize]
                .captured
                .since(camera.pictures[expected as usize].captured)
                > BEGIN_MAX
        {
            return Err(format!("a session begins with picture {number} instead of {expected}"));
        }
        summary.named_missing += missing as usize;
        last = Some((number, unit));
    }
    summary.recorded = seen;
    let Some((last, _)) = last else { return Err("no picture is recorded".into()) };
    let unsent = camera.pictures[last as usize + 1..]
        .iter()
        .filter(|picture| record.ended_at.since(picture.captured) > ON_ITS_WAY)
        .filter(|picture| {
            expect != Expect::Gaps
                || record.played.last().is_some_and(|played| picture.captured > played.0)
        })
        .count();
    if unsent > 0 && !plan.has(FreezeTenSeconds) {
        return Err(format!("{unsent} pictures after {last} are not recorded"));
    }
    Ok(())
}

fn check_sound(
    plan: &Plan,
    expect: Expect,
    record: &Record,
    camera: &QuirkyCamera,
) -> Result<(), String> {
    if plan.footage.sound == Sound::None || expect != Expect::All {
        return Ok(());
    }
    let units = &record.units[1];
    // At the end of the plan a later packet may have arrived before an earlier one.
    let late = plan.quirks.iter().any(|quirk| quirk.is_udp());
    let on_its_way = |sent: &SoundFrame| late && record.ended_at.since(sent.captured) <= ON_ITS_WAY;
    for (at, (unit, sent)) in units.iter().zip(&camera.sounds).enumerate() {
        if unit.data != sent.bytes && !sent.damaged && !on_its_way(sent) {
            return Err(format!("sound frame {at} is not what was sent"));
        }
    }
    let due = camera
        .sounds
        .iter()
        .filter(|frame| record.ended_at.since(frame.captured) > ON_ITS_WAY)
        .count();
    if units.len() < due {
        let why = record.without_sound.clone().unwrap_or_default();
        return Err(format!("{} of {due} sound frames are recorded {why}", units.len()));
    }
    let bent = plan.quirks.iter().any(|quirk| quirk.group() == Group::Sound);
    let frozen =
        plan.quirks.iter().any(|quirk| matches!(quirk.group(), Group::Link | Group::Stamps));
    if !bent && !frozen && record.sound_dropped > 0 {
        return Err(format!("{} sound frames are left out of the files", record.sound_dropped));
    }
    Ok(())
}

/// Capture times are right, and presentation times rise.
fn check_dates(
    plan: &Plan,
    record: &Record,
    camera: &QuirkyCamera,
    summary: &mut Summary,
) -> Result<(), String> {
    let held = plan.has(FreezeTenSeconds) || plan.has(FreezeThirtySeconds) || plan.has(Coalesced);
    let stamps = plan.quirks.iter().any(|quirk| quirk.group() == Group::Stamps);
    // Arrivals and stamps both say nothing.
    let undatable = held && stamps;
    let mut begun: BTreeMap<u32, MonoTime> = BTreeMap::new();
    let mut before: Option<&Dated> = None;
    let mut latest: Option<u64> = None;
    for frame in &record.frames[0] {
        let number = number(&frame.data, &camera.pictures)?;
        let picture = &camera.pictures[number as usize];
        let start = *begun.entry(picture.session).or_insert(picture.captured);
        let error = frame.at.0.abs_diff(picture.captured.0);
        let converged = picture.captured.since(start) > CONVERGE;
        let most = if converged { DATE_ERROR } else { 2 * DATE_ERROR };
        // What another session sends once more from before its start has no place in time.
        let again = plan.has(PreBuffer) && picture.session > 1 && !converged
            || latest.is_some_and(|latest| number <= latest);
        latest = latest.max(Some(number));
        if error > most && !undatable && !again {
            return Err(format!(
                "picture {number} is dated {} ms off",
                (frame.at.0 as i64 - picture.captured.0 as i64) / 1000
            ));
        }
        if converged && !again {
            summary.date_error = summary.date_error.max(error);
        }
        if let Some(before) = before.filter(|before| before.run == frame.run)
            && frame.pts <= before.pts
            && !plan.has(StampsReordered)
        {
            return Err(format!(
                "picture {number}: presentation time {} after {}",
                frame.pts, before.pts
            ));
        }
        before = Some(frame);
    }
    if record.frames[0].len() + 1 < record.units[0].len() && plan.sabotage.is_none() {
        return Err(format!(
            "{} of {} pictures have a time",
            record.frames[0].len(),
            record.units[0].len()
        ));
    }
    if !plan.has(PreBuffer) && !plan.has(FramesAgain) || camera.sessions == 1 {
        check_file_length(record, camera)?;
    }
    check_sound_dates(plan, record, camera, undatable)
}

/// The longest run lasts as long as what it shows, within 1 %.
fn check_file_length(record: &Record, camera: &QuirkyCamera) -> Result<(), String> {
    let mut runs: BTreeMap<u32, Vec<&Dated>> = BTreeMap::new();
    for frame in &record.frames[0] {
        runs.entry(frame.run).or_default().push(frame);
    }
    for frames in runs.values() {
        let [first, .., last] = frames[..] else { continue };
        let captured = |frame: &Dated| -> Result<u64, String> {
            Ok(camera.pictures[number(&frame.data, &camera.pictures)? as usize].captured.0)
        };
        let wall = captured(last)? as i64 - captured(first)? as i64;
        let file = (last.pts - first.pts) * 1_000_000 / i64::from(first.timescale.max(1));
        let allowed = (wall / 100).max(2_000_000);
        if (wall - file).abs() > allowed {
            return Err(format!("a run of {} ms lasts {} ms", wall / 1000, file / 1000));
        }
    }
    Ok(())
}

fn check_sound_dates(
    plan: &Plan,
    record: &Record,
    camera: &QuirkyCamera,
    undatable: bool,
) -> Result<(), String> {
    let odd = [SoundBursts, SoundFrozen, SoundJumpBack, SoundNinetyKilohertz];
    if undatable || odd.iter().any(|quirk| plan.has(*quirk)) {
        return Ok(());
    }
    let mut from = 0;
    let mut before: Option<&Dated> = None;
    for frame in &record.frames[1] {
        let found = camera.sounds[from..].iter().position(|sound| sound.bytes == frame.data);
        let Some(found) = found.map(|at| from + at) else {
            return Err("a sound frame that was never sent has a time".into());
        };
        from = found + 1;
        let error = frame.at.0.abs_diff(camera.sounds[found].captured.0);
        if error > 2 * DATE_ERROR {
            return Err(format!("sound frame {found} is dated {} ms off", error / 1000));
        }
        if let Some(before) = before.filter(|before| before.run == frame.run)
            && frame.pts <= before.pts
        {
            return Err(format!("sound frame {found}: presentation time does not rise"));
        }
        before = Some(frame);
    }
    Ok(())
}

/// One report for each outage.
fn check_outages(record: &Record) -> Result<(), String> {
    if record.downs > record.ups + 1 || record.ups > record.downs + 1 {
        return Err(format!("{} outages and {} ends of them", record.downs, record.ups));
    }
    Ok(())
}

fn check_sessions(plan: &Plan, record: &Record, camera: &QuirkyCamera) -> Result<(), String> {
    if !has_gaps(plan) && camera.sessions != 1 {
        return Err(format!("{} sessions, ends {:?}", camera.sessions, record.ends));
    }
    let most = 4 + plan.seconds as u32 / 15;
    if camera.sessions > most {
        return Err(format!("{} sessions in {} s", camera.sessions, plan.seconds));
    }
    let last = record.frames[0].last().map_or(MonoTime(0), |frame| frame.at);
    if record.ended_at.since(last) > 45_000_000 {
        return Err(format!(
            "nothing was recorded in the last {} s",
            record.ended_at.since(last) / 1_000_000
        ));
    }
    Ok(())
}
