//! Questions over TCP: one connection for each, to the address that answered.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, starts a thread or task, uses the network, draws random numbers"
)]

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::device::Service;
use super::devices::Device;
use super::http::{BODY_MAX, HEAD_MAX, Response, ResponseReader, post};
use super::interview::{Answers, Exchange, interview};
use super::soap::CONTENT_TYPE;
use crate::clock::{Clock as _, SystemClock, seed};
use crate::settings::Login;
use crate::units::WallTime;

/// Time for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Time for a request and its response.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time for all questions to a camera.
const CAMERA_WITHIN: Duration = Duration::from_secs(30);
/// Cameras that are asked at the same time.
const AT_ONCE: usize = 8;
/// Bytes of a response with all its framing at most.
const RECEIVED_MAX: usize = 2 * (HEAD_MAX + BODY_MAX);

/// Asks one camera over TCP.
struct HttpClient {
    address: SocketAddr,
    until: Instant,
    clock: SystemClock,
}

impl Exchange for HttpClient {
    fn post(
        &mut self,
        service: &Service,
        authorization: Option<&[u8]>,
        body: &str,
    ) -> Result<Response, String> {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        if left.is_zero() {
            return Err(format!("it took longer than {} s in all", CAMERA_WITHIN.as_secs()));
        }
        let until = now + ANSWER_WITHIN.min(left);
        let mut address = self.address;
        address.set_port(service.port);
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN.min(left))
            .map_err(|error| format!("port {}: {}", service.port, words(&error)))?;
        let host = match address {
            SocketAddr::V4(v4) => v4.to_string(),
            // Without its scope, which means nothing to the camera.
            SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
        };
        let request = post(&host, &service.path, CONTENT_TYPE, authorization, body);
        exchange(&mut stream, &request, until)
            .map_err(|reason| format!("port {}: {reason}", service.port))
    }

    fn now(&self) -> WallTime {
        self.clock.now().wall
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&seed().unwrap_or_default()[..16]);
        bytes
    }
}

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".into(),
        ErrorKind::ConnectionRefused => "nothing listens there".into(),
        _ => error.to_string(),
    }
}

fn exchange(stream: &mut TcpStream, request: &[u8], until: Instant) -> Result<Response, String> {
    stream.set_write_timeout(Some(ANSWER_WITHIN)).map_err(|error| words(&error))?;
    stream.write_all(request).map_err(|error| words(&error))?;
    let mut reader = ResponseReader::default();
    let (mut buffer, mut received) = (vec![0; 16 * 1024], 0);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A camera that keeps the connection open without saying how long its body is has said all by then.
        if left.is_zero() {
            return reader.finish().map_err(|_| "no answer in time".into());
        }
        stream.set_read_timeout(Some(left)).map_err(|error| words(&error))?;
        match stream.read(&mut buffer) {
            Ok(0) => return reader.finish().map_err(|error| error.to_string()),
            Ok(length) => {
                received += length;
                if received > RECEIVED_MAX {
                    return Err("the answer is too large".into());
                }
                if reader.push(&buffer[..length]).map_err(|error| error.to_string())? {
                    return reader.finish().map_err(|error| error.to_string());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            // A camera that resets the connection behind its answer.
            Err(error) => return reader.finish().map_err(|_| words(&error)),
        }
    }
}

fn ask(device: &Device, login: Option<&Login>) -> Answers {
    let ask_at = |address: SocketAddr| {
        let until = Instant::now() + CAMERA_WITHIN;
        let mut client = HttpClient { address, until, clock: SystemClock::new() };
        interview(&mut client, &device.services, login)
    };
    let answers = ask_at(device.address);
    match device.also.filter(|_| !answers.is_onvif) {
        Some(other) => ask_at(other),
        None => answers,
    }
}

/// Asks all devices, some at the same time; the answers are in the order of the devices. `progress` hears each end.
///
/// # Errors
/// No thread can be started.
pub fn ask_all(
    devices: Vec<Device>,
    login: Option<Login>,
    mut progress: impl FnMut(&Device, &Answers),
) -> std::io::Result<Vec<(Device, Answers)>> {
    let count = devices.len();
    let queue: Arc<Mutex<VecDeque<(usize, Device)>>> =
        Arc::new(Mutex::new(devices.into_iter().enumerate().collect()));
    let (sender, receiver) = mpsc::channel();
    for number in 0..AT_ONCE.min(count) {
        let (queue, sender, login) = (queue.clone(), sender.clone(), login.clone());
        std::thread::Builder::new().name(format!("discover-{number}")).spawn(move || {
            // The lock is held for a pop alone.
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((at, device)) = next() {
                let answers = ask(&device, login.as_ref());
                if sender.send((at, device, answers)).is_err() {
                    break;
                }
            }
        })?;
    }
    drop(sender);
    let mut done: Vec<(usize, Device, Answers)> = Vec::new();
    for (at, device, answers) in receiver {
        progress(&device, &answers);
        done.push((at, device, answers));
    }
    done.sort_by_key(|(at, ..)| *at);
    Ok(done.into_iter().map(|(_, device, answers)| (device, answers)).collect())
}
