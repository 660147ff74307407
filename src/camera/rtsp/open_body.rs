//! A DESCRIBE response whose body has no known end.

use super::client::Client;
use super::limits::{BODY_MAX, BODY_QUIET};
use super::message::Message;
use crate::camera::CameraFault;
use crate::camera::quirk::Quirk;
use crate::units::MonoTime;

/// A DESCRIBE response whose body has no known end.
#[derive(Debug)]
pub(super) struct OpenBody {
    pub(super) message: Message,
    pub(super) quiet_since: MonoTime,
    /// It is taken as it is at this time, even if it goes on.
    pub(super) until: MonoTime,
}

impl OpenBody {
    pub(super) fn ends_at(&self) -> MonoTime {
        self.quiet_since.plus(BODY_QUIET).min(self.until)
    }
}

impl Client {
    /// Takes what has come of a body of unknown length. It ends before the first byte that is no
    /// text, after a quiet time, and at [`BODY_MAX`].
    pub(super) fn read_open_body(&mut self, now: MonoTime) {
        let Some(open) = &mut self.open_body else { return };
        // One byte more shows that it is too large.
        let text = self.decoder.take_text((BODY_MAX + 1).saturating_sub(open.message.body.len()));
        if !text.is_empty() {
            self.quirks.note(Quirk::BodyLength);
            open.message.body.extend(text);
            open.quiet_since = now;
        }
        if open.message.body.len() > BODY_MAX {
            self.open_body = None;
            let why = format!("DESCRIBE: a body of more than {BODY_MAX} bytes is too large");
            self.fail(CameraFault::Protocol, &why);
        } else if self.decoder.text_ended()
            && let Some(open) = self.open_body.take()
        {
            self.described(&open.message, now);
        }
    }
}
