//! Fuzz target of session descriptions and control URLs: no input panics, and the media stay few.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::camera::quirk::QuirkCounts;
use taimat::camera::rtsp::control_url::ControlBase;
use taimat::camera::rtsp::limits::SDP_MEDIA_MAX;
use taimat::camera::rtsp::sdp;

fuzz_target!(|data: &[u8]| {
    let sdp = sdp::parse(data, &mut QuirkCounts::default());
    assert!(sdp.media.len() <= SDP_MEDIA_MAX);
    let (base, _) = ControlBase::new("rtsp://10.0.0.2:8554/cam?x=1", Some(data));
    for media in &sdp.media {
        assert!(media.format.clock_rate > 0);
        let (url, _) = base.url(media.control.as_deref());
        assert!(url.starts_with("rtsp://10.0.0.2:8554") && url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
    }
});
