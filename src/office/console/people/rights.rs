//! Rights and roles: one constant table says which role may do what, and within which limit.
//!
//! A right is the unit that a route asks for; a role is a bundle of rights. A user has roles for
//! groups of sites ([`Grant`]); a right of the whole office ([`Scope::Office`]) needs a role for
//! all sites.

use crate::listed_enum::listed_enum;
use crate::units::WallTime;

listed_enum! {
    /// What a route asks for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Right {
        /// See states, plan, presence, gaps, and events without pictures.
        Board,
        /// See the snapshots of events.
        Snapshot,
        /// Play what the archive has.
        Clip,
        /// Hear recorded sound.
        Sound,
        /// See moving pictures of sites that have privacy zones, or do not say whether they have.
        Unmasked,
        /// Mark events as handled, write notes.
        Handle,
        /// Lock footage against deletion.
        Lock,
        /// End a lock.
        Unlock,
        /// See counts and figures of storage.
        Stats,
        /// Ask a device whether it answers, and for its ring's state.
        DevicePing,
        /// Send a device the other commands of the console.
        DeviceCommand,
        /// Users, groups, grants and sessions of others.
        People,
        /// Rules of retention.
        Retention,
        /// The plan, and the places of the sites on it.
        Plan,
        /// Read and verify the audit trail.
        AuditRead,
        /// Take the audit trail out.
        AuditExport,
    }

    /// All rights, in the order of the table.
    pub const ALL;
}

listed_enum! {
    /// A bundle of rights.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Role {
        /// Sees states, masked pictures and recent clips.
        Viewer,
        /// On duty: plays, handles events, locks.
        Operator,
        /// Answers for evidence: sound, unmasked pictures, unlocking.
        Evidence,
        /// Manages people, plan and retention; sees no footage.
        Admin,
        /// Reads the audit trail; sees no footage and changes nothing.
        Auditor,
    }

    /// All roles, in the order of the table.
    pub const ALL;
}

/// Hours that the clips of a viewer may be old.
pub const VIEWER_CLIP_HOURS: u32 = 72;
/// The group that stands for all sites, those without a group included.
pub const ALL_SITES: &str = "*";

/// A condition on a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Only footage that began at most this many hours ago.
    RecentHours(u32),
    /// Only the picture on which zones are drawn, masked.
    SetupPicture,
    /// Only while the session has a purpose. Footage needs one anyway.
    WithPurpose,
    /// Only with a reason in words.
    WithReason,
}

/// What a role may do with a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Nothing.
    No,
    /// Everything that the right names.
    Yes,
    /// Within a limit.
    Limited(Limit),
}

/// Where a right is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// For one site: a role for its group is enough.
    Site,
    /// For the whole office: the role must be for all sites.
    Office,
}

use Allowance::{Limited, No, Yes};

/// A row of the table: the right, and the allowances in the order of [`Role::ALL`].
type Row = (Right, [Allowance; Role::ALL.len()]);

/// The table: viewer, operator, evidence, admin, auditor.
#[rustfmt::skip]
pub const MATRIX: [Row; Right::ALL.len()] = [
    (Right::Board,         [Yes, Yes, Yes, Yes, Yes]),
    (Right::Snapshot,      [Yes, Yes, Yes, Limited(Limit::SetupPicture), No]),
    (Right::Clip,          [Limited(Limit::RecentHours(VIEWER_CLIP_HOURS)), Yes, Yes, No, No]),
    (Right::Sound,         [No, No, Yes, No, No]),
    (Right::Unmasked,      [No, Limited(Limit::WithPurpose), Yes, No, No]),
    (Right::Handle,        [No, Yes, Yes, No, No]),
    (Right::Lock,          [No, Yes, Yes, No, No]),
    (Right::Unlock,        [No, No, Limited(Limit::WithReason), No, No]),
    (Right::Stats,         [Yes, Yes, Yes, Yes, Yes]),
    (Right::DevicePing,    [No, Yes, No, Yes, No]),
    (Right::DeviceCommand, [No, No, No, Yes, No]),
    (Right::People,        [No, No, No, Yes, No]),
    (Right::Retention,     [No, No, No, Yes, No]),
    (Right::Plan,          [No, No, No, Yes, No]),
    (Right::AuditRead,     [No, No, No, No, Yes]),
    (Right::AuditExport,   [No, No, No, No, Yes]),
];

/// What `role` may do with `right`.
pub fn allows(role: Role, right: Right) -> Allowance {
    MATRIX[right as usize].1[role as usize]
}

impl Right {
    /// The right's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Right::Board => "board",
            Right::Snapshot => "snapshot",
            Right::Clip => "clip",
            Right::Sound => "sound",
            Right::Unmasked => "unmasked",
            Right::Handle => "handle",
            Right::Lock => "lock",
            Right::Unlock => "unlock",
            Right::Stats => "stats",
            Right::DevicePing => "device_ping",
            Right::DeviceCommand => "device_command",
            Right::People => "people",
            Right::Retention => "retention",
            Right::Plan => "plan",
            Right::AuditRead => "audit_read",
            Right::AuditExport => "audit_export",
        }
    }

    /// Where the right is asked for.
    pub fn scope(self) -> Scope {
        match self {
            Right::People
            | Right::Retention
            | Right::Plan
            | Right::AuditRead
            | Right::AuditExport => Scope::Office,
            _ => Scope::Site,
        }
    }

    /// True for footage: the session needs a purpose, and the act a record before the answer.
    pub fn is_footage(self) -> bool {
        matches!(self, Right::Snapshot | Right::Clip | Right::Sound | Right::Unmasked)
    }
}

impl Role {
    /// The role's name in the API, in the trail and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Evidence => "evidence",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }

    /// The role of a name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// A role of a user for a group of sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The group, or [`ALL_SITES`].
    pub group: String,
    /// The role.
    pub role: Role,
    /// When the grant ends; `None`: never.
    pub until: Option<WallTime>,
}

impl Grant {
    /// True while the grant counts for the sites of `group`.
    fn covers(&self, group: &str, now: WallTime) -> bool {
        (self.group == ALL_SITES || self.group == group) && self.until.is_none_or(|end| now < end)
    }
}

/// What some grants allow: the role under which it is done, and the limit.
///
/// `group` is that of the site; `""` for a site without a group and for a right of the whole
/// office. Of several roles the one with the fewest limits counts, then the first of the table.
pub fn decide(
    grants: &[Grant],
    right: Right,
    group: &str,
    now: WallTime,
) -> Option<(Role, Option<Limit>)> {
    let group = if right.scope() == Scope::Office { ALL_SITES } else { group };
    let mut roles: Vec<Role> =
        grants.iter().filter(|grant| grant.covers(group, now)).map(|grant| grant.role).collect();
    roles.sort_unstable();
    let allowed = |role: Role| (role, allows(role, right));
    let mut limited = None;
    for (role, allowance) in roles.into_iter().map(allowed) {
        match allowance {
            Yes => return Some((role, None)),
            Limited(limit) if limited.is_none() => limited = Some((role, Some(limit))),
            Limited(_) | No => {}
        }
    }
    limited
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_000_000);

    fn grant(group: &str, role: Role) -> Grant {
        Grant { group: group.to_owned(), role, until: None }
    }

    #[test]
    fn the_table_has_each_right_once_in_order() {
        for (at, right) in Right::ALL.into_iter().enumerate() {
            assert_eq!(MATRIX[at].0, right);
            assert_eq!(right as usize, at);
        }
        for (at, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, at);
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn admin_and_auditor_see_no_footage() {
        for right in Right::ALL.into_iter().filter(|right| right.is_footage()) {
            let admin = allows(Role::Admin, right);
            let picture = right == Right::Snapshot && admin == Limited(Limit::SetupPicture);
            assert!(admin == No || picture, "{right:?}");
            assert_eq!(allows(Role::Auditor, right), No, "{right:?}");
        }
    }

    #[test]
    fn the_auditor_changes_nothing_and_only_he_reads_the_trail() {
        let changes = [Right::Handle, Right::Lock, Right::Unlock, Right::DeviceCommand];
        let more = [Right::People, Right::Retention, Right::Plan, Right::DevicePing];
        for right in changes.into_iter().chain(more) {
            assert_eq!(allows(Role::Auditor, right), No, "{right:?}");
        }
        for role in Role::ALL {
            assert_eq!(allows(role, Right::AuditRead) == Yes, role == Role::Auditor);
        }
    }

    #[test]
    fn a_grant_counts_for_its_group_until_it_ends() {
        let mut grants = [grant("north", Role::Operator)];
        assert_eq!(decide(&grants, Right::Clip, "north", NOW), Some((Role::Operator, None)));
        assert_eq!(decide(&grants, Right::Clip, "south", NOW), None);
        assert_eq!(decide(&grants, Right::Clip, "", NOW), None);
        grants[0].until = Some(NOW);
        assert_eq!(decide(&grants, Right::Clip, "north", NOW), None);
    }

    #[test]
    fn rights_of_the_office_need_a_grant_for_all_sites() {
        let grants = [grant("north", Role::Admin)];
        assert_eq!(decide(&grants, Right::People, "north", NOW), None);
        let grants = [grant(ALL_SITES, Role::Admin)];
        assert_eq!(decide(&grants, Right::People, "", NOW), Some((Role::Admin, None)));
        assert_eq!(decide(&grants, Right::Board, "north", NOW), Some((Role::Admin, None)));
    }

    #[test]
    fn of_two_roles_the_one_with_the_fewest_limits_counts() {
        let grants = [grant(ALL_SITES, Role::Viewer), grant("north", Role::Evidence)];
        assert_eq!(decide(&grants, Right::Clip, "north", NOW), Some((Role::Evidence, None)));
        let recent = Some(Limit::RecentHours(VIEWER_CLIP_HOURS));
        assert_eq!(decide(&grants, Right::Clip, "south", NOW), Some((Role::Viewer, recent)));
    }
}
