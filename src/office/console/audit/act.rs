//! The acts that the audit trail knows. docs/audit-trail.md lists them.

use crate::listed_enum::listed_enum;

macro_rules! acts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        listed_enum! {
            /// What was done. A value is never renamed once it is in a trail.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub enum Act {
                $($(#[$doc])* $variant),+
            }

            /// All acts.
            pub const ALL;
        }

        impl Act {
            /// The act's name in the trail.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Act::$variant => $name),+
                }
            }
        }
    };
}

acts! {
    /// The console was started; the first record of a trail is one.
    ConsoleStart = "console.start",
    /// A log-in.
    Login = "login",
    /// A wrong name or password.
    LoginFailed = "login.failed",
    /// Log-ins are refused for some minutes after too many failures.
    LoginLocked = "login.locked",
    /// A log-out.
    Logout = "logout",
    /// A session of a user was ended.
    SessionRevoke = "session.revoke",
    /// The purpose of a session was set.
    PurposeSet = "purpose.set",
    /// A clip began to play.
    PlaybackStart = "playback.start",
    /// A clip ended; the object carries the seconds that were on the screen.
    PlaybackStop = "playback.stop",
    /// A snapshot was shown.
    SnapshotView = "snapshot.view",
    /// A picture was saved.
    SnapshotSave = "snapshot.save",
    /// The bytes of a file were taken out.
    FileDownload = "file.download",
    /// An event was marked as handled.
    EventHandle = "event.handle",
    /// A note was written to an event.
    EventNote = "event.note",
    /// Footage was locked against deletion.
    Lock = "lock",
    /// A lock was ended.
    Unlock = "unlock",
    /// A command was sent to a device.
    DeviceCommand = "device.command",
    /// A user was added.
    PeopleAdd = "people.add",
    /// A user was disabled or enabled.
    PeopleDisable = "people.disable",
    /// A user was renamed, or given another language.
    PeopleChange = "people.change",
    /// A one-time token for a new password was made.
    PeopleReset = "people.reset",
    /// A user set a password.
    PasswordSet = "people.password",
    /// A role was granted.
    RightGrant = "right.grant",
    /// A role was withdrawn.
    RightRevoke = "right.revoke",
    /// A group of sites was changed.
    GroupChange = "group.change",
    /// The place of a site was changed.
    PlaceChange = "place.change",
    /// The plan was replaced.
    PlanChange = "plan.change",
    /// The rules of retention were changed.
    RetentionChange = "retention.change",
    /// Files were deleted by the rules of retention: at most one record a day and site, and one after a start.
    RetentionDelete = "retention.delete",
    /// A setting of the console was changed.
    SettingChange = "setting.change",
    /// The trail was read.
    AuditRead = "audit.read",
    /// The trail was taken out.
    AuditExport = "audit.export",
    /// The reason of an earlier record was blacked out.
    AuditRedact = "audit.redact",
    /// The trail ended before an act that was begun: a power cut, or a record was removed.
    AuditInterrupted = "audit.interrupted",
    /// Something was asked for without the right to it.
    Denied = "denied",
}

impl Act {
    /// The act of a name.
    pub fn parse(name: &str) -> Option<Act> {
        Act::ALL.into_iter().find(|act| act.as_str() == name)
    }
}
