//! Console of the demo: its places, its listener on loopback, its one-time link.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::office::archive_link::ArchiveClient;
use crate::office::console::Console;
use crate::office::console::audit::record::Origin;
use crate::office::console::tables::rows::PlaceRow;
use crate::office::console::web::{BrokerAccess, WebOptions, WebServer, start};
use crate::sim::street::Place;
use crate::uplink::client::Options;

/// The running console.
pub(super) struct DemoWeb {
    console: Console,
    server: WebServer,
}

/// Opens the console of the archive in `dir` and listens on a free port of loopback. It blocks.
///
/// # Errors
/// The archive has users of its own, or no port or thread is free.
pub(super) fn start_web(
    dir: &Path,
    options: Options,
    archive: ArchiveClient,
) -> anyhow::Result<DemoWeb> {
    let console = Console::open_demo(dir, Arc::new(SystemClock::new()))?;
    let places = Place::ALL.map(placed);
    console.act(move |store, now| store.set_places(&Origin::office(), now, &places))?;
    let web = WebOptions {
        address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        identity: None,
        names: Vec::new(),
        archive: dir.to_owned(),
        broker: Some(BrokerAccess { options, any_version: false, key: None }),
        tiles: None,
        machine_token: None,
    };
    let server = start(web, console.clone(), archive)?;
    Ok(DemoWeb { console, server })
}

/// Where the console shows a camera.
fn placed(place: Place) -> PlaceRow {
    let (name_vi, name_en, x, y) = match place {
        Place::Road => ("Đường tỉnh lộ", "Country road", 0.2, 0.7),
        Place::Junction => ("Ngã tư chợ", "Market junction", 0.5, 0.4),
        Place::NightLane => ("Ngõ đêm", "Lane at night", 0.8, 0.6),
    };
    PlaceRow {
        site: place.site().into(),
        name_vi: name_vi.into(),
        name_en: name_en.into(),
        group: String::new(),
        x: Some(x),
        y: Some(y),
        heading: Some(0.0),
        fov: Some(60.0),
        range: Some(0.15),
    }
}

impl DemoWeb {
    /// A new link that opens the demo's user once. Links printed before stop counting. It blocks.
    ///
    /// # Errors
    /// No random numbers.
    pub(super) fn link(&self) -> anyhow::Result<String> {
        let token = self.console.demo_token()?;
        Ok(format!("{}/#/demo/{}", self.server.url(), token.reveal()))
    }
}
