//! Users, grants, one-time tokens.

use crate::office::console::audit::record::{Act, AuditNumber, Entry, Origin, Outcome};
use crate::office::console::error::ConsoleError;
use crate::office::console::people::rights::{ALL_SITES, Grant, Role};
use crate::office::console::tables::rows::{UserChange, UserRow};
use crate::office::console::tables::{Result, Tables};
use crate::office::console::writer::Store;
use crate::units::{Digest, WallTime};

/// Users at most: a province's office has a few hundred.
const USERS_MAX: i64 = 1_000;
/// Grants of one user at most.
const GRANTS_MAX: usize = 64;
/// Hours that a one-time token for a password counts: a shift and the one after.
const TOKEN_HOURS: i64 = 24;
/// Languages of the page.
const LANGUAGES: [&str; 2] = ["vi", "en"];

/// Checks the name of a user.
///
/// # Errors
/// The rule, in a sentence.
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if (2..=32).contains(&name.len()) && name.chars().all(good) && begins {
        return Ok(());
    }
    let rule = "a name has 2 to 32 characters of a-z, 0-9, '.', '_' and '-', and begins with one of a-z and 0-9";
    Err(ConsoleError::Invalid(format!("{name:?} is no user name: {rule}")))
}

fn check_language(language: &str) -> Result<()> {
    if LANGUAGES.contains(&language) {
        return Ok(());
    }
    Err(ConsoleError::Invalid(format!("{language:?} is no language of the page: vi or en")))
}

fn check_grants(tables: &Tables, grants: &[Grant]) -> Result<()> {
    if grants.len() > GRANTS_MAX {
        return Err(ConsoleError::Invalid(format!("a user has at most {GRANTS_MAX} roles")));
    }
    let groups = tables.groups()?;
    for (at, grant) in grants.iter().enumerate() {
        let name = &grant.group;
        if name != ALL_SITES && !groups.iter().any(|group| group.name == *name) {
            let known: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(ConsoleError::Invalid(format!(
                "there is no group {name:?}; groups: {known}; {ALL_SITES:?} stands for all sites"
            )));
        }
        if grants[..at].iter().any(|other| other.group == *name && other.role == grant.role) {
            let role = grant.role.as_str();
            return Err(ConsoleError::Invalid(format!("{role} for {name:?} is given twice")));
        }
    }
    Ok(())
}

/// A record about a user: `user u7 NAME`.
pub(super) fn about(act: Act, id: i64, name: &str) -> Entry {
    Entry::of(act).object("user").object(format!("u{id}")).object(name)
}

fn about_grant(act: Act, id: i64, name: &str, grant: &Grant) -> Entry {
    let until = grant.until.map(WallTime::rfc3339).unwrap_or_default();
    about(act, id, name).object(grant.role.as_str()).object(&grant.group).object(until)
}

fn found(tables: &Tables, id: i64) -> Result<UserRow> {
    tables.user(id)?.ok_or_else(|| ConsoleError::NotFound(format!("there is no user u{id}")))
}

/// Refuses a change after which no user could manage people.
fn ensure_admin(tables: &Tables, now: WallTime) -> Result<()> {
    let is_admin = |user: &UserRow| {
        let lasts = |end: WallTime| now < end;
        let manages = |grant: &Grant| {
            grant.role == Role::Admin && grant.group == ALL_SITES && grant.until.is_none_or(lasts)
        };
        !user.is_disabled && user.grants.iter().any(manages)
    };
    if tables.users()?.iter().any(is_admin) {
        return Ok(());
    }
    let advice = "give another user the role admin for all sites, first";
    Err(ConsoleError::Conflict(format!("no user would be admin; {advice}")))
}

impl Store {
    /// Adds a user without a password; `token` is the digest of a one-time token to set one.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Invalid` for a bad name, language or role.
    pub fn add_user(
        &mut self,
        by: &Origin,
        now: WallTime,
        (name, language): (&str, &str),
        grants: &[Grant],
        token: &Digest,
    ) -> Result<i64> {
        check_name(name)?;
        check_language(language)?;
        let added = self.act(by, now, |tables| {
            let id = insert(tables, now, (name, language), grants, false)?;
            tables.set_token(id, token, token_end(now))?;
            // The first user is an admin: with another one there would be no link for the first admin.
            ensure_admin(tables, now)?;
            Ok((id, added(id, name, grants)))
        })?;
        Ok(added.0)
    }

    /// Adds the first user: admin for all sites, with a password.
    ///
    /// # Errors
    /// `Conflict` when there is a user already.
    pub(in crate::office::console) fn add_first_admin(
        &mut self,
        from: &str,
        now: WallTime,
        name: &str,
        hash: &str,
    ) -> Result<i64> {
        check_name(name)?;
        let grants = [Grant { group: ALL_SITES.to_owned(), role: Role::Admin, until: None }];
        let added = self.act(&Origin::unproven(name, from), now, |tables| {
            if tables.user_count()? > 0 {
                return Err(ConsoleError::Conflict("there is an admin already".to_owned()));
            }
            let id = insert(tables, now, (name, "vi"), &grants, false)?;
            tables.set_password(id, hash)?;
            Ok((id, added(id, name, &grants)))
        })?;
        Ok(added.0)
    }

    /// Adds the demonstration's user, or finds it.
    #[cfg(any(test, feature = "sim"))]
    pub(in crate::office::console) fn demo_user(&mut self, now: WallTime) -> Result<i64> {
        const NAME: &str = "demo";
        if let Some(id) = self.tables().user_number(NAME)? {
            return Ok(id);
        }
        let grants = [Role::Operator, Role::Evidence, Role::Admin].map(|role| Grant {
            group: ALL_SITES.to_owned(),
            role,
            until: None,
        });
        let added = self.act(&Origin::office(), now, |tables| {
            let id = insert(tables, now, (NAME, "vi"), &grants, true)?;
            Ok((id, added(id, NAME, &grants)))
        })?;
        Ok(added.0)
    }

    /// Changes a user. A change of roles, and disabling, end the user's sessions.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; `Conflict` when no admin would be left.
    pub fn change_user(
        &mut self,
        by: &Origin,
        now: WallTime,
        id: i64,
        change: &UserChange,
    ) -> Result<AuditNumber> {
        let changed = self.act(by, now, |tables| {
            let user = found(tables, id)?;
            let mut entries = Vec::new();
            if let Some(language) = &change.language
                && *language != user.language
            {
                check_language(language)?;
                tables.set_language(id, language)?;
                entries.push(about(Act::PeopleChange, id, &user.name).object(language));
            }
            if let Some(is) = change.is_disabled.filter(|is| *is != user.is_disabled) {
                tables.set_disabled(id, is)?;
                let word = if is { "disabled" } else { "enabled" };
                entries.push(about(Act::PeopleDisable, id, &user.name).object(word));
                tables.delete_sessions_of(id)?;
            }
            if let Some(grants) = &change.grants {
                check_grants(tables, grants)?;
                let before = entries.len();
                let gone = user.grants.iter().filter(|grant| !grants.contains(grant));
                entries.extend(gone.map(|one| about_grant(Act::RightRevoke, id, &user.name, one)));
                let new = grants.iter().filter(|grant| !user.grants.contains(grant));
                entries.extend(new.map(|one| about_grant(Act::RightGrant, id, &user.name, one)));
                tables.set_grants(id, grants)?;
                if entries.len() > before {
                    tables.delete_sessions_of(id)?;
                }
            }
            ensure_admin(tables, now)?;
            Ok(((), entries))
        })?;
        Ok(changed.1)
    }

    /// Makes a one-time token to set a password; the old password counts until then.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the demonstration's user.
    pub fn reset_user(
        &mut self,
        by: &Origin,
        now: WallTime,
        id: i64,
        token: &Digest,
    ) -> Result<AuditNumber> {
        let made = self.act(by, now, |tables| {
            let user = found(tables, id)?;
            if user.is_demo {
                return Err(ConsoleError::Conflict(
                    "the demonstration's user has no password".into(),
                ));
            }
            tables.set_token(id, token, token_end(now))?;
            Ok(((), vec![about(Act::PeopleReset, id, &user.name)]))
        })?;
        Ok(made.1)
    }

    /// Sets a password with a one-time token; ends all sessions of the user.
    ///
    /// # Errors
    /// `BadToken` when the token is unknown, used or too old, or its user disabled.
    pub(in crate::office::console) fn redeem(
        &mut self,
        from: &str,
        now: WallTime,
        token: &Digest,
        hash: &str,
    ) -> Result<AuditNumber> {
        let user = token_user(self.tables(), token, now)?;
        self.set_own_password(&Origin::unproven(&user.name, from), now, &user, hash, Some(token))
    }

    /// Sets a user's password and ends all of the user's sessions.
    ///
    /// # Errors
    /// `BadToken` when a token is given that no longer counts.
    pub(in crate::office::console) fn set_own_password(
        &mut self,
        by: &Origin,
        now: WallTime,
        user: &UserRow,
        hash: &str,
        token: Option<&Digest>,
    ) -> Result<AuditNumber> {
        let set = self.act(by, now, |tables| {
            if let Some(token) = token {
                token_user(tables, token, now)?;
            }
            tables.set_password(user.id, hash)?;
            tables.delete_sessions_of(user.id)?;
            Ok(((), vec![about(Act::PasswordSet, user.id, &user.name).result(Outcome::Ok)]))
        })?;
        Ok(set.1)
    }
}

fn insert(
    tables: &Tables,
    now: WallTime,
    (name, language): (&str, &str),
    grants: &[Grant],
    is_demo: bool,
) -> Result<i64> {
    if tables.user_number(name)?.is_some() {
        return Err(ConsoleError::Conflict(format!(
            "there is a user {name} already; names are never used again"
        )));
    }
    if tables.user_count()? >= USERS_MAX {
        return Err(ConsoleError::Conflict(format!(
            "there are {USERS_MAX} users, the most possible"
        )));
    }
    check_grants(tables, grants)?;
    let id = tables.insert_user(name, language, is_demo, now)?;
    tables.set_grants(id, grants)?;
    Ok(id)
}

/// The records of a new user: one for the user, one for each role.
fn added(id: i64, name: &str, grants: &[Grant]) -> Vec<Entry> {
    let mut entries = vec![about(Act::PeopleAdd, id, name)];
    entries.extend(grants.iter().map(|grant| about_grant(Act::RightGrant, id, name, grant)));
    entries
}

fn token_end(now: WallTime) -> WallTime {
    now.plus_micros(TOKEN_HOURS * 3_600_000_000)
}

/// The user of a one-time token that counts.
pub(in crate::office::console) fn token_user(
    tables: &Tables,
    token: &Digest,
    now: WallTime,
) -> Result<UserRow> {
    let row = tables.token(token)?.filter(|row| now < row.until).ok_or(ConsoleError::BadToken)?;
    let user = tables.user(row.user)?.filter(|user| !user.is_disabled);
    user.ok_or(ConsoleError::BadToken)
}
