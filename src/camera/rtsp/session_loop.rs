//! One session of a stream: moves bytes between the client machine and its sockets, and media from
//! the machine to the frames.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, uses the network")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::client::{Client, Event};
use super::connection::{Connection, UdpPorts};
use super::set_up::Sound;
use super::stream_task::{StreamTask, check_clock};
use crate::camera::auth_limiter::AuthOutcome;
use crate::camera::login_mark::LoginMark;
use crate::camera::quirk::QuirkCounts;
use crate::camera::rtp::{MediaUnit, Received, TrackReceiver};
use crate::camera::supervisor::StreamCheck;
use crate::camera::{
    CameraFault, CameraUpdate, Failure, Frame, StreamRole, TrackKind, TrackParams,
};
use crate::clock::Clock;
use crate::settings::Transport;
use crate::units::MonoTime;
use crate::wakeup::LowLatencyGuard;

/// Interval of the stall checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of the same over UDP, where packets wait for others.
const UDP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The sockets and receivers of one session.
pub(super) struct Sockets {
    pub(super) connection: Connection,
    pub(super) ports: UdpPorts,
    /// Keeps the network thread awake.
    pub(super) guard: Option<LowLatencyGuard>,
    pub(super) receivers: Vec<TrackReceiver>,
}

/// Sends TEARDOWN and waits for its answer.
pub(super) async fn close(
    client: &mut Client,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
) {
    client.tear_down(clock.now().mono);
    loop {
        let output = client.take_output();
        if !output.is_empty() && connection.write(&output).await.is_err() {
            return;
        }
        while let Some(event) = client.poll(clock.now().mono) {
            if event == Event::TornDown {
                return;
            }
        }
        match connection.read().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) => client.received(bytes),
        }
    }
}

impl<F: FnMut(Arc<Frame>) + Send> StreamTask<F> {
    /// Drives one session. Returns why it ended.
    pub(super) async fn drive(&mut self, client: &mut Client, sockets: &mut Sockets) -> Failure {
        let now = self.stream.clock.now();
        client.connected(now.mono);
        self.supervisor.sets_up(now);
        let udp = self.stream.settings.transport == Transport::Udp;
        let interval = if udp { UDP_CHECK_INTERVAL } else { CHECK_INTERVAL };
        let mut next_check = tokio::time::interval(interval);
        next_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(failure) = self.work(client, sockets).await {
                return failure;
            }
            tokio::select! {
                read = sockets.connection.read() => match read {
                    Ok([]) => client.closed(None),
                    Ok(bytes) => client.received(bytes),
                    Err(error) => client.closed(Some(&error.to_string())),
                },
                (track, rtcp, bytes) = sockets.ports.receive() => {
                    client.media_came();
                    let arrival = self.stream.clock.now().mono;
                    if let Some(receiver) = sockets.receivers.get_mut(track).filter(|_| !rtcp) {
                        receiver.packet(bytes, arrival);
                    }
                    if let Some(failure) = self.units(client, sockets, track).await {
                        return failure;
                    }
                }
                _ = next_check.tick() => {
                    if let Some(failure) = self.check(client, sockets).await {
                        return failure;
                    }
                }
            }
        }
    }

    /// Sends what the machine wants to send, and takes its events until none is left.
    async fn work(&mut self, client: &mut Client, sockets: &mut Sockets) -> Option<Failure> {
        // What one read brought has arrived together.
        let arrival = self.now();
        loop {
            let output = client.take_output();
            if !output.is_empty()
                && let Err(error) = sockets.connection.write(&output).await
            {
                // A camera may answer and close before it has read everything.
                tracing::debug!(%error, "a request could not be sent");
            }
            match client.poll(arrival) {
                None => return None,
                Some(Event::Packet { track, rtcp, bytes }) => {
                    if rtcp {
                        continue;
                    }
                    let Some(receiver) = sockets.receivers.get_mut(track) else { continue };
                    receiver.packet(bytes, arrival);
                    let failure = self.units(client, sockets, track).await;
                    if failure.is_some() {
                        return failure;
                    }
                }
                Some(Event::SetUp(track)) => {
                    let failure = self.set_up(client, sockets, track).await;
                    if failure.is_some() {
                        return failure;
                    }
                }
                Some(Event::Playing) => {
                    self.begin(client);
                    self.report_quirks(client, sockets, true).await;
                    if self.stream.settings.transport == Transport::Tcp {
                        sockets.guard = None;
                    }
                }
                Some(Event::Connect(host, port)) => {
                    match Connection::open(&host, port).await {
                        Ok(connection) => sockets.connection = connection,
                        Err(failure) => return Some(failure),
                    }
                    client.connected(self.now());
                }
                Some(Event::Ended(failure)) => {
                    if self.playing_since.is_none() {
                        self.report_quirks(client, sockets, true).await;
                    }
                    return Some(failure);
                }
                Some(Event::TornDown) => {
                    return Some((CameraFault::Closed, "the session is closed".into()));
                }
            }
        }
    }

    /// A track is set up: packets may come.
    async fn set_up(
        &mut self,
        client: &Client,
        sockets: &mut Sockets,
        track: usize,
    ) -> Option<Failure> {
        self.stream.heartbeat.beat();
        let set_up = &client.tracks()[track];
        match TrackReceiver::new(&set_up.format, self.stream.settings.transport) {
            Ok(receiver) => sockets.receivers.push(receiver),
            Err(why) => return Some((CameraFault::Protocol, why)),
        }
        if let Some(ports) = set_up.server_ports {
            let peer = sockets.connection.peer();
            sockets.ports.open_path(track, peer, ports).await;
        }
        None
    }

    /// Media is expected from now on.
    fn begin(&mut self, client: &Client) {
        if self.playing_since.is_some() {
            return;
        }
        let now = self.stream.clock.now();
        self.playing_since = Some(now.mono);
        self.supervisor.connected(now);
        // The other stream must know at once that the login is right.
        let (role, outcome) = (self.stream.role, client.auth_outcome());
        self.shared().auth.answered(role, now.mono, outcome, 0.0);
        if (role, outcome) == (StreamRole::Main, AuthOutcome::Accepted)
            && let Some(login) = LoginMark::of(&self.stream.settings)
        {
            // If the queue is full, the next session says it.
            let _ = self.update.try_send(CameraUpdate::LoginAccepted { login });
        }
        self.sound = client.sound().clone();
        if let Sound::None(reason) = &self.sound {
            tracing::warn!(
                reason,
                "camera audio cannot be recorded; recording continues without it"
            );
        }
        if self.stream.role == StreamRole::Main {
            self.shared().places.main_plays();
        }
    }

    /// Reports quirks that are new. Those of the set-up stand in one line.
    async fn report_quirks(&mut self, client: &Client, sockets: &Sockets, set_up: bool) {
        let all = self.quirks_of(client, sockets);
        let is_new = |(quirk, _): &(_, _)| self.quirks.seen().all(|(known, _)| known != *quirk);
        let new: Vec<&str> = all.seen().filter(is_new).map(|(quirk, _)| quirk.name()).collect();
        if new.is_empty() {
            return;
        }
        let quirks = new.join(" ");
        if set_up || self.quirks.seen().next().is_none() {
            tracing::info!(quirks, "the camera deviates from its protocols; this is tolerated");
        } else {
            tracing::info!(quirks, "another deviation of the camera; this is tolerated");
        }
        self.quirks = all;
        let update = CameraUpdate::Quirks { role: self.stream.role, quirks: all };
        let _ = self.update.send(update).await;
    }

    /// The checks of each interval.
    async fn check(&mut self, client: &mut Client, sockets: &mut Sockets) -> Option<Failure> {
        self.stream.heartbeat.beat();
        if let Err(failure) = check_clock(SystemTime::now()) {
            return Some(failure);
        }
        let now = self.stream.clock.now();
        client.tick(now.mono);
        for track in 0..sockets.receivers.len() {
            sockets.receivers[track].tick(now.mono);
            let failure = self.units(client, sockets, track).await;
            if failure.is_some() {
                return failure;
            }
        }
        if self.stream.role == StreamRole::Sub && self.sub_must_end(now.mono) {
            let detail = "the camera has no place for a second session: the main stream needs it";
            return Some((CameraFault::Protocol, detail.into()));
        }
        self.pass_on().await;
        if let Some(logged) = self.sound_notice.due(self.clock.sound_counts(), now.mono) {
            tracing::warn!(
                dropped = logged.dropped,
                padded = logged.padded,
                "camera sound did not fit its picture: frames were left out or time without sound \
                 was inserted; health counts further ones as camera.sound_dropped and \
                 camera.sound_padded"
            );
        }
        let Some(connected) = self.playing_since else {
            if let Some(stalled) =
                self.supervisor.check_stall(now, |waited| client.never_answered(waited))
            {
                let _ = self.update.send(stalled).await;
            }
            return None;
        };
        self.report_quirks(client, sockets, false).await;
        match self.supervisor.check(now, connected) {
            StreamCheck::Fine => None,
            StreamCheck::Report(update) => {
                let _ = self.update.send(update).await;
                None
            }
            StreamCheck::Drop(fault, detail) => Some((fault, detail)),
        }
    }

    /// Whether the main stream needs the place of this one.
    fn sub_must_end(&mut self, now: MonoTime) -> bool {
        let alive = std::mem::take(&mut self.unit_came);
        let places = &mut self.shared().places;
        if alive {
            places.sub_plays(now);
        }
        places.sub_must_end()
    }

    /// Takes what a track has received.
    async fn units(
        &mut self,
        client: &Client,
        sockets: &mut Sockets,
        track: usize,
    ) -> Option<Failure> {
        while let Some(received) = sockets.receivers.get_mut(track)?.poll() {
            match received {
                Received::Bad(detail) => {
                    let detail = self.known.masked(&detail);
                    tracing::debug!(error = %detail, "camera stream error; receiving continues");
                    let failure = self.supervisor.error(&detail);
                    if failure.is_some() {
                        return failure;
                    }
                }
                Received::Unit(unit) => {
                    self.begin(client);
                    self.unit(client.tracks()[track].format.kind, unit).await;
                }
            }
        }
        None
    }

    async fn unit(&mut self, kind: TrackKind, unit: MediaUnit) {
        let track = if kind == TrackKind::Video { &mut self.video } else { &mut self.audio };
        let before = track.as_ref().map(|params| params.size);
        if unit.params.is_some() {
            track.clone_from(&unit.params);
        }
        let Some(params) = track.clone() else { return };
        self.unit_came = true;
        let now = self.stream.clock.now();
        if kind == TrackKind::Video
            && let Some(suppressed) = self.size_notice.due(before, params.size, now.mono)
        {
            let [from, to] = [before.unwrap_or_default(), params.size]
                .map(|(width, height)| format!("{width}x{height}"));
            tracing::info!(from, to, suppressed, "the camera changed the size of its pictures");
        }
        self.supervisor.lost(unit.lost);
        let mut up = None;
        if kind == TrackKind::Video {
            let (tracks, sound) = ([&self.video, &self.audio], &self.sound);
            up = self.supervisor.frame(now, unit.key, || describe_tracks(tracks, sound));
        }
        self.clock.push(Frame {
            role: self.stream.role,
            params,
            data: unit.data,
            key: unit.key,
            pts: unit.rtp_time,
            run: 0,
            at: now.at(unit.arrival),
            lost: unit.lost,
        });
        self.supervisor.sound(self.clock.sound_counts());
        self.pass_on().await;
        if let Some(update) = up {
            let _ = self.update.send(update).await;
        }
    }

    /// Passes on the frames that have their times, and what changed in the camera's clock.
    async fn pass_on(&mut self) {
        while let Some(frame) = self.clock.pop(self.stream.clock.now()) {
            (self.frames)(Arc::new(frame));
        }
        if let Some(report) = self.clock.report() {
            let update = CameraUpdate::Clock { role: self.stream.role, report };
            let _ = self.update.send(update).await;
        }
    }

    /// The session ended: passes on what was held.
    pub(super) async fn finish(&mut self, client: &Client, sockets: &mut Sockets) {
        for track in 0..sockets.receivers.len() {
            sockets.receivers[track].finish();
            // What ends the session is known.
            let _ = self.units(client, sockets, track).await;
        }
        self.clock.flush();
        self.pass_on().await;
        // The counts so far: a probe ends with them.
        let quirks = self.quirks_of(client, sockets);
        if quirks != self.quirks {
            self.quirks = quirks;
            let _ = self.update.send(CameraUpdate::Quirks { role: self.stream.role, quirks }).await;
        }
    }

    /// The quirks of the session so far.
    fn quirks_of(&self, client: &Client, sockets: &Sockets) -> QuirkCounts {
        let mut all = client.quirks();
        for receiver in &sockets.receivers {
            all.add(receiver.quirks());
        }
        all.add(self.clock.quirks());
        all
    }
}

/// The recorded tracks, for operators.
fn describe_tracks(tracks: [&Option<Arc<TrackParams>>; 2], sound: &Sound) -> String {
    let carried = tracks
        .into_iter()
        .flatten()
        .map(|params| params.describe())
        .collect::<Vec<_>>()
        .join(" + ");
    match sound {
        Sound::None(why) => format!("{carried}, without sound: {why}"),
        Sound::Off | Sound::Wanted | Sound::Silenced(_) => carried,
    }
}
