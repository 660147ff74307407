//! Sockets of a session: the TCP connection, and pairs of UDP ports for RTP and RTCP.
#![expect(clippy::disallowed_methods, reason = "shell: waits, uses the network")]

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::limits::{ANSWER_TIMEOUT, READ_MAX};
use crate::camera::{CameraFault, Failure};

/// Tries to find an even port whose successor is free, too.
const PORT_TRIES: u32 = 40;
/// Datagrams of other senders that are dropped from one socket at once. More of them delay the next
/// look at it until the interval of checks.
const FOREIGN_MAX: u32 = 64;
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// The sockets of one session.
pub(super) struct Connection {
    tcp: TcpStream,
    peer: SocketAddr,
    buffer: Vec<u8>,
}

/// The UDP ports of one track.
struct UdpPair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

/// The UDP ports of all tracks; empty for TCP.
#[derive(Default)]
pub(super) struct UdpPorts {
    pairs: Vec<UdpPair>,
    buffer: Vec<u8>,
    /// The camera's address: packets of others are dropped.
    peer: Option<IpAddr>,
}

/// What to do about a name without an address.
const NO_NAME: &str =
    "check the host name and the name server, or write the camera's address instead";
/// What to do about a host that does not answer.
const NO_HOST: &str = "check the address, and the camera's power and network";

/// What to do about a connection that failed.
fn next_step(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "check the port, and that RTSP is on in the camera",
        _ => NO_HOST,
    }
}

impl Connection {
    /// Connects to the camera.
    ///
    /// # Errors
    /// [`CameraFault::Unreachable`] with the cause.
    pub(super) async fn open(host: &str, port: u16) -> Result<Connection, Failure> {
        let unreachable = |why: String| (CameraFault::Unreachable, format!("{host}:{port}: {why}"));
        let connecting = async {
            let found = lookup_host((host, port)).await;
            let addresses: Vec<SocketAddr> =
                found.map_err(|error| format!("{error}: {NO_NAME}"))?.collect();
            let tcp = TcpStream::connect(addresses.as_slice()).await;
            tcp.map_err(|error| format!("{error}: {}", next_step(error.kind())))
        };
        let tcp = match timeout(ANSWER_TIMEOUT, connecting).await {
            Ok(outcome) => outcome.map_err(unreachable)?,
            Err(_) => {
                let seconds = ANSWER_TIMEOUT.as_secs();
                return Err(unreachable(format!("no answer within {seconds} s: {NO_HOST}")));
            }
        };
        let peer = tcp.peer_addr().map_err(|error| unreachable(error.to_string()))?;
        // Requests are small and waited for.
        let _ = tcp.set_nodelay(true);
        Ok(Connection { tcp, peer, buffer: vec![0; READ_MAX] })
    }

    /// The camera's address.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Reads what has come; empty at the end of the connection.
    pub(super) async fn read(&mut self) -> io::Result<&[u8]> {
        let len = self.tcp.read(&mut self.buffer).await?;
        Ok(&self.buffer[..len])
    }

    /// Writes requests.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the camera reads nothing");
        timeout(ANSWER_TIMEOUT, self.tcp.write_all(bytes)).await.map_err(|_| late())?
    }
}

impl UdpPorts {
    /// Binds pairs of ports for so many tracks.
    ///
    /// # Errors
    /// When no ports are free.
    pub(super) async fn bind(peer: IpAddr, tracks: usize) -> io::Result<UdpPorts> {
        let any: IpAddr = if peer.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let mut pairs = Vec::new();
        for _ in 0..PORT_TRIES {
            if pairs.len() == tracks {
                break;
            }
            let rtp = UdpSocket::bind((any, 0)).await?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 0
                && let Ok(rtcp) = UdpSocket::bind((any, port + 1)).await
            {
                pairs.push(UdpPair { rtp, rtcp });
            }
        }
        if pairs.len() < tracks {
            return Err(io::Error::other("no pair of free UDP ports"));
        }
        Ok(UdpPorts { pairs, buffer: vec![0; DATAGRAM_MAX], peer: Some(peer) })
    }

    /// The local ports of each track.
    pub(super) fn ports(&self) -> [(u16, u16); 2] {
        let port = |socket: &UdpSocket| socket.local_addr().map_or(0, |address| address.port());
        let mut ports = [(0, 0); 2];
        for (own, pair) in ports.iter_mut().zip(&self.pairs) {
            *own = (port(&pair.rtp), port(&pair.rtcp));
        }
        ports
    }

    /// Opens the path of a track through a firewall or NAT, by sending first. Packets go to the
    /// camera's own address alone, whatever `source` it names.
    pub(super) async fn open_path(&mut self, track: usize, peer: IpAddr, ports: (u16, u16)) {
        let Some(pair) = self.pairs.get(track) else { return };
        // An empty RTP packet of a payload type that no camera uses, and an empty Receiver Report.
        let rtp = [0x80, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 0];
        let _ = pair.rtp.send_to(&rtp, (peer, ports.0)).await;
        let _ = pair.rtcp.send_to(&rtcp, (peer, ports.1)).await;
    }

    /// The next packet: its track, whether it came to the port of RTCP, and its bytes. Pending for
    /// ever without ports.
    pub(super) async fn receive(&mut self) -> (usize, bool, &[u8]) {
        let (pairs, peer, bytes) = (&self.pairs, self.peer, &mut self.buffer);
        let (track, rtcp, len) = poll_fn(|context| {
            for (track, pair) in pairs.iter().enumerate() {
                for (rtcp, socket) in [(false, &pair.rtp), (true, &pair.rtcp)] {
                    let mut buffer = ReadBuf::new(bytes);
                    for _ in 0..FOREIGN_MAX {
                        match socket.poll_recv_from(context, &mut buffer) {
                            Poll::Ready(Ok(from)) if peer == Some(from.ip()) => {
                                return Poll::Ready((track, rtcp, buffer.filled().len()));
                            }
                            Poll::Ready(_) => buffer.clear(),
                            Poll::Pending => break,
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await;
        (track, rtcp, &self.buffer[..len])
    }
}
