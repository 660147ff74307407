//! Limits of the web listener: what one client, and all of them together, may ask of the office.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Connections of one address at most: a browser opens 6, an office of ten behind one NAT 60.
pub(crate) const CONNECTIONS_OF_ADDRESS: usize = 64;
/// Connections at most: 50 viewers with their streams, and as many again.
pub(crate) const CONNECTIONS: usize = 256;
/// Time for a TLS handshake, and for the head of a request: a slow link needs 1 s.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most: a browser sends 1 KiB.
pub(crate) const HEAD_MAX: usize = 16 << 10;
/// Bytes of a request's body at most; the largest JSON, 10,000 places, has 1 MiB.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// Bytes of an image of the plan at most: a scan of A3 at 300 dpi.
pub(crate) const PLAN_MAX: usize = 20 << 20;
/// Time for a request's body and its answer: an officer does not wait longer.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without progress after which a connection that has bytes to send ends.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests that read much (files, histories, the axis) at once; the others wait.
pub(crate) const HEAVY_READS: usize = 8;
/// Commands to devices at once: each has a connection to the broker.
pub(crate) const COMMANDS: usize = 4;
/// Log-ins at once: two hashes are computed, two wait; the others wait without a thread.
pub(crate) const LOGINS: usize = 4;
/// Time that a device has to reply to a command.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// Threads for handlers: 8 heavy reads, 4 commands, and quick questions beside them.
pub(crate) const HANDLER_THREADS: usize = 24;
/// Streams of events of one session: a browser with four tabs.
pub(crate) const STREAMS_OF_SESSION: usize = 4;
/// Requests at once on one HTTP/2 connection.
pub(crate) const REQUESTS_OF_CONNECTION: u32 = 32;
/// Events that a client may have missed and still resumes: about an hour of 200 sites.
pub(crate) const STREAM_RING: usize = 10_000;
/// Pause between two comments on a silent stream of events, at most [`STREAM_CHECK`] late: proxies
/// close what is silent for 30 s, the page takes 45 s of silence for a dead connection.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Pause between two checks of a stream's session: how long a revoked one still sees events.
pub(crate) const STREAM_CHECK: Duration = Duration::from_secs(5);
/// Time that open requests have when the office ends.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a file that are read at once.
pub(crate) const FILE_PIECE: usize = 256 << 10;
/// Rows of one answer at most.
pub(crate) const ROWS_MAX: u32 = 1_000;
/// Sites of one question for the axis: as many as the player shows, and their neighbours.
pub(crate) const AXIS_SITES: usize = 64;
/// Between two looks for playbacks whose page has gone without a word: they end within three minutes.
pub(crate) const PLAYBACK_SWEEP: Duration = Duration::from_secs(60);

/// Open connections by address.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    of_address: HashMap<IpAddr, usize>,
    all: usize,
}

impl Connections {
    /// Counts a new connection; false when there are too many.
    pub(crate) fn open(&mut self, address: IpAddr) -> bool {
        let open = self.of_address.get(&one_client(address)).copied().unwrap_or_default();
        if self.all >= CONNECTIONS || open >= CONNECTIONS_OF_ADDRESS {
            return false;
        }
        self.of_address.insert(one_client(address), open + 1);
        self.all += 1;
        true
    }

    /// Counts the end of a connection.
    pub(crate) fn close(&mut self, address: IpAddr) {
        let address = one_client(address);
        if let Some(open) = self.of_address.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                self.of_address.remove(&address);
            }
            self.all -= 1;
        }
    }

    /// Open connections.
    pub(crate) fn count(&self) -> usize {
        self.all
    }
}

/// The address that stands for one client: an IPv6 client has the 2^64 addresses of its network.
pub(crate) fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_64_connections_and_all_have_256() {
        let mut open = Connections::default();
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        for n in 0..4 {
            assert!((0..CONNECTIONS_OF_ADDRESS).all(|_| open.open(address(n))));
            assert!(!open.open(address(n)));
        }
        assert!(!open.open(address(9)), "more than {CONNECTIONS}");
        open.close(address(0));
        assert!(open.open(address(9)));
        open.close(address(77));
        assert_eq!(open.count(), CONNECTIONS);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let of = |text: &str| one_client(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(of("::1"), "::1".parse::<IpAddr>().unwrap());
    }
}
