//! ONVIF camera, simulated: answers WS-Discovery and SOAP from templates of its own; it shares no reader of XML or HTTP with the client.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task, uses the network"
)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::rtsp_auth::{challenge, digest_matches};
use crate::units::base64;

/// Bytes of a request at most.
const REQUEST_MAX: usize = 64 * 1024;
/// How long a camera waits for a request, and between two looks whether it stops.
const WAIT: Duration = Duration::from_millis(200);
/// How often the odd camera answers a probe.
const DUPLICATES: usize = 100;
/// Seconds that a token may be old.
const TOKEN_AGE: i64 = 5;

/// How a camera asks for its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// It answers everyone.
    Open,
    /// `UsernameToken` with a digest, and a time near the camera's.
    Token,
    /// HTTP Digest.
    Digest,
}

/// Configuration of the camera.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its addresses: IPv4, IPv6 link-local or both.
    pub addresses: Vec<IpAddr>,
    /// Number of the interface on which it hears probes; 0 hears none.
    pub interface: u32,
    /// TCP port on each address; 0 for any free one.
    pub port: u16,
    /// Addresses of main and sub-stream, as it names them.
    pub uris: [String; 2],
    /// How it asks for the login `admin`, `taimat`. It answers its time only to questions without a login; the odd
    /// camera only to those with one.
    pub login: Login,
    /// Seconds that its clock is ahead.
    pub ahead: i64,
    /// Everything that cameras do otherwise: its clock stands in 1970, it hides it without a login, it answers a hundred times, in odd
    /// XML and odd HTTP, in Latin-1, with faults and addresses that do not work.
    pub is_odd: bool,
}

struct Shared {
    options: Options,
    port: AtomicU16,
    asked: Mutex<Vec<String>>,
    answers: AtomicUsize,
    stop: AtomicBool,
    started: i64,
}

/// A running camera; stops when dropped.
pub struct OnvifCamera {
    shared: Arc<Shared>,
}

impl OnvifCamera {
    /// Starts listening.
    ///
    /// # Errors
    /// An address or port cannot be used.
    pub fn start(options: Options) -> anyhow::Result<OnvifCamera> {
        let shared = Arc::new(Shared {
            port: AtomicU16::new(options.port),
            asked: Mutex::default(),
            answers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            started: unix_seconds(),
            options,
        });
        for ip in &shared.options.addresses {
            let address =
                with_scope(*ip, shared.port.load(Ordering::Relaxed), shared.options.interface);
            let listener =
                TcpListener::bind(address).with_context(|| format!("ONVIF camera at {address}"))?;
            shared.port.store(listener.local_addr()?.port(), Ordering::Relaxed);
            listener.set_nonblocking(true)?;
            let serving = shared.clone();
            thread::Builder::new()
                .name("onvif".into())
                .spawn(move || serve(&listener, &serving))?;
            if shared.options.interface != 0 {
                let (heard, hearing) = (multicast(*ip, shared.options.interface)?, shared.clone());
                let local = with_scope(*ip, 0, shared.options.interface);
                let answers = UdpSocket::bind(local)?;
                thread::Builder::new()
                    .name("ws-discovery".into())
                    .spawn(move || answer_probes(&heard, &answers, &hearing))?;
            }
        }
        Ok(OnvifCamera { shared })
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.shared.port.load(Ordering::Relaxed)
    }

    /// The names of the questions it answered or refused, with how the login was proven.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for OnvifCamera {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn with_scope(ip: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, interface).into()
        }
        other => SocketAddr::new(other, port),
    }
}

/// A socket that hears probes beside those of other cameras.
fn multicast(ip: IpAddr, interface: u32) -> anyhow::Result<UdpSocket> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match ip {
        IpAddr::V4(v4) => {
            rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3702)))?;
            sockopt::set_ip_add_membership(&socket, &Ipv4Addr::new(239, 255, 255, 250), &v4)?;
        }
        IpAddr::V6(_) => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            rustix::net::bind(&socket, &"[::]:3702".parse::<SocketAddr>()?)?;
            sockopt::set_ipv6_add_membership(&socket, &"ff02::c".parse()?, interface)?;
        }
    }
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(WAIT))?;
    Ok(socket)
}

fn answer_probes(heard: &UdpSocket, answers: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 8192];
    let mut last = String::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = heard.recv_from(&mut buffer) else { continue };
        let probe = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let id = between(&probe, "MessageID>", "<").unwrap_or_default().to_owned();
        // A repeated probe is answered once.
        if !probe.contains("Probe>") || id == last || !probe.contains("NetworkVideoTransmitter") {
            continue;
        }
        last.clone_from(&id);
        let text = if shared.options.is_odd { odd_match(shared) } else { plain_match(shared, &id) };
        for _ in 0..if shared.options.is_odd { DUPLICATES } else { 1 } {
            let _ = answers.send_to(&text, from);
        }
        if shared.options.is_odd {
            let _ = answers.send_to(b"<<<not xml", from);
            let printer = "<Envelope><Body><ProbeMatches><ProbeMatch><Types>Printer</Types></ProbeMatch></ProbeMatches></Body></Envelope>";
            let _ = answers.send_to(printer.as_bytes(), from);
        }
    }
}

/// The text between two others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let from = text.find(begin)? + begin.len();
    text[from..].split(end).next()
}

fn plain_match(shared: &Shared, id: &str) -> Vec<u8> {
    let port = shared.port.load(Ordering::Relaxed);
    let own = shared.options.addresses[0];
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\"><SOAP-ENV:Header><wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header>\
         <SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch><wsa:EndpointReference><wsa:Address>urn:uuid:00000000-0000-4000-8000-{port:012}</wsa:Address>\
         </wsa:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types>\
         <d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Road%20camera</d:Scopes>\
         <d:XAddrs>http://{own}:{port}/onvif/device_service</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch>\
         </d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )
    .into_bytes()
}

/// Default namespaces, blanks, CDATA, a name in Latin-1, and addresses of which one works.
fn odd_match(shared: &Shared) -> Vec<u8> {
    let port = shared.port.load(Ordering::Relaxed);
    let text = format!(
        "\r\n\r\n<?xml version='1.0' encoding='ISO-8859-1'?><!-- odd --><Envelope xmlns='http://www.w3.org/2003/05/soap-envelope'>\n <Body>\n\
         <x:ProbeMatches xmlns:x='http://schemas.xmlsoap.org/ws/2005/04/discovery'><x:ProbeMatch>\n\
         <EndpointReference xmlns='urn:a'><Address>\n urn:uuid:odd{port} </Address></EndpointReference>\
         <x:Types></x:Types><x:Scopes>\n  onvif://www.onvif.org/name/Caf\u{e9}\n\tonvif://www.onvif.org/hardware/ODD </x:Scopes>\
         <x:XAddrs>https://10.255.255.1/onvif/device_service http://[fe80::dead]:1/no\n http://10.255.255.1/dead <![CDATA[http://0.0.0.0:{port}/odd]]>\
         </x:XAddrs></x:ProbeMatch></x:ProbeMatches></Body></Envelope>\0\0trailing"
    );
    latin_1(&text)
}

fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = shared.clone();
                let _ = thread::Builder::new().spawn(move || one_request(stream, &shared));
            }
            Err(_) => thread::sleep(WAIT / 10),
        }
    }
}

fn one_request(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(WAIT * 10)).ok()?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let text = loop {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        let wanted = between(&text, "Content-Length: ", "\r\n").and_then(|n| n.parse().ok());
        if body.zip(wanted).is_some_and(|(body, wanted): (usize, usize)| body >= wanted) {
            break text;
        }
        if bytes.len() > REQUEST_MAX {
            return None;
        }
    };
    let answer = respond(&text, shared);
    stream.write_all(&answer).ok()
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Seconds since 1970 of the camera's clock: that of the odd one begins in 1970 when it is switched on.
fn seconds(shared: &Shared) -> i64 {
    let begin = if shared.options.is_odd { shared.started } else { 0 };
    unix_seconds() - begin + shared.options.ahead
}

fn respond(request: &str, shared: &Shared) -> Vec<u8> {
    let question = between(request, "Body><", " ").unwrap_or_default().to_owned();
    let is_open = shared.options.login == Login::Open
        || question == "GetSystemDateAndTime" && !shared.options.is_odd;
    let proven = is_open || proven(request, shared);
    let note = format!("{question} {}", if proven { "answered" } else { "refused" });
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    if !proven {
        return refusal(shared);
    }
    let (status, inner) = match question.as_str() {
        "GetSystemDateAndTime" if shared.options.is_odd || !request.contains("Security") => {
            ("200 OK", time(shared))
        }
        "GetDeviceInformation" => (
            "200 OK",
            "<tds:GetDeviceInformationResponse><tds:Manufacturer>Simcam</tds:Manufacturer><tds:Model>Road 1</tds:Model>\
             <tds:FirmwareVersion>1.0 caf\u{e9}</tds:FirmwareVersion></tds:GetDeviceInformationResponse>".to_owned(),
        ),
        "GetServices" if !shared.options.is_odd => ("200 OK", services(shared)),
        "GetCapabilities" => ("200 OK", capabilities(shared)),
        "GetProfiles" => ("200 OK", profiles(shared.options.is_odd)),
        "GetStreamUri" => ("200 OK", stream_uri(request, shared)),
        _ => (
            "500 Internal Server Error",
            "<SOAP-ENV:Fault><SOAP-ENV:Code><SOAP-ENV:Value>SOAP-ENV:Receiver</SOAP-ENV:Value><SOAP-ENV:Subcode>\
             <SOAP-ENV:Value>ter:ActionNotSupported</SOAP-ENV:Value></SOAP-ENV:Subcode></SOAP-ENV:Code><SOAP-ENV:Reason>\
             <SOAP-ENV:Text xml:lang=\"en\">not\x1b[2J supported</SOAP-ENV:Text></SOAP-ENV:Reason></SOAP-ENV:Fault>".to_owned(),
        ),
    };
    framed(status, "", &inner, shared)
}

fn refusal(shared: &Shared) -> Vec<u8> {
    if shared.options.login == Login::Digest {
        let header = format!("WWW-Authenticate: {}\r\n", challenge(false));
        return framed("401 Unauthorized", &header, "", shared);
    }
    let fault = "<SOAP-ENV:Fault><SOAP-ENV:Code><SOAP-ENV:Value>SOAP-ENV:Sender</SOAP-ENV:Value><SOAP-ENV:Subcode>\
        <SOAP-ENV:Value>ter:NotAuthorized</SOAP-ENV:Value></SOAP-ENV:Subcode></SOAP-ENV:Code></SOAP-ENV:Fault>";
    framed("400 Bad Request", "", fault, shared)
}

/// An envelope in HTTP. The odd camera answers in turn without a length and in chunks, in Latin-1, with other prefixes.
fn framed(status: &str, headers: &str, inner: &str, shared: &Shared) -> Vec<u8> {
    let date = jiff::Timestamp::from_second(seconds(shared)).unwrap_or_default();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let envelope = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><SOAP-ENV:Envelope xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:tds=\"http://www.onvif.org/ver10/device/wsdl\" xmlns:trt=\"http://www.onvif.org/ver10/media/wsdl\" \
         xmlns:tt=\"http://www.onvif.org/ver10/schema\" xmlns:ter=\"http://www.onvif.org/ver10/error\">\
         <SOAP-ENV:Body>{inner}</SOAP-ENV:Body></SOAP-ENV:Envelope>"
    );
    if !shared.options.is_odd {
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}Content-Type: application/soap+xml\r\nContent-Length: {}\r\n\r\n",
            envelope.len()
        );
        return [head.as_bytes(), envelope.as_bytes()].concat();
    }
    let envelope = envelope.replace("SOAP-ENV:", "E:").replace("xmlns:SOAP-ENV", "xmlns:E");
    let envelope = latin_1(&envelope.replace("tt:", "").replace("><", ">\r\n   <"));
    if shared.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        let head = format!("HTTP/1.0 {status}\nDate : {date}\n{headers}\n");
        return [head.as_bytes(), envelope.as_slice()].concat();
    }
    let mut out =
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}Transfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    for piece in envelope.chunks(97) {
        out.extend(format!("{:X};odd=1\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn time(shared: &Shared) -> String {
    let moment = |name: &str, seconds: i64| {
        let text = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let text = text.strftime("<tt:Time><tt:Hour>%H</tt:Hour><tt:Minute>%M</tt:Minute><tt:Second>%S</tt:Second></tt:Time><tt:Date><tt:Year>%Y</tt:Year><tt:Month>%m</tt:Month><tt:Day>%d</tt:Day></tt:Date>");
        format!("<tt:{name}>{text}</tt:{name}>")
    };
    let now = seconds(shared);
    let (zone, kind, local) = match shared.options.is_odd {
        true => ("CST-8", "Manual", moment("LocalDateTime", now + 8 * 3600)),
        false => ("<![CDATA[<+07>-7]]>", "NTP", String::new()),
    };
    format!(
        "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>{kind}</tt:DateTimeType>\
         <tt:DaylightSavings>false</tt:DaylightSavings><tt:TimeZone><tt:TZ>{zone}</tt:TZ></tt:TimeZone>{}{local}\
         </tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>",
        moment("UTCDateTime", now)
    )
}

fn services(shared: &Shared) -> String {
    let (own, port) = (shared.options.addresses[0], shared.port.load(Ordering::Relaxed));
    let service = |namespace: &str, path: &str| {
        format!(
            "<tds:Service><tds:Namespace>http://www.onvif.org/{namespace}</tds:Namespace><tds:XAddr>http://{own}:{port}/{path}</tds:XAddr></tds:Service>"
        )
    };
    let all = [
        service("ver10/device/wsdl", "onvif/device_service"),
        service("ver10/media/wsdl", "onvif/media"),
    ];
    format!("<tds:GetServicesResponse>{}</tds:GetServicesResponse>", all.concat())
}

fn capabilities(shared: &Shared) -> String {
    let port = shared.port.load(Ordering::Relaxed);
    format!(
        "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://169.254.1.1:{port}/odd/media</tt:XAddr></tt:Media>\
         </tds:Capabilities></tds:GetCapabilitiesResponse>"
    )
}

fn profiles(is_odd: bool) -> String {
    let profile = |token: &str, size: (u32, u32), gop: u32, coding: &str| {
        format!(
            "<trt:Profiles fixed=\"true\" token=\"{token}\"><tt:Name><![CDATA[{token} & co]]></tt:Name><tt:VideoSourceConfiguration token=\"v\">\
             <tt:SourceToken>source0</tt:SourceToken></tt:VideoSourceConfiguration><tt:VideoEncoderConfiguration token=\"e\"><tt:Name>{coding}</tt:Name>\
             <tt:Encoding>{coding}</tt:Encoding><tt:Resolution><tt:Width>{}</tt:Width><tt:Height>{}</tt:Height></tt:Resolution><tt:RateControl>\
             <tt:FrameRateLimit>10</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval><tt:BitrateLimit>2000</tt:BitrateLimit></tt:RateControl>\
             <tt:H264><tt:GovLength>{gop}</tt:GovLength></tt:H264></tt:VideoEncoderConfiguration></trt:Profiles>",
            size.0, size.1
        )
    };
    let (gop, coding) = if is_odd { (250, "H265+") } else { (10, "H264") };
    let all = [
        profile("jpeg", (640, 480), 1, "JPEG"),
        profile("sub", (320, 180), 10, "H264"),
        profile("main", (640, 360), gop, coding),
        "<trt:Profiles token=\"audio\"><tt:Name>audio</tt:Name></trt:Profiles>".to_owned(),
    ];
    format!("<trt:GetProfilesResponse>{}</trt:GetProfilesResponse>", all.concat())
}

fn stream_uri(request: &str, shared: &Shared) -> String {
    let token = between(request, "ProfileToken>", "<").unwrap_or_default();
    let uri = shared.options.uris[usize::from(token != "main")].replace('&', "&amp;");
    format!(
        "<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{uri}</tt:Uri><tt:InvalidAfterConnect>false</tt:InvalidAfterConnect>\
         </trt:MediaUri></trt:GetStreamUriResponse>"
    )
}

fn proven(request: &str, shared: &Shared) -> bool {
    if shared.options.login == Login::Digest {
        let given = between(request, "Authorization: Digest ", "\r\n");
        return given
            .and_then(|given| digest_matches(given, "POST", "admin", "taimat"))
            .unwrap_or(false);
    }
    let field = |name: &str| {
        let from = request.find(&format!(":{name}"))?;
        between(&request[from..], ">", "<")
    };
    let token = || {
        let (user, digest, nonce, created) =
            (field("Username>")?, field("Password ")?, field("Nonce ")?, field("Created>")?);
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        for part in [from_base64(nonce).as_slice(), created.as_bytes(), b"taimat"] {
            context.update(part);
        }
        let at = created.parse::<jiff::Timestamp>().ok()?.as_second();
        let fresh = (at - seconds(shared)).abs() <= TOKEN_AGE;
        Some(user == "admin" && digest == base64(context.finish().as_ref()) && fresh)
    };
    token().unwrap_or(false)
}

/// Bytes of a text in Base 64.
fn from_base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
