//! People of the console: rights, log-in, sessions, purposes.
//!
//! * [`rights`]: the table of rights and roles. [`purpose`]: why a session looks at footage.
//! * [`session`]: a log-in that lasts. [`login_attempts`]: how often a password may be wrong.
//! * [`password`]: strength and hashing. [`hashing`]: the threads that hash.

pub mod hashing;
pub mod login_attempts;
pub mod password;
pub mod purpose;
pub mod rights;
pub mod session;
