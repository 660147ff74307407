//! The pages' files, inside the binary: one table, checked against the directory by a test.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH};
use bytes::Bytes;

use super::answer::Answer;
use super::call::Call;
use super::headers;
use super::problem::Problem;
use super::range;
use crate::units::Digest;

/// A file of the pages.
pub(crate) struct Asset {
    /// Path below `/ui/`.
    pub(crate) path: &'static str,
    pub(crate) bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal)*) => {
        /// All files.
        pub(crate) static ASSETS: &[Asset] = &[
            $(Asset { path: $path, bytes: include_bytes!(concat!("../ui/", $path)) },)*
        ];
    };
}

assets! {
    "app.js"
    "core/api.js"
    "core/i18n.js"
    "core/rights.js"
    "core/router.js"
    "core/store.js"
    "core/stream.js"
    "core/text.js"
    "core/theme.js"
    "core/time.js"
    "core/view.js"
    "css/base.css"
    "css/pages.css"
    "css/parts.css"
    "i18n/en.json"
    "i18n/vi.json"
    "icon.svg"
    "index.html"
    "pages/audit.js"
    "pages/board.js"
    "pages/event.js"
    "pages/events.js"
    "pages/first_admin.js"
    "pages/locks.js"
    "pages/login.js"
    "pages/people.js"
    "pages/plan.js"
    "pages/playback.js"
    "pages/retention.js"
    "pages/settings.js"
    "pages/site.js"
    "parts/axis.js"
    "parts/chart.js"
    "parts/dialog.js"
    "parts/event_words.js"
    "parts/group.js"
    "parts/handle.js"
    "parts/icon.js"
    "parts/lock.js"
    "parts/map.js"
    "parts/password.js"
    "parts/player_view.js"
    "parts/purpose.js"
    "parts/resource.js"
    "parts/site_words.js"
    "parts/snapshot.js"
    "parts/virtual.js"
    "player/bridge.js"
    "player/clock.js"
    "player/codec.js"
    "player/lanes.js"
    "player/mse.js"
    "player/plan.js"
    "player/shown.js"
    "player/sync.js"
    "player/tile.js"
    "player/wall.js"
}

/// What an answer with a file needs beside its bytes, made once: a page asks for every file.
struct Prepared {
    etag: String,
    /// Compressed, where that is smaller.
    gzip: Option<Bytes>,
}

/// One for each file of the table, in its order.
static PREPARED: LazyLock<Vec<Prepared>> = LazyLock::new(|| {
    let prepared = |asset: &Asset| Prepared {
        etag: format!("\"{}\"", Digest::of(asset.bytes).hex()),
        gzip: headers::is_text(content_type(asset.path), asset.bytes.len())
            .then(|| headers::gzip(asset.bytes, 6).map(Bytes::from))
            .flatten(),
    };
    ASSETS.iter().map(prepared).collect()
});

/// Content type of a file by its name.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

/// `GET /`.
pub(crate) fn index(call: &Call) -> Result<Answer, Problem> {
    serve(call, "index.html")
}

/// `GET /ui/{path}`.
pub(crate) fn file(call: &Call) -> Result<Answer, Problem> {
    serve(call, call.param("path"))
}

fn serve(call: &Call, path: &str) -> Result<Answer, Problem> {
    let mut files = ASSETS.iter().zip(PREPARED.iter());
    let (asset, Prepared { etag, gzip }) =
        files.find(|(asset, _)| asset.path == path).ok_or_else(Problem::not_found)?;
    if range::matches(call.header(&IF_NONE_MATCH), etag) {
        return Ok(Answer::not_modified(etag).with(CACHE_CONTROL, "no-cache"));
    }
    let kind = content_type(path);
    let answer = match gzip.as_ref().filter(|_| headers::takes_gzip(&call.headers)) {
        Some(smaller) => Answer::of(kind, smaller.clone()).with(CONTENT_ENCODING, "gzip"),
        None => Answer::of(kind, Bytes::from_static(asset.bytes)),
    };
    // A browser asks each time, and hears 304: after an upgrade no old script meets a new API.
    Ok(answer.with(ETAG, etag).with(CACHE_CONTROL, "no-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(dir: &std::path::Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                below(&path, &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }

    #[test]
    fn the_table_lists_exactly_what_the_directory_holds() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/office/console/ui");
        let mut there = Vec::new();
        below(&dir, "", &mut there);
        there.sort();
        let mut listed: Vec<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        listed.sort();
        assert_eq!(listed, there, "list them in web/assets.rs");
    }

    #[test]
    fn every_file_has_a_type_that_a_browser_takes() {
        for asset in ASSETS {
            assert_ne!(content_type(asset.path), "application/octet-stream", "{}", asset.path);
        }
    }
}
