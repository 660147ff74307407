//! Commands to devices: a connection to the broker for each, and the device's reply.

use serde_json::{Map, json};

use crate::clock::random_id;
use crate::office::command_client::{CommandError, DeviceCommand, send};
use crate::office::console::audit::record::{Act, Entry};
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::limits;
use crate::office::console::web::problem::{Code, Problem};
use crate::uplink::client::Options;

/// Lines of a log that are asked for: what a page shows.
const LOG_LINES: u64 = 200;

/// `ping`.
pub(super) fn ping(call: &Call) -> Result<Answer, Problem> {
    command(call, "ping", Map::new())
}

/// `ring-status`.
pub(super) fn ring_status(call: &Call) -> Result<Answer, Problem> {
    command(call, "ring-status", Map::new())
}

/// `log-tail`.
pub(super) fn log_tail(call: &Call) -> Result<Answer, Problem> {
    let mut args = Map::new();
    args.insert("lines".into(), json!(LOG_LINES));
    command(call, "log-tail", args)
}

fn command(
    call: &Call,
    name: &'static str,
    mut args: Map<String, serde_json::Value>,
) -> Result<Answer, Problem> {
    let broker = call.web.broker.as_ref().ok_or(Code::NotAvailable)?;
    let site = call.site()?;
    let id = random_id().map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let req_id = format!("web-{id}");
    if broker.key.is_some() {
        // The arguments of a signed command are strings.
        args.values_mut().for_each(|value| *value = json!(value.to_string()));
    }
    let command =
        DeviceCommand::new(Some(&site), name, args, &req_id, call.now, broker.key.as_deref())
            .map_err(|rejection| Problem::new(Code::Internal, rejection.line()))?;
    call.record(Entry::of(Act::DeviceCommand).site(&site).object(name).object(&req_id))?;
    let options = Options { client_id: format!("taimat-{req_id}"), ..broker.options.clone() };
    let reply = call.web.runtime.block_on(send(
        &options,
        broker.any_version,
        &command,
        limits::COMMAND_TIMEOUT,
    ));
    match reply {
        Ok(reply) => Answer::json(&reply),
        Err(error @ CommandError::NoReply(_)) => {
            Err(Problem::new(Code::NoReply, error.to_string()))
        }
        Err(error @ CommandError::Disconnected(_)) => {
            Err(Problem::new(Code::Timeout, format!("no broker: {error}")))
        }
    }
}
