//! taimat: device agent and office archive in one package. The modules, in reading order.
//!
//! * **Flow.** `camera → storage + analytics → agent → clip → outbox → uplink → office`. Only
//!   receipts and commands (uplink → agent) and settings (agent → modules) flow back.
//! * **Import.** A module imports only modules above it in this list. `agent` may import all of
//!   them; only `main`, `cli` and `sim` import `agent`.
//! * **I/O.** Clocks, files, sockets, threads, processes and randomness belong to shells: files with
//!   `#![expect(clippy::disallowed_methods)]`, whose reason says what they use. `clippy.toml` lists
//!   the functions; clippy rejects a shell that uses none of them.
//!
//! `tests/tidy.rs` checks these laws.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

/// Version and commit of this build, as SemVer build metadata: `0.1.0+fc4d2ba0c1d2`; `.modified` follows if the sources
/// differed from the commit, and the commit is `unknown` where no repository was at hand.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("TAIMAT_COMMIT"));

pub mod units;
pub mod clock;
pub mod fault_switch;
mod listed_enum;
pub mod watchdog;
pub mod wakeup;
pub(crate) mod redact;
pub mod escape;
pub mod log_tail;
pub(crate) mod regular_file;
pub mod settings;
pub mod http_auth;
pub mod remote_config;
pub mod camera;
pub mod discover;
pub mod format;
pub(crate) mod frame_queue;
pub mod storage;
pub mod analytics;
pub mod evidence;
pub(crate) mod clip;
pub mod uplink;
pub(crate) mod health;
pub(crate) mod outbox;
pub mod agent;
#[cfg(feature = "office")]
pub mod office;
#[cfg(feature = "sim")]
pub mod sim;
pub mod cli;
