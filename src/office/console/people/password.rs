//! Passwords: strength and hashing. Pure: the salt is given.
//!
//! Argon2id with 19 MiB, two passes and one lane (OWASP's floor). A stored hash names its
//! parameters, so that they can grow without asking for a new password.

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::units::{Digest, hex};

/// Characters of a password at least.
pub const LENGTH_MIN: usize = 12;
/// Characters of a password at most: the cost of judging one grows with its length.
pub const LENGTH_MAX: usize = 128;
/// Lowest score of zxcvbn, of 0 to 4: 10^8 guesses do not find it.
const SCORE_MIN: u8 = 3;
/// Names shorter than this may be part of a password.
const NAME_MIN: usize = 4;
/// Names of users and sites that a password is compared with at most.
pub const NAMES_MAX: usize = 500;

/// Memory of a hash, KiB. Never lower it: a stored hash that asks for more fits no password.
const MEMORY: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Bytes of a hash.
const HASH_LENGTH: usize = 32;
/// Bytes of a salt.
pub const SALT_LENGTH: usize = 16;

/// Checks a new password. `names` are the user's name, the sites and whatever else stands on a
/// door plate.
///
/// # Errors
/// What is wrong and how to mend it.
pub fn check_strength(password: &str, names: &[&str]) -> Result<(), String> {
    let length = password.chars().count();
    if length < LENGTH_MIN {
        return Err(format!(
            "the password has {length} characters, it needs {LENGTH_MIN}; four or five words in a row are easy to remember"
        ));
    }
    if length > LENGTH_MAX {
        return Err(format!("the password has {length} characters; {LENGTH_MAX} are enough"));
    }
    let lower = password.to_lowercase();
    let names = &names[..names.len().min(NAMES_MAX)];
    let contained = names
        .iter()
        .find(|name| name.chars().count() >= NAME_MIN && lower.contains(&name.to_lowercase()));
    if let Some(name) = contained {
        return Err(format!("the password contains the name {name:?}; leave it out"));
    }
    let estimate = zxcvbn::zxcvbn(password, names);
    if u8::from(estimate.score()) < SCORE_MIN {
        let warning = estimate.feedback().and_then(zxcvbn::feedback::Feedback::warning);
        let reason = warning.map(|warning| format!(" ({warning})")).unwrap_or_default();
        return Err(format!(
            "the password is easily guessed{reason}; take four or five words that have nothing to do with each other"
        ));
    }
    Ok(())
}

/// Memory that a thread hashes in, again and again. It is taken at the first hash and kept: blocks
/// that come and go would stay in the allocator, once for each thread that ever hashed.
#[derive(Debug, Default)]
pub struct Workspace(Vec<Block>);

impl Workspace {
    /// The first `count` blocks; each hash writes all of them before it reads one.
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], String> {
        if count > self.0.len() {
            let missing = count - self.0.len();
            let had = self.0.try_reserve_exact(missing);
            had.map_err(|error| format!("argon2: {error}"))?;
            self.0.resize(count, Block::new());
        }
        Ok(&mut self.0[..count])
    }
}

/// Hash of a password, as it is stored: `argon2id 19456 2 1 SALT HASH`.
///
/// # Errors
/// When the memory cannot be had.
pub fn hash(
    password: &str,
    salt: &[u8; SALT_LENGTH],
    workspace: &mut Workspace,
) -> Result<String, String> {
    let out = derive(password, salt, (MEMORY, PASSES, 1), workspace)?;
    Ok(format!("argon2id {MEMORY} {PASSES} 1 {} {}", hex(salt), hex(&out)))
}

fn derive(
    password: &str,
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
    workspace: &mut Workspace,
) -> Result<[u8; HASH_LENGTH], String> {
    if memory > MEMORY {
        return Err(format!("argon2: {memory} KiB, at most {MEMORY}"));
    }
    let params = Params::new(memory, passes, lanes, Some(HASH_LENGTH));
    let params = params.map_err(|error| format!("argon2: {error}"))?;
    let mut out = [0; HASH_LENGTH];
    let blocks = workspace.blocks(params.block_count())?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, blocks)
        .map_err(|error| format!("argon2: {error}"))?;
    Ok(out)
}

/// A stored hash that no password fits: an unknown user takes the same time as a wrong password.
pub fn unknown_user() -> String {
    let zeros = [0; SALT_LENGTH];
    format!("argon2id {MEMORY} {PASSES} 1 {} {}", hex(&zeros), hex(&[0; HASH_LENGTH]))
}

/// Whether a password has this stored hash. A hash that cannot be read fits no password.
pub fn fits(password: &str, stored: &str, workspace: &mut Workspace) -> bool {
    // What is longer is never set; hashing megabytes would be a gift.
    if password.chars().nth(LENGTH_MAX).is_some() {
        return false;
    }
    let Some(Stored { cost, salt, hash }) = Stored::parse(stored) else { return false };
    derive(password, &salt, cost, workspace).is_ok_and(|derived| is_equal(&derived, &hash))
}

/// A stored hash in its parts.
struct Stored {
    /// Memory in KiB, passes, lanes.
    cost: (u32, u32, u32),
    salt: Vec<u8>,
    hash: [u8; HASH_LENGTH],
}

impl Stored {
    fn parse(stored: &str) -> Option<Stored> {
        let mut words = stored.split(' ');
        if words.next()? != "argon2id" {
            return None;
        }
        let mut number = || words.next()?.parse::<u32>().ok();
        let cost = (number()?, number()?, number()?);
        let (salt, hash) = (bytes(words.next()?)?, Digest::from_hex(words.next()?)?.0);
        Some(Stored { cost, salt, hash })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Compares all bytes, whichever differ: the time says nothing.
fn is_equal(one: &[u8; HASH_LENGTH], two: &[u8; HASH_LENGTH]) -> bool {
    one.iter().zip(two).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused_with_a_reason() {
        let names = ["tran.van.b", "km-17", "hong-thai"];
        for (password, word) in [
            ("ngan", "needs 12"),
            ("123456789012", "easily guessed"),
            ("password1234", "easily guessed"),
            ("aaaaaaaaaaaaaaaa", "easily guessed"),
            ("xx-TRAN.VAN.B-9q7w", "contains the name"),
            ("Hong-Thai-lum-9q7w", "contains the name"),
            (&"ab9-".repeat(40), "are enough"),
        ] {
            let refused = check_strength(password, &names).unwrap_err();
            assert!(refused.contains(word), "{password}: {refused}");
        }
        check_strength("bốn con trâu uống trà", &names).unwrap();
        check_strength("correct-kite-lemon-87", &names).unwrap();
    }

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let workspace = &mut Workspace::default();
        let stored = hash("correct-kite-lemon-87", b"0123456789abcdef", workspace).unwrap();
        assert!(stored.starts_with("argon2id 19456 2 1 30313233343536373839616263646566 "));
        assert!(fits("correct-kite-lemon-87", &stored, workspace));
        assert!(!fits("correct-kite-lemon-88", &stored, workspace));
        assert!(!fits("", &unknown_user(), workspace));
        for bad in ["", "argon2id", "argon2id 1 1 1 00 00", "argon2id 19456 2 1 zz zz", "plain x"] {
            assert!(!fits("", bad, workspace), "{bad}");
        }
        assert!(!fits(&"x".repeat(LENGTH_MAX + 1), &stored, workspace));
    }

    #[test]
    fn hashes_of_one_thread_share_one_block_of_memory() {
        let workspace = &mut Workspace::default();
        let stored = hash("one", b"0123456789abcdef", workspace).unwrap();
        let (at, length) = (workspace.0.as_ptr(), workspace.0.len());
        assert_eq!(length * size_of::<Block>(), 19 << 20);
        assert!(!fits("two", &stored, workspace) && !fits("two", &unknown_user(), workspace));
        let large = stored.replacen("19456", "2000000", 1);
        assert!(!fits("one", &large, workspace), "no stored hash takes more memory");
        assert_eq!((workspace.0.as_ptr(), workspace.0.len()), (at, length));
        assert!(fits("one", &stored, workspace));
    }

    #[test]
    fn the_hash_is_the_golden_one() {
        // A change of the crate or of the parameters must not lock everybody out.
        let workspace = &mut Workspace::default();
        // What an earlier hash left in the memory counts for nothing.
        hash("another", b"another salt 16b", workspace).unwrap();
        let stored = hash("golden password", b"golden salt 16 b", workspace).unwrap();
        assert_eq!(
            stored,
            "argon2id 19456 2 1 676f6c64656e2073616c742031362062 313a66a0fda1b9480373e94f66f8a6dea92e8038990eb29bf6d6fb80ea153bf9"
        );
    }
}
