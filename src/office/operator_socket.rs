//! Requests of the command line to the running office, over a socket in the archive's directory.
//!
//! The archive thread alone writes locks, so `taimat office lock` hands its request to the office that
//! runs. Only processes of the same user, and root, are answered.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: uses sockets, reads or writes files, starts a task, waits"
)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::archive_link::{ArchiveClient, NewLock};
use super::error::ArchiveError;
use crate::units::WallTime;

/// The socket in the archive's directory.
const NAME: &str = "office.sock";
/// Bytes of a request and of an answer at most: a reason has 200.
const MESSAGE_MAX: u64 = 4 << 10;
/// Requests at once at most: a person, some scripts, and clients that say nothing. Further ones wait
/// until one has ended, a silent client for two seconds.
const REQUESTS_MAX: usize = 32;
/// Time for a request to arrive, and for its answer to be taken: the command line writes it at once.
const IO_TIMEOUT: Duration = Duration::from_secs(2);
/// Time in which a request is handed to the archive thread and answered: it may be in a slice of the
/// retention. The office does nothing for an older one, of which the command line has said that it
/// failed; one that waits for the archive thread then may still be done, and its answer says so.
const BEGIN_WITHIN: Duration = Duration::from_secs(25);
/// Time that the command line waits: a request that has begun is answered meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum OperatorRequest {
    /// Lock the files of a site between two times.
    Lock {
        /// Site id.
        site: String,
        /// Start, RFC 3339.
        from: String,
        /// End, RFC 3339.
        to: String,
        /// Reason.
        reason: String,
    },
    /// End a lock.
    Unlock {
        /// Its number.
        id: i64,
    },
}

/// A request with the end of its time: milliseconds of the machine's monotonic clock, which both
/// processes read.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    until_ms: i64,
    #[serde(flatten)]
    request: OperatorRequest,
}

/// Milliseconds of the machine's monotonic clock.
fn monotonic_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    error: Option<String>,
}

/// The socket's path by an open directory: a path of an archive may be longer than the 108 bytes that
/// a socket's name may have.
fn place(dir: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Listens in the directory of an archive, inside of a runtime. The caller has the archive's lock, so
/// a socket that is there is of an office that ended.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    let (_open, path) = place(dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&path)
}

/// Answers requests, each in a task of its own, until the runtime ends.
pub async fn serve(listener: UnixListener, archive: ArchiveClient) {
    let mut requests = JoinSet::new();
    loop {
        // Also takes the results of those that have ended.
        while requests.try_join_next().is_some() {}
        if requests.len() >= REQUESTS_MAX {
            requests.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let archive = archive.clone();
                requests.spawn(async move {
                    if let Err(error) = answer(stream, &archive).await {
                        tracing::warn!(%error, "request of the command line not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "requests of the command line not accepted; the office tries again in 2 s");
                tokio::time::sleep(IO_TIMEOUT).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, archive: &ArchiveClient) -> io::Result<()> {
    let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if peer != own && peer != 0 {
        return Err(io::Error::other(format!("it comes from the user with the number {peer}")));
    }
    let mut text = Vec::new();
    let mut bounded = (&mut stream).take(MESSAGE_MAX);
    let arrived = timeout(IO_TIMEOUT, bounded.read_to_end(&mut text)).await;
    let outcome = match arrived {
        Err(_) => Err(format!("no whole request within {IO_TIMEOUT:?}")),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(_)) => match serde_json::from_slice(&text) {
            Ok(message) => within(message, archive).await,
            Err(error) => Err(format!("the request cannot be read: {error}")),
        },
    };
    let reply = match outcome {
        Ok(id) => Reply { id, error: None },
        Err(error) => Reply { id: 0, error: Some(error) },
    };
    let bytes = serde_json::to_vec(&reply)?;
    timeout(IO_TIMEOUT, stream.write_all(&bytes)).await??;
    match arrived {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, reply.error.unwrap_or_default())),
    }
}

/// Carries out a request that is not too old.
async fn within(message: Message, archive: &ArchiveClient) -> Result<i64, String> {
    let left = u64::try_from(message.until_ms - monotonic_ms()).unwrap_or(0);
    if left == 0 {
        return Err(
            "the office was busy for too long and did not begin it; nothing was changed: try again"
                .to_owned(),
        );
    }
    match timeout(Duration::from_millis(left), execute(message.request, archive)).await {
        Ok(done) => done.map_err(|error| error.line()),
        Err(_) => {
            Err("the archive was busy for too long: `taimat office lock` shows whether it was done"
                .to_owned())
        }
    }
}

async fn execute(request: OperatorRequest, archive: &ArchiveClient) -> Result<i64, ArchiveError> {
    match request {
        OperatorRequest::Lock { site, from, to, reason } => {
            let time = |text: &str| WallTime::parse(text).map_err(ArchiveError::Invalid);
            let (from, to) = (time(&from)?, time(&to)?);
            archive.lock(NewLock { site, from, to, reason }).await
        }
        OperatorRequest::Unlock { id } => archive.unlock(id).await.map(|()| id),
    }
}

/// Hands a request to the office that runs on the archive in `dir`; returns the number of the lock.
///
/// # Errors
/// No office answers, or it refuses.
pub fn ask(dir: &Path, request: &OperatorRequest) -> anyhow::Result<i64> {
    let (_open, path) = place(dir)?;
    let silent = |error: io::Error| {
        anyhow::anyhow!(
            "{}: an office receives into this archive and does not answer here ({error}): stop it, or lock in its console",
            dir.join(NAME).display()
        )
    };
    let mut stream = BlockingStream::connect(path).map_err(silent)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let until_ms = monotonic_ms() + BEGIN_WITHIN.as_millis() as i64;
    let message = Message { until_ms, request: request.clone() };
    stream.write_all(&serde_json::to_vec(&message)?).map_err(silent)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(silent)?;
    let mut text = Vec::new();
    stream.take(MESSAGE_MAX).read_to_end(&mut text).map_err(silent)?;
    let reply: Reply = serde_json::from_slice(&text)
        .map_err(|error| silent(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match reply.error {
        Some(error) => Err(anyhow::anyhow!(error)),
        None => Ok(reply.id),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::office::archive::Archive;
    use crate::office::archive_link::ArchiveLink;
    use crate::office::archive_thread;
    use crate::office::ingest_outcome::Now;
    use crate::office::retention::Retention;

    fn lock(site: &str) -> OperatorRequest {
        let [from, to] = ["2026-11-24T02:00:00Z", "2026-11-24T03:00:00Z"].map(str::to_owned);
        OperatorRequest::Lock { site: site.into(), from, to, reason: "theft".into() }
    }

    #[test]
    fn the_running_office_makes_and_ends_locks() {
        let temporary = tempfile::tempdir().unwrap();
        // Longer than a socket's name may be.
        let dir = temporary.path().join("x".repeat(120));
        let mut archive = Archive::open(&dir).unwrap();
        let state =
            br#"{"v":1,"state":"online","ring":"0000000000000001","boot":1,"conn":1,"t":""}"#;
        let now = Now { text: "2026-11-24T02:00:00.000Z", seconds: 1_795_485_600 };
        archive.take_all(&[("taimat/v1/km-17/up/state".into(), state.to_vec())], now).unwrap();
        let link = ArchiveLink::new(Arc::new(SystemClock::new()));
        let client = link.client();
        let (_intake, _answers) =
            archive_thread::start(archive, Retention::new(0, 0), link).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let refused = ask(&dir, &lock("km-17")).unwrap_err().to_string();
        assert!(refused.contains("does not answer here"), "{refused}");
        // One that an office left behind is replaced.
        std::fs::write(dir.join(NAME), "old").unwrap();
        let inside = runtime.enter();
        let listener = listen(&dir).unwrap();
        drop(inside);
        runtime.spawn(serve(listener, client));
        let number = ask(&dir, &lock("km-17")).unwrap();
        let locks = || Archive::open_read_only(&dir).unwrap().locks().unwrap();
        assert_eq!((locks()[0].id, locks()[0].reason.as_str()), (number, "theft"));
        for (request, says) in [
            (lock("km-99"), "no site km-99"),
            (OperatorRequest::Unlock { id: 4_711 }, "4711"),
            (
                OperatorRequest::Lock {
                    site: "km-17".into(),
                    from: "x".into(),
                    to: "y".into(),
                    reason: "r".into(),
                },
                "x",
            ),
        ] {
            let error = ask(&dir, &request).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // The command line has said that it failed: it must not be done later.
        let (_open, path) = place(&dir).unwrap();
        let mut stream = BlockingStream::connect(path).unwrap();
        let unlock = OperatorRequest::Unlock { id: number };
        let message = Message { until_ms: monotonic_ms() - 1, request: unlock };
        stream.write_all(&serde_json::to_vec(&message).unwrap()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut late = String::new();
        stream.read_to_string(&mut late).unwrap();
        assert!(late.contains("nothing was changed"), "{late}");
        assert_eq!(locks().len(), 1);
        // What is no request, and what is too long, is answered or cut off; the next one is served.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'['; 9_000]] {
            let (_open, path) = place(&dir).unwrap();
            let mut stream = BlockingStream::connect(path).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        assert_eq!(ask(&dir, &OperatorRequest::Unlock { id: number }).unwrap(), number);
        assert!(locks().is_empty());
        // Clients that say nothing delay no one, and each hears why it is cut off.
        let idle: Vec<BlockingStream> = (0..2 * REQUESTS_MAX)
            .map(|_| BlockingStream::connect(place(&dir).unwrap().1).unwrap())
            .collect();
        let started = std::time::Instant::now();
        ask(&dir, &lock("km-17")).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let mut answer = String::new();
        idle.into_iter().next().unwrap().read_to_string(&mut answer).unwrap();
        assert!(answer.contains("no whole request"), "{answer}");
    }
}
