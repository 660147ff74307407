//! `taimat discover`: finds cameras on the local network and shows their streams, clocks and what to set in them.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: starts a thread or task, reads or writes files"
)]

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::Usage;
use super::run::{on_signal, runtime};
use crate::discover::config_text::{Surroundings, config_text};
use crate::discover::device::{PATH, Service};
use crate::discover::devices::Device;
use crate::discover::http_client::ask_all;
use crate::discover::interfaces::Interface;
use crate::discover::multicast::{Search, interfaces, search};
use crate::discover::report::{self, Camera};
use crate::escape::{shown, shown_json, shown_path};
use crate::redact::{KnownLogin, masked};
use crate::settings::{Login, load, parse};
use crate::storage::disk::{DirFault, RealDisk};
use crate::units::SiteId;

/// Ports where cameras have ONVIF, likeliest first: the usual one, and those of Hikvision, Dahua, XM, Tapo and Foscam.
const PORTS: [u16; 7] = [80, 8000, 8080, 8899, 2020, 888, 5000];

/// End of `taimat discover --help`.
const AFTER_HELP: &str = "\
Cameras are found by WS-Discovery (UDP 3702, IPv4 and IPv6 link-local) and asked by ONVIF over HTTP, at the address
that answered alone. Many have ONVIF switched off: look under Network, Integration or Platform access of their web
page. A firewall must let UDP answers in; --host asks one camera without a search.

The login is sent as a digest, never as it is, to each camera that asks for one, and at most three times.

Table: per camera its streams (main is recorded, sub analysed), then ! what to set in it, and ? what it did not
answer. Logins in addresses are left out or shown as ***.

Examples:
  taimat discover
  taimat discover --interface eth0 --login-file camera.login --json
  taimat discover --host 192.168.1.20 --login-file camera.login --write taimat.toml --site km-17

docs/discover.md has an example with explanations.

Exit codes: 0 a camera with a stream was found (and FILE written), 1 none was found, or stopped by a signal,
2 wrong usage: also several cameras and no --camera, a FILE that exists, a directory of --ring that cannot be used.";

/// Arguments of `taimat discover`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Search on this network interface alone, e.g. eth0.
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    interface: Option<String>,
    /// Ask this camera without a search; IPv6 in brackets, link-local as [fe80::1%eth0].
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    host: Option<String>,
    /// A file with one line user:password, for cameras that ask for a login.
    #[arg(long, value_name = "FILE")]
    login_file: Option<PathBuf>,
    /// Time of the search, seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// One JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Write a configuration that records this camera, with its addresses, --login-file, --site and --ring; an
    /// existing file is never overwritten. Set the broker in it, then run `taimat check-config FILE`.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// With --write: the number of the camera in the table, or its address.
    #[arg(long, value_name = "NUMBER|ADDRESS", requires = "write")]
    camera: Option<String>,
    /// With --write: id of the site.
    #[arg(long, default_value = "camera-1", requires = "write")]
    site: String,
    /// With --write: directory of the recording.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/taimat/ring", requires = "write")]
    ring: PathBuf,
}

/// Finds and asks cameras. Exit code 1 if none has a stream.
///
/// # Errors
/// Wrong usage, or the network cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let login = args.login_file.as_deref().map(read_login).transpose()?;
    let known = login.as_ref().map(Login::known).unwrap_or_default();
    let written = args.write.as_deref().map(|path| Target::new(path, &args)).transpose()?;
    let runtime = runtime().build()?;
    let found = runtime.block_on(async {
        let mut stop = on_signal()?;
        let (host, only) = (args.host.clone(), args.interface.clone());
        let seconds = Duration::from_secs(args.seconds);
        let work = tokio::task::spawn_blocking(move || find(host, only, seconds, login));
        tokio::select! {
            found = work => Ok(Some(found.context("the search")??)),
            _ = stop.wait_for(|stop| *stop) => anyhow::Ok(None),
        }
    });
    // Threads that wait for a camera end with the process.
    runtime.shutdown_background();
    let Some(cameras) = found? else {
        eprintln!("stopped");
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        println!("{}", shown_json(&without_login(report::json(&cameras), &known))?);
    } else if cameras.iter().any(|camera| args.host.is_none() || !is_silent(camera)) {
        println!("{}", known.hidden(report::table(&cameras).trim_end()));
    }
    if !cameras.iter().any(|camera| camera.main.is_some()) {
        eprintln!("{}", known.hidden(&nothing(args.host.as_deref(), &cameras)));
        return Ok(ExitCode::FAILURE);
    }
    if let Some(target) = written {
        target.write(chosen(&cameras, args.camera.as_deref())?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The document with the login hidden in all its texts: a camera may repeat it.
fn without_login(value: Value, known: &KnownLogin) -> Value {
    match value {
        Value::String(text) => known.hidden(&text).into(),
        Value::Array(values) => {
            values.into_iter().map(|value| without_login(value, known)).collect()
        }
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without_login(value, known)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// True for what gave no sign of ONVIF: a camera gives its clock or its model without a login.
fn is_silent(camera: &Camera) -> bool {
    camera.clock.is_none() && camera.model.is_empty()
}

fn nothing(host: Option<&str>, cameras: &[Camera]) -> String {
    match host {
        _ if cameras.is_empty() => {
            "no camera answered: is it in this network, is ONVIF switched on in it, does a firewall drop UDP answers? --host ADDRESS asks it without a search".into()
        }
        Some(host) if cameras.iter().all(is_silent) => {
            let answers: Vec<&str> = cameras.iter().flat_map(|camera| &camera.problems).map(String::as_str).collect();
            let ports = match split_host(host) {
                Ok((_, Some(port))) => format!("port {port}"),
                _ => format!("the ports {}", PORTS.map(|port| port.to_string()).join(", ")),
            };
            format!(
                "{} gave no answer of ONVIF on {ports} ({}): it is no camera with ONVIF, or it is switched off in it; look for ONVIF, Integration or Platform access on its web page, and name its port if it is another one (--host ADDRESS:PORT)",
                shown(host),
                shown(&masked(&answers.join("; ")))
            )
        }
        _ => "no camera named a stream: the lines with ? say why".into(),
    }
}

/// One line `user:password`, by the rules of `camera.login_file`.
fn read_login(path: &Path) -> anyhow::Result<Login> {
    let text = format!(
        "site = \"discover\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = \"rtsp://localhost/\"\nlogin_file = {}\n",
        toml::Value::from(path.display().to_string())
    );
    let settings = parse::parse(&text, &load::read).map_err(|problems| {
        Usage(problems.to_string().replace("camera.login_file", "--login-file"))
    })?;
    settings.camera.login.context("--login-file holds no login")
}

/// The search and the questions; blocks.
fn find(
    host: Option<String>,
    only: Option<String>,
    how_long: Duration,
    login: Option<Login>,
) -> anyhow::Result<Vec<Camera>> {
    let progress = |text: &str| eprintln!("{}", shown(text));
    let all = interfaces()?;
    let devices = match &host {
        Some(host) => vec![device_at(host, &all)?],
        None => {
            let Search { devices, notes } =
                search(&usable(&all, only.as_deref())?, how_long, progress)?;
            notes.iter().for_each(|note| eprintln!("note: {}", shown(note)));
            devices
        }
    };
    let offset = jiff::Zoned::now().offset().seconds() / 60;
    let (count, mut done) = (devices.len(), 0);
    let has_login = login.is_some();
    let asked = ask_all(devices, login, |device, _| {
        done += 1;
        eprintln!("asked {} ({done} of {count})", device.address.ip());
    })?;
    let mut cameras: Vec<Camera> = asked
        .iter()
        .flat_map(|(device, answers)| report::cameras(device, answers, offset, has_login))
        .collect();
    for camera in &mut cameras {
        name_scopes(camera, &all);
    }
    Ok(cameras)
}

/// Shows the scope of a link-local address by its interface's name.
fn name_scopes(camera: &mut Camera, interfaces: &[Interface]) {
    let Some((ip, scope)) = camera.address.split_once('%') else { return };
    let named = interfaces.iter().find(|one| one.index.to_string() == scope);
    if let Some(interface) = named {
        camera.address = format!("{ip}%{}", interface.name);
    }
}

fn usable(all: &[Interface], only: Option<&str>) -> anyhow::Result<Vec<Interface>> {
    if let Some(name) = only {
        let Some(one) = all.iter().find(|interface| interface.name == name) else {
            let names: Vec<&str> = all.iter().map(|interface| interface.name.as_str()).collect();
            return Err(Usage(format!(
                "--interface {name}: there is none; there are {}",
                names.join(", ")
            ))
            .into());
        };
        if !one.is_usable() {
            return Err(
                Usage(format!("--interface {name}: it is down, or it cannot multicast")).into()
            );
        }
        return Ok(vec![one.clone()]);
    }
    let usable: Vec<Interface> = all.iter().filter(|one| one.is_usable()).cloned().collect();
    anyhow::ensure!(!usable.is_empty(), "no network interface is up and can multicast");
    Ok(usable)
}

/// The device of `--host`.
fn device_at(text: &str, interfaces: &[Interface]) -> anyhow::Result<Device> {
    let (host, port) =
        split_host(text).map_err(|reason| Usage(format!("--host {text}: {reason}")))?;
    let ports = port.map_or(PORTS.to_vec(), |port| vec![port]);
    let services = ports.iter().map(|port| Service { port: *port, path: PATH.into() }).collect();
    let address = match host.split_once('%') {
        Some((ip, scope)) => {
            let ip: Ipv6Addr =
                ip.parse().map_err(|_| Usage(format!("--host {text}: {ip} is no IPv6 address")))?;
            let index = interfaces.iter().find(|one| one.name == scope).map(|one| one.index);
            let index = index.or_else(|| scope.parse().ok());
            let index = index
                .ok_or_else(|| Usage(format!("--host {text}: there is no interface {scope}")))?;
            SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, index))
        }
        None => match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
                return Err(Usage(format!(
                    "--host {text}: a link-local address needs its interface: [{v6}%eth0]"
                ))
                .into());
            }
            Ok(ip) => SocketAddr::new(ip, 0),
            Err(_) => {
                let mut resolved =
                    (host, 0).to_socket_addrs().with_context(|| format!("--host {text}"))?;
                resolved.next().with_context(|| format!("--host {text}: it has no address"))?
            }
        },
    };
    Ok(Device { address, interface: String::new(), also: None, services, name: None })
}

/// Host and port of `ADDRESS[:PORT]`.
fn split_host(text: &str) -> Result<(&str, Option<u16>), String> {
    let port_of = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(format!("{text:?} is no port")),
    };
    if text.contains("//") || text.contains('@') {
        return Err("write the address alone, without http:// and without a login".into());
    }
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or("a bracket is missing")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, port_of(port)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{rest:?} is no port")),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address without brackets, which can have no port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) if !host.is_empty() => Ok((host, port_of(port)?)),
        Some(_) => Err("the address is missing".into()),
        None if text.is_empty() => Err("the address is missing".into()),
        None => Ok((text, None)),
    }
}

/// The camera of `--camera`, or the only one.
fn chosen<'a>(cameras: &'a [Camera], wanted: Option<&str>) -> anyhow::Result<&'a Camera> {
    let with_stream: Vec<&Camera> = cameras.iter().filter(|camera| camera.main.is_some()).collect();
    let found: Vec<&Camera> = match wanted {
        None => with_stream,
        Some(text) => match text.parse::<usize>() {
            Ok(number) => {
                number.checked_sub(1).and_then(|at| cameras.get(at)).into_iter().collect()
            }
            Err(_) => cameras.iter().filter(|camera| camera.address == text).collect(),
        },
    };
    match (found.as_slice(), wanted) {
        ([one], _) => Ok(one),
        ([], _) => Err(Usage(format!(
            "--camera {}: the table has no such camera; nothing was written",
            wanted.unwrap_or_default()
        ))
        .into()),
        (many, _) => Err(Usage(format!(
            "--write is for one camera, and {} fit: choose with --camera NUMBER; nothing was written",
            many.len()
        ))
        .into()),
    }
}

/// The file of `--write`, checked before the search.
struct Target {
    path: PathBuf,
    site: SiteId,
    ring: PathBuf,
    is_mounted: bool,
    login: Option<PathBuf>,
}

impl Target {
    fn new(path: &Path, args: &Args) -> anyhow::Result<Target> {
        if path.symlink_metadata().is_ok() {
            return Err(
                Usage(format!("{} exists and is never overwritten", shown_path(path))).into()
            );
        }
        let site =
            SiteId::parse(&args.site).map_err(|reason| Usage(format!("--site: {reason}")))?;
        let ring = std::path::absolute(&args.ring).context("--ring")?;
        let is_mounted = match RealDisk::check_dir(&ring, true) {
            Ok(()) => true,
            Err(DirFault::NotMounted(_)) => false,
            Err(fault) => return Err(Usage(format!("--ring: {fault}")).into()),
        };
        let login = args.login_file.as_deref().map(std::path::absolute).transpose()?;
        Ok(Target { path: path.to_owned(), site, ring, is_mounted, login })
    }

    fn write(&self, camera: &Camera) -> anyhow::Result<()> {
        let around = Surroundings {
            site: &self.site,
            ring: &self.ring,
            is_mounted: self.is_mounted,
            login: self.login.as_deref(),
        };
        let text = config_text(camera, &around).map_err(anyhow::Error::msg)?;
        parse::parse(&text, &load::read).map_err(|problems| {
            anyhow::anyhow!("{}: nothing was written:\n{problems}", shown_path(&self.path))
        })?;
        let file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let mut file = file.with_context(|| shown_path(&self.path))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let path = shown_path(&self.path);
        eprintln!(
            "wrote {path} for {}; next: taimat check-config {path}, then set [uplink] for the office",
            camera.address
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_a_camera_repeats_is_hidden_in_json() {
        let known = KnownLogin::new("admin", "main");
        let value = serde_json::json!({"main": [{"model": "main", "gop": 1, "sub": null}]});
        let wanted = serde_json::json!({"main": [{"model": "***", "gop": 1, "sub": null}]});
        assert_eq!(without_login(value, &known), wanted);
    }

    #[test]
    fn a_host_may_be_a_name_or_an_address_with_a_port() {
        for (text, wanted) in [
            ("192.168.1.20", ("192.168.1.20", None)),
            ("192.168.1.20:8899", ("192.168.1.20", Some(8899))),
            ("[fe80::1%eth0]:80", ("fe80::1%eth0", Some(80))),
            ("[2001:db8::1]", ("2001:db8::1", None)),
            ("2001:db8::1", ("2001:db8::1", None)),
            ("cam.local", ("cam.local", None)),
        ] {
            assert_eq!(split_host(text), Ok(wanted));
        }
        for text in ["", ":80", "a:0", "a:b", "[::1", "[::1]x", "http://a", "u:p@a"] {
            assert!(split_host(text).is_err(), "{text}");
        }
        assert!(device_at("fe80::1", &[]).unwrap_err().is::<Usage>());
        assert!(device_at("[fe80::1%nope]", &[]).unwrap_err().is::<Usage>());
        assert_eq!(device_at("[fe80::1%3]:81", &[]).unwrap().services.len(), 1);
    }

    #[test]
    fn what_is_no_camera_is_named_with_the_ports_tried() {
        let silent =
            Camera { problems: vec!["port 554: this is RTSP".into()], ..Camera::default() };
        let named = nothing(Some("192.0.2.7:554"), std::slice::from_ref(&silent));
        assert!(named.contains("on port 554 (port 554: this is RTSP)"), "{named}");
        let all = nothing(Some("192.0.2.7"), &[silent]);
        assert!(all.contains("on the ports 80, 8000, 8080, 8899, 2020, 888, 5000"), "{all}");
    }

    #[test]
    fn one_of_several_cameras_must_be_chosen() {
        let stream = report::Stream { url: "rtsp://a/".into(), profile: "p".into(), encoder: None };
        let camera = |address: &str, main: bool| Camera {
            address: address.into(),
            main: main.then(|| stream.clone()),
            ..Camera::default()
        };
        let cameras = [camera("a", true), camera("b", false), camera("c", true)];
        assert!(chosen(&cameras, None).unwrap_err().is::<Usage>());
        assert_eq!(chosen(&cameras[..2], None).unwrap().address, "a");
        assert_eq!(chosen(&cameras, Some("3")).unwrap().address, "c");
        assert_eq!(chosen(&cameras, Some("b")).unwrap().address, "b");
        for wanted in ["0", "4", "d"] {
            assert!(chosen(&cameras, Some(wanted)).unwrap_err().is::<Usage>());
        }
    }
}
