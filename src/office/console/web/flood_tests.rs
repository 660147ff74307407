//! What strangers send to the listener: log-ins that fail, paths that lead out, bodies that are too
//! large, heads that never end. Each is refused with a sentence, and pages, log-ins and receipts of
//! others go on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::test_office::{TestOffice, parse};
use crate::office::console::handle::new_token;
use crate::office::console::people::rights::Role;
use crate::units::Secret;

const PASSWORD: &str = "nước mắm trên cầu 17";
/// Time within which others are answered, and receipts come, meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Numbers of a seed (xorshift).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A connection from an address of loopback.
fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.into(), 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends a request and reads the answer to its end.
fn send(from: Ipv4Addr, to: SocketAddr, head: &str, body: &[u8]) -> (u16, Value, String) {
    let mut stream = connect(from, to);
    let length = body.len();
    let head = format!("{head}host: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The office may answer, and close, before it has read a body that is too large.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let got = parse(&bytes);
    (got.status, got.json(), got.head)
}

/// A log-in that must fail.
fn wrong_login(random: &mut Seeded, from: Ipv4Addr, to: SocketAddr) {
    let name = match random.below(6) {
        0 => "officer".to_owned(),
        1 => "first-admin".to_owned(),
        2 => "'; DROP TABLE users; --".to_owned(),
        3 => "x".repeat(random.below(3_000) as usize),
        4 => "\u{202e}nimda\0".to_owned(),
        _ => format!("user{}", random.below(50)),
    };
    let password = match random.below(3) {
        0 => String::new(),
        1 => "p".repeat(random.below(5_000) as usize),
        _ => format!("{PASSWORD}{}", random.below(9)),
    };
    let body = json!({"name": name, "password": password}).to_string();
    let head = "POST /api/v1/login HTTP/1.1\r\ncontent-type: application/json\r\n";
    let (status, problem, head) = send(from, to, head, body.as_bytes());
    let about = format!("{name:?}: {status} {problem}");
    assert!(matches!(status, 400 | 401 | 429 | 503), "{about}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{about}");
    assert!(!head.to_ascii_lowercase().contains("set-cookie"), "{about}");
    let known = ["bad_request", "login_failed", "locked", "busy"];
    assert!(known.contains(&problem["code"].as_str().unwrap_or_default()), "{about}");
}

/// Another request that must be refused.
fn hostile(random: &mut Seeded, from: Ipv4Addr, to: SocketAddr, slow: &mut Vec<TcpStream>) {
    const PATHS: [&str; 7] = [
        "/ui/../../../etc/passwd",
        "/ui/%2e%2e/%2e%2e/Cargo.toml",
        "/api/v1/files/km-17/..%2f..%2ftaimat.sqlite",
        "/api/v1/tiles/1/0/..%2f..%2fmap.mbtiles",
        "/console/console.sqlite",
        "/ui/..%00/index.html",
        "/%ff%fe",
    ];
    match random.below(4) {
        0 => {
            let path = PATHS[random.below(PATHS.len() as u64) as usize];
            let (status, problem, _) = send(from, to, &format!("GET {path} HTTP/1.1\r\n"), b"");
            assert!(matches!(status, 400 | 401 | 404), "{path}: {status} {problem}");
        }
        1 => {
            let body = vec![b'a'; (1 << 20) + 1 + random.below(100_000) as usize];
            let head = "POST /api/v1/login HTTP/1.1\r\ncontent-type: application/json\r\n";
            let (status, problem, _) = send(from, to, head, &body);
            // 0: the office closed the connection before all was sent.
            assert!(matches!(status, 0 | 413), "{status} {problem}");
        }
        2 => {
            let filler = "x".repeat(17 << 10);
            let (status, ..) =
                send(from, to, &format!("GET / HTTP/1.1\r\nx-fill: {filler}\r\n"), b"");
            assert!(matches!(status, 0 | 431), "{status}");
        }
        _ => {
            let mut stream = connect(from, to);
            stream.write_all(b"POST /api/v1/login HTTP/1.1\r\nhost: 127.0").unwrap();
            slow.push(stream);
        }
    }
}

/// Sends `logins` log-ins that fail and `others` other requests from four threads and many
/// addresses, and asks for pages, log-ins and receipts meanwhile.
fn flood(logins: u64, others: u64) {
    let office = TestOffice::new();
    let officer = office.user("officer", &[(Role::Operator, "*")]);
    let (token, digest) = new_token().unwrap();
    office
        .console
        .act(move |store, now| {
            let by = crate::office::console::audit::record::Origin::office();
            store.reset_user(&by, now, officer, &digest)
        })
        .unwrap();
    office.console.redeem(token.reveal(), &Secret::new(PASSWORD.to_owned()), "127.0.0.1").unwrap();
    let cookie = office.session(officer, true);
    let to = office.web.address;
    let is_over = AtomicBool::new(false);
    let (mut pages, mut receipts, mut rounds) = (Duration::ZERO, Duration::ZERO, 0);
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..4_u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Seeded(0x007a_13a7 + thread);
                    let mut slow = Vec::new();
                    for n in 0..(logins + others) / 4 {
                        // Six requests from an address: five are answered by a hash.
                        let address = n / 6;
                        let from = Ipv4Addr::new(
                            127,
                            1 + thread as u8,
                            (address >> 8) as u8,
                            1 + (address & 0x7f) as u8,
                        );
                        if random.below(logins + others) < logins {
                            wrong_login(&mut random, from, to);
                        } else {
                            hostile(&mut random, from, to, &mut slow);
                        }
                        let open = slow.len().saturating_sub(12);
                        slow.drain(..open);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            for path in ["/api/v1/sites", "/api/v1/motion-events", "/"] {
                assert_eq!(office.get(path, &cookie).status, 200, "{path}");
            }
            pages = pages.max(began.elapsed() / 3);
            receipts = receipts.max(office.receipt(100 + rounds));
            rounds += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    println!(
        "{logins} log-ins, {others} others: page {pages:?}, receipt {receipts:?} at most in {rounds} rounds"
    );
    assert!(pages < ANSWER_MAX && receipts < ANSWER_MAX, "page {pages:?}, receipt {receipts:?}");
    // The officer, whose name was tried from many addresses, is not locked at his own.
    let login = json!({"name": "officer", "password": PASSWORD});
    assert_eq!(office.change("POST", "/api/v1/login", "", &login).status, 204);
    assert!(office.console.verify().unwrap().ok);
}

#[test]
fn a_seeded_flood_of_strangers_disturbs_no_other() {
    flood(120, 60);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn two_thousand_wrong_logins_disturb_no_other() {
    flood(2_000, 400);
}
