//! Session setup of the RTSP client: connect, DESCRIBE and the choice of tracks, each with a timeout.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, uses the network")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use retina::client::{
    Credentials, Described, Session as Rtsp, SessionGroup, SessionOptions, SetupOptions,
    TcpTransportOptions, UdpTransportOptions,
};
use retina::codec::FrameFormat;
use tokio::time::timeout;

use super::{CameraFault, StreamRole};
use crate::settings::{CameraSettings, Transport};

/// Timeout of connect, DESCRIBE, SETUP and PLAY each: slow cameras take 3 s, none takes 10.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long before the end of the calendar a session ends: several clock readings and a set-up.
const CALENDAR_MARGIN: Duration = Duration::from_secs(120);

/// The cause of a failure, and its detail for operators.
pub(super) type Failure = (CameraFault, String);

/// Whether audio is recorded. Video never waits for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sound {
    /// Audio is set up when the camera offers it.
    Wanted,
    /// The camera stopped answering when audio was set up: the next session does without.
    Silenced(String),
    /// The camera offers audio that cannot be recorded, for this reason.
    None(String),
}

/// Index of the first stream of a media type in one of the encodings.
pub(super) fn find(session: &Rtsp<Described>, media: &str, encodings: &[&str]) -> Option<usize> {
    session
        .streams()
        .iter()
        .position(|stream| stream.media() == media && encodings.contains(&stream.encoding_name()))
}

pub(super) fn setup_options(settings: &CameraSettings) -> SetupOptions {
    let transport = match settings.transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    };
    SetupOptions::default().transport(transport).frame_format(FrameFormat::MP4)
}

/// Sets up audio where possible. `known` is the state after the previous session.
pub(super) async fn set_up_sound(
    session: &mut Rtsp<Described>,
    audio: usize,
    options: SetupOptions,
    known: &Sound,
) -> Sound {
    if let Sound::Silenced(why) = known {
        return Sound::None(why.clone());
    }
    let stream = &session.streams()[audio];
    if stream.parameters().is_none() {
        return Sound::None(format!(
            "taimat does not record this kind of {}",
            stream.encoding_name()
        ));
    }
    match timeout(STEP_TIMEOUT, session.setup(audio, options)).await {
        Ok(Ok(())) => Sound::Wanted,
        Ok(Err(error)) if error.status_code().is_some() => Sound::None(one_line("SETUP", &error)),
        Ok(Err(error)) => Sound::Silenced(one_line("SETUP", &error)),
        Err(_) => Sound::Silenced(format!("SETUP: no answer within {} s", STEP_TIMEOUT.as_secs())),
    }
}

/// Connects to the camera and sends DESCRIBE.
///
/// # Errors
/// The cause, and a detail without secrets.
pub(super) async fn describe(
    settings: &CameraSettings,
    role: StreamRole,
    group: Option<Arc<SessionGroup>>,
) -> Result<Rtsp<Described>, Failure> {
    let url = match role {
        StreamRole::Sub => settings.sub_url.as_ref().unwrap_or(&settings.main_url),
        StreamRole::Main => &settings.main_url,
    };
    let login = settings.login.as_ref();
    let creds = login.map(|login| Credentials {
        username: login.user.clone(),
        password: login.password.reveal().to_owned(),
    });
    let mut options = SessionOptions::default()
        .creds(creds)
        .user_agent(format!("taimat/{}", env!("CARGO_PKG_VERSION")));
    if let Some(group) = group {
        options = options.session_group(group);
    }
    check_clock(SystemTime::now())?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().unwrap_or(554);
    // A separate connect, because retina's errors do not distinguish an unreachable address from a
    // protocol error.
    match timeout(
        STEP_TIMEOUT,
        tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)),
    )
    .await
    {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Err((CameraFault::Unreachable, format!("{host}:{port}: {error}")));
        }
        Err(_) => {
            return Err((
                CameraFault::Unreachable,
                format!("{host}:{port}: no answer within {} s", STEP_TIMEOUT.as_secs()),
            ));
        }
    }
    step("DESCRIBE", Rtsp::describe(url.clone(), options)).await
}

/// Rejects a clock close to the end of the calendar, where retina panics on its packet times.
///
/// # Errors
/// When the clock is within [`CALENDAR_MARGIN`] of the end of the year 9999.
pub(super) fn check_clock(now: SystemTime) -> Result<(), Failure> {
    let ahead =
        now.checked_add(CALENDAR_MARGIN).and_then(|ahead| jiff::Timestamp::try_from(ahead).ok());
    let why = || {
        (CameraFault::Protocol, "this machine's clock is beyond the year 9999: set it".to_owned())
    };
    ahead.map(|_| ()).ok_or_else(why)
}

/// Runs one step of session setup within its timeout.
pub(super) async fn step<T>(
    name: &str,
    step: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, Failure> {
    match timeout(STEP_TIMEOUT, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.status_code() == Some(401) => Err((
            CameraFault::Unauthorized,
            format!("{name}: the camera rejects this user and password"),
        )),
        Ok(Err(error)) => Err((CameraFault::Protocol, one_line(name, &error))),
        Err(_) => Err((
            CameraFault::Protocol,
            format!("{name}: no answer within {} s", STEP_TIMEOUT.as_secs()),
        )),
    }
}

/// The first line of a retina error: the following lines describe the connection.
pub(super) fn one_line(what: &str, error: &retina::Error) -> String {
    crate::redact::masked(&format!(
        "{what}: {}",
        error.to_string().lines().next().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_begins_where_the_calendar_ends() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_207_200);
        assert_eq!(check_clock(end - Duration::from_secs(300)), Ok(()));
        for close in [end - Duration::from_secs(60), end + Duration::from_secs(90_000)] {
            assert!(check_clock(close).is_err_and(|(_, why)| why.contains("9999")));
        }
    }
}
