//! Web listener of the console: HTTP API, stream of events, the pages' files.
//!
//! * [`server`]: connections and TLS ([`tls`]). [`limits`]: what clients may ask for.
//! * [`router`]: the route table of all rows ([`route`]). [`dispatch`]: from a request to its answer:
//!   [`guard`] and [`admission`] before, `headers` and `body` after.
//! * [`call`], [`answer`], [`problem`], [`range`]: what handlers take and give. `api`: the handlers.
//! * [`event_ring`], [`stream`], [`feed`]: events for pages. [`assets`]: the pages' files.
//! * [`openapi`], [`metrics`]: descriptions of the API and of the office for machines.
//!
//! Laws: nothing here delays a receipt: it reads the archive over read-only connections and runs on
//! threads of its own. No handler touches footage before the guard has a user, a right, a purpose
//! and a record in the audit trail. No request leaves the machine, but commands to the broker.

mod admission;
pub(crate) mod answer;
mod api;
mod assets;
mod body;
pub(crate) mod call;
mod dispatch;
mod event_ring;
mod feed;
mod footage;
mod guard;
mod headers;
pub(crate) mod limits;
mod metrics;
mod openapi;
pub(crate) mod problem;
mod range;
mod route;
mod router;
mod server;
mod site_view;
mod start;
mod stream;
pub mod tls;
#[cfg(test)]
mod test_office;
#[cfg(test)]
mod api_tests;
#[cfg(test)]
mod playback_tests;
#[cfg(test)]
mod flood_tests;
mod web_state;

pub use start::{BrokerAccess, WebOptions, WebServer, start};
pub(crate) use web_state::Web;
