//! A configuration for a camera that was found.

use std::path::Path;

use super::report::Camera;
use crate::units::SiteId;

/// What the caller adds to a camera.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Id of the site.
    pub site: &'a SiteId,
    /// Directory of the ring.
    pub ring: &'a Path,
    /// The directory lies on a file system of its own.
    pub is_mounted: bool,
    /// File with the camera's login, absolute.
    pub login: Option<&'a Path>,
}

/// The text of a configuration.
///
/// # Errors
/// The camera has no stream to record, or one that a configuration cannot name.
pub fn config_text(camera: &Camera, around: &Surroundings<'_>) -> Result<String, String> {
    let main = camera.main.as_ref().ok_or("this camera offers no stream to record")?;
    if main.url.starts_with("rtsp://[fe80") {
        return Err("this camera answers on an IPv6 link-local address alone, which a configuration cannot name: give it an IPv4 address".into());
    }
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let comment = |text: &str| crate::escape::shown(&crate::redact::masked(text));
    let mut text = format!(
        "# Written by taimat discover for {} at {}.\n# Every key is in docs/config.md. Check it: taimat check-config FILE\nsite = {}\n\n[camera]\n",
        comment(&camera.model),
        comment(&camera.address),
        quoted(around.site.as_str())
    );
    if crate::redact::masked(&main.url) != main.url {
        text.push_str("# The camera's own addresses hold a login: keep this file private.\n");
    }
    text.push_str(&format!("main_url = {}\n", quoted(&main.url)));
    if let Some(sub) = &camera.sub {
        text.push_str(&format!("sub_url = {}\n", quoted(&sub.url)));
    }
    match around.login {
        Some(path) => text.push_str(&format!("login_file = {}\n", quoted(&path.display().to_string()))),
        None => text.push_str("# A file with one line user:password, if the camera asks for a login:\n# login_file = \"/etc/taimat/camera.login\"\n"),
    }
    text.push_str(&format!("\n[storage]\ndir = {}\n", quoted(&around.ring.display().to_string())));
    if !around.is_mounted {
        text.push_str("# This directory is on the root file system. With a card mounted there, remove this line:\nrequire_mount = false\n");
    }
    text.push_str(
        "\n[uplink]\n# The office's broker. Another machine needs ca_file, cert_file and key_file, too (docs/config.md).\nhost = \"localhost\"\n",
    );
    Ok(text)
}
