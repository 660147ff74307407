//! Users, grants, one-time tokens.

use rusqlite::params;

use super::rows::UserRow;
use super::{Result, Tables};
use crate::office::console::people::rights::{Grant, Role};
use crate::units::{Digest, WallTime};

/// What a log-in needs of a user.
pub struct Credential {
    /// The user's number.
    pub user: i64,
    /// The password's hash; empty without a password.
    pub hash: String,
    /// May not log in.
    pub is_disabled: bool,
}

/// The user of a one-time token.
pub struct TokenRow {
    /// The user's number.
    pub user: i64,
    /// When the token ends.
    pub until: WallTime,
}

impl Tables {
    /// All users, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn users(&self) -> Result<Vec<UserRow>> {
        let sql = "SELECT id, name, language, disabled, demo, password <> '', made, last_login FROM users ORDER BY name";
        let mut users = self.rows(sql, [], user_row)?;
        for user in &mut users {
            user.grants = self.grants(user.id)?;
        }
        Ok(users)
    }

    /// One user.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user(&self, id: i64) -> Result<Option<UserRow>> {
        let sql = "SELECT id, name, language, disabled, demo, password <> '', made, last_login FROM users WHERE id = ?1";
        let Some(mut user) = self.first(sql, [id], user_row)? else { return Ok(None) };
        user.grants = self.grants(id)?;
        Ok(Some(user))
    }

    /// Number of the user of this name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user_number(&self, name: &str) -> Result<Option<i64>> {
        self.first("SELECT id FROM users WHERE name = ?1", [name], |row| row.get(0))
    }

    /// Number of users.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user_count(&self) -> Result<i64> {
        Ok(self.first("SELECT count(*) FROM users", [], |row| row.get(0))?.unwrap_or(0))
    }

    pub(in crate::office::console) fn grants(&self, user: i64) -> Result<Vec<Grant>> {
        let sql = "SELECT grp, role, until FROM grants WHERE user = ?1 ORDER BY grp, role";
        let rows = self.rows(sql, [user], |row| {
            let role: String = row.get(1)?;
            let until: Option<i64> = row.get(2)?;
            Ok((row.get(0)?, role, until.map(WallTime)))
        })?;
        // A role that this program does not know grants nothing.
        let known = |(group, role, until): (String, String, _)| {
            Some(Grant { group, role: Role::parse(&role)?, until })
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    pub(in crate::office::console) fn credential(&self, name: &str) -> Result<Option<Credential>> {
        self.first("SELECT id, password, disabled FROM users WHERE name = ?1", [name], |row| {
            Ok(Credential { user: row.get(0)?, hash: row.get(1)?, is_disabled: row.get(2)? })
        })
    }

    pub(in crate::office::console) fn insert_user(
        &self,
        name: &str,
        language: &str,
        is_demo: bool,
        now: WallTime,
    ) -> Result<i64> {
        self.change(
            "INSERT INTO users (name, language, demo, made) VALUES (?1, ?2, ?3, ?4)",
            params![name, language, is_demo, now.0],
        )?;
        Ok(self.db.last_insert_rowid())
    }

    pub(in crate::office::console) fn set_disabled(&self, user: i64, is: bool) -> Result<()> {
        self.change("UPDATE users SET disabled = ?2 WHERE id = ?1", params![user, is]).map(|_| ())
    }

    pub(in crate::office::console) fn set_language(&self, user: i64, language: &str) -> Result<()> {
        let sql = "UPDATE users SET language = ?2 WHERE id = ?1";
        self.change(sql, params![user, language]).map(|_| ())
    }

    pub(in crate::office::console) fn set_password(&self, user: i64, hash: &str) -> Result<()> {
        self.change("UPDATE users SET password = ?2 WHERE id = ?1", params![user, hash])?;
        self.change("DELETE FROM tokens WHERE user = ?1", [user]).map(|_| ())
    }

    pub(in crate::office::console) fn set_grants(&self, user: i64, grants: &[Grant]) -> Result<()> {
        self.change("DELETE FROM grants WHERE user = ?1", [user])?;
        for Grant { group, role, until } in grants {
            self.change(
                "INSERT INTO grants (user, grp, role, until) VALUES (?1, ?2, ?3, ?4)",
                params![user, group, role.as_str(), until.map(|end| end.0)],
            )?;
        }
        Ok(())
    }

    /// Replaces the user's one-time token.
    pub(in crate::office::console) fn set_token(
        &self,
        user: i64,
        digest: &Digest,
        until: WallTime,
    ) -> Result<()> {
        self.change("DELETE FROM tokens WHERE user = ?1", [user])?;
        let sql = "INSERT INTO tokens (digest, user, until) VALUES (?1, ?2, ?3)";
        self.change(sql, params![digest.0, user, until.0]).map(|_| ())
    }

    pub(in crate::office::console) fn token(&self, digest: &Digest) -> Result<Option<TokenRow>> {
        self.first("SELECT user, until FROM tokens WHERE digest = ?1", [digest.0], |row| {
            Ok(TokenRow { user: row.get(0)?, until: WallTime(row.get(1)?) })
        })
    }
}

fn user_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        name: row.get(1)?,
        language: row.get(2)?,
        is_disabled: row.get(3)?,
        is_demo: row.get(4)?,
        has_password: row.get(5)?,
        made: WallTime(row.get(6)?),
        last_login: row.get::<_, Option<i64>>(7)?.map(WallTime),
        grants: Vec::new(),
    })
}
