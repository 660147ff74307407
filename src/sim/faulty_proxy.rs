//! TCP proxy with network faults: latency, rate limit, cut at a byte, half-open, no answer.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task, uses the network"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes forwarded at once; a small number makes a smooth rate.
const PIECE: usize = 1024;
/// Largest number of pieces in flight in one direction: a modem's buffer.
const PIECES: usize = 16;
/// Poll interval of a blocked direction.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Faults and counts of the proxy.
#[derive(Debug, Default)]
pub struct ProxyFaults {
    /// Latency of each piece in each direction, milliseconds.
    pub latency_ms: AtomicU64,
    /// Bytes a second from the client; 0: no limit.
    pub rate_up: AtomicU64,
    /// Bytes a second to the client; 0: no limit.
    pub rate_down: AtomicU64,
    /// Bytes from the client, counted from now, after which every connection is cut; 0: never.
    pub cut_after: AtomicU64,
    /// Connections stay open and forward nothing.
    pub half_open: AtomicBool,
    /// New connections are accepted and never answered.
    pub black_hole: AtomicBool,
    /// New connections are refused at once.
    pub closed: AtomicBool,
    /// Bytes forwarded from the client.
    pub up: AtomicU64,
    /// Bytes forwarded to the client.
    pub down: AtomicU64,
    /// Connections cut so far.
    pub cuts: AtomicU64,
}

/// A proxy on 127.0.0.1. It runs until the process ends.
#[derive(Clone)]
pub struct FaultyProxy {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Faults and counts.
    pub way: Arc<ProxyFaults>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl FaultyProxy {
    /// Starts a proxy in front of `to`.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(to: SocketAddr) -> std::io::Result<FaultyProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = FaultyProxy {
            port: listener.local_addr()?.port(),
            way: Arc::default(),
            streams: Arc::default(),
        };
        let serving = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                serving.serve(client, to);
            }
        });
        Ok(proxy)
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for stream in streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.way.cuts.fetch_add(1, Ordering::Relaxed);
    }

    fn serve(&self, client: TcpStream, to: SocketAddr) {
        if self.way.closed.load(Ordering::Relaxed) {
            return;
        }
        let keep = |stream: &TcpStream| {
            if let Ok(stream) = stream.try_clone() {
                self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(stream);
            }
        };
        keep(&client);
        if self.way.black_hole.load(Ordering::Relaxed) {
            return;
        }
        let Ok(server) = TcpStream::connect(to) else {
            let _ = client.shutdown(Shutdown::Both);
            return;
        };
        keep(&server);
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        self.pass(client, server, true);
        self.pass(server_too, client_too, false);
    }

    /// Forwards one direction with a reader, a short queue and a writer.
    fn pass(&self, from: TcpStream, to: TcpStream, up: bool) {
        let (pieces, queue) = sync_channel(PIECES);
        let (reading, writing) = (self.clone(), self.clone());
        thread::spawn(move || reading.read(from, &pieces, up));
        thread::spawn(move || writing.write(to, &queue, up));
    }

    fn read(&self, mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, up: bool) {
        let mut piece = [0; PIECE];
        while let Ok(n) = from.read(&mut piece) {
            if n == 0 || pieces.send((Instant::now(), piece[..n].to_vec())).is_err() {
                break;
            }
            let rate =
                if up { &self.way.rate_up } else { &self.way.rate_down }.load(Ordering::Relaxed);
            if let Some(micros) = (n as u64 * 1_000_000).checked_div(rate) {
                thread::sleep(Duration::from_micros(micros));
            }
        }
    }

    fn write(&self, mut to: TcpStream, queue: &Receiver<(Instant, Vec<u8>)>, up: bool) {
        while let Ok((came, piece)) = queue.recv() {
            let due = came + Duration::from_millis(self.way.latency_ms.load(Ordering::Relaxed));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while self.way.half_open.load(Ordering::Relaxed) {
                thread::sleep(POLL_INTERVAL);
            }
            let allowed = if up { self.until_cut(piece.len()) } else { piece.len() };
            if to.write_all(&piece[..allowed]).is_err() {
                break;
            }
            if up { &self.way.up } else { &self.way.down }
                .fetch_add(allowed as u64, Ordering::Relaxed);
            if allowed < piece.len() {
                self.cut();
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Number of the next `n` bytes that are forwarded before the cut.
    fn until_cut(&self, n: usize) -> usize {
        let left = self.way.cut_after.load(Ordering::Relaxed);
        if left == 0 {
            return n;
        }
        let passes = n.min(left as usize - 1);
        self.way
            .cut_after
            .store(if passes < n { 0 } else { left - passes as u64 }, Ordering::Relaxed);
        passes
    }
}
