//! The web listener: connections, their limits, TLS, and the end of all of them.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: uses the network, starts tasks, reads a clock, waits"
)]

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::limits::{self, Connections};

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The connection is encrypted.
    pub(crate) is_tls: bool,
}

/// A listener whose connections are answered by a router.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    /// `None`: plain HTTP, on loopback only.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
    pub(crate) open: Arc<Mutex<Connections>>,
}

/// Counts a connection until it is dropped.
struct Counted(Arc<Mutex<Connections>>, IpAddr);

impl Counted {
    fn open(connections: &Arc<Mutex<Connections>>, address: IpAddr) -> Option<Counted> {
        // A count is whole after any panic.
        let mut counts = connections.lock().unwrap_or_else(PoisonError::into_inner);
        counts.open(address).then(|| Counted(connections.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).close(self.1);
    }
}

impl Server {
    /// Serves until `stop` is true; open requests then have [`limits::SHUTDOWN_TIMEOUT`].
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let (alive, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
        let mut refused = 0_u64;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, from)) => match Counted::open(&self.open, from.ip()) {
                    Some(counted) => {
                        self.start(stream, from, counted, (stop.clone(), alive.clone()))
                    }
                    None => {
                        refused += 1;
                        if refused.is_power_of_two() {
                            tracing::warn!(from = %from.ip(), refused, "web connection refused, too many are open");
                        }
                    }
                },
                Err(error) => {
                    // Of a connection that ended before it was accepted, or without file descriptors.
                    tracing::warn!(%error, "web connection not accepted; the office waits a moment");
                    sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        drop(alive);
        let _ = timeout(limits::SHUTDOWN_TIMEOUT, all_ended.recv()).await;
    }

    fn start(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        counted: Counted,
        (stop, alive): (watch::Receiver<bool>, tokio::sync::mpsc::Sender<()>),
    ) {
        let (tls, router) = (self.tls.clone(), self.router.clone());
        tokio::spawn(async move {
            let _until_dropped = (counted, alive);
            // Small answers follow each other; without it each waits for the client's ACK.
            let _ = stream.set_nodelay(true);
            let peer = Peer { address: from.ip().to_canonical(), is_tls: tls.is_some() };
            let stream = Stalling::new(stream);
            let Some(tls) = tls else {
                return serve_http1(stream, service(router, peer), stop).await;
            };
            // A handshake that fails or is too slow is a scanner's, or a browser's that does not
            // trust the certificate: nothing to tell.
            let Ok(Ok(stream)) = timeout(limits::HEAD_TIMEOUT, tls.accept(stream)).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(stream, service(router, peer), stop).await;
            } else {
                serve_http1(stream, service(router, peer), stop).await;
            }
        });
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The router, with the client's address in each request.
fn service(
    router: Router,
    peer: Peer,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = Answering>
+ Clone {
    let inner = TowerToHyperService::new(router);
    service_fn(move |mut request: Request<Incoming>| -> Answering {
        request.extensions_mut().insert(peer);
        Box::pin(inner.call(request))
    })
}

async fn serve_http1<IO, S>(io: IO, service: S, mut stop: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_buf_size(limits::HEAD_MAX)
        .half_close(false);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(limits::SHUTDOWN_TIMEOUT, connection).await;
}

async fn serve_http2<IO, S>(io: IO, service: S, mut stop: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(limits::HEAD_MAX as u32)
        .max_concurrent_streams(limits::REQUESTS_OF_CONNECTION)
        .keep_alive_interval(limits::KEEP_ALIVE)
        .keep_alive_timeout(limits::HEAD_TIMEOUT)
        .max_send_buf_size(limits::FILE_PIECE);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(limits::SHUTDOWN_TIMEOUT, connection).await;
}

/// A socket whose writes fail after [`limits::STALL_TIMEOUT`] without progress: a client that
/// reads nothing would hold its answer in memory for ever.
struct Stalling {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    fn new(stream: TcpStream) -> Stalling {
        Stalling { stream, stalled: None }
    }

    fn check<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limits::STALL_TIMEOUT)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
