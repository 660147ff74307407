//! Tests of command floods: they must cost no event, no clip, little card space, and must not end
//! the process.

use super::*;
use crate::remote_config::signed_command::{CommandRequest, add_signature};
use crate::remote_config::signed_document::tests::{OTHER, RFC, key, trusted};
use crate::remote_config::state_machine::{ConfigMachine, ProvenSettings};

/// Bytes that one journal entry writes to the card: a slot in each of two copies.
const ENTRY: u64 = 2 * 4096;

impl Bench {
    /// A device with a key enrolled.
    fn guarded() -> Bench {
        let mut bench = Bench::of_slots(2032);
        let good = Settings {
            remote: crate::settings::RemoteSettings {
                keys: vec![trusted("office", RFC)],
                ..settings().remote
            },
            ..settings()
        };
        let record = crate::remote_config::state_record::ConfigState::of_file(
            Digest::of(b"file"),
            String::new(),
            Default::default(),
        );
        let known = ProvenSettings { good: good.clone(), bootstrap: good, trying: None };
        let machine = ConfigMachine::new(record, known, [1; 32], bench.now);
        let agent = std::mem::replace(
            &mut bench.agent,
            Agent::new(settings(), Arc::new(NoFootage), [7; 32]),
        );
        bench.agent = agent.with_configuration(machine, None, None);
        bench.connect();
        bench
    }

    /// A command signed by the key of that seed.
    fn signed(&mut self, name: &str, req_id: &str, n: u64, seed: &str) {
        self.signed_with(name, req_id, n, seed, json!({}));
    }

    fn signed_with(&mut self, name: &str, req_id: &str, n: u64, seed: &str, args: Value) {
        let expires = self.now.wall.plus_micros(60_000_000).rfc3339();
        let Value::Object(plain) = args else { panic!("arguments are an object") };
        let asked = CommandRequest { name, req_id, expires: Some(&expires), args: &plain };
        let args = add_signature("km-17", asked, n, &key(seed)).unwrap();
        let command =
            Command { name: name.into(), req_id: req_id.into(), expires: Some(expires), args };
        self.give(AgentInput::Uplink(UplinkUpdate::Command(Box::new(command))));
    }

    fn pass(&mut self, micros: u64) {
        self.now = Timestamp {
            mono: self.now.mono.plus_micros(micros),
            wall: self.now.wall.plus_micros(micros as i64),
            ..self.now
        };
    }

    /// Entries written to the journal so far.
    fn written(&self) -> u64 {
        self.log.iter().filter(|line| line.starts_with("journal")).count() as u64
    }
}

#[test]
fn an_event_get_of_many_ranges_resends_few_events_at_once() {
    let mut bench = Bench::new();
    bench.connect();
    (0..400).for_each(|_| bench.gap());
    bench.log.clear();
    let ranges: Vec<(u64, u64)> = vec![(1, 100_000); 32];
    bench.command("event-get", "r1", json!({"ring": RingId(7).to_string(), "seq": ranges}));
    let again = bench.log.iter().filter(|line| line.starts_with("again")).count();
    assert!(again <= 64, "{again} requests to the uplink for one command");
    assert!(
        bench.agent.outbox.prioritized() <= 64,
        "{} events have resend priority",
        bench.agent.outbox.prioritized()
    );
    assert_eq!(bench.replies.pop().unwrap().data["found"], 401, "each number once");
    // Receipts release them, and the rest follows, 64 at a time.
    bench.log.clear();
    bench.receipt_all();
    let events: Vec<_> = bench.card.iter().collect();
    assert!(events.is_empty(), "{} are still on the card", events.len());
}

#[test]
fn refused_commands_write_at_most_a_mebibyte() {
    let mut bench = Bench::guarded();
    bench.log.clear();
    for n in 0..10_000 {
        // Half of them within 2.5 s, then one every 0.72 s for an hour.
        bench.pass(if n < 5_000 { 500 } else { 720_000 });
        bench.command("ping", &format!("x{n}"), json!({}));
    }
    let bytes = bench.written() * ENTRY;
    assert!(bytes <= 1 << 20, "{bytes} bytes to the card for 10,000 refused commands");
    assert!(bench.data("access")[19]["verdict"] == "unsigned", "{:?}", bench.data("access").len());
    let suppressed_count: u64 =
        bench.data("access").iter().filter_map(|data| data["suppressed_count"].as_u64()).sum();
    assert!(suppressed_count > 4_900, "{suppressed_count} were counted");
}

#[test]
fn forged_commands_evict_neither_clips_nor_events() {
    let mut bench = Bench::guarded();
    bench.agent.connected = false;
    (0..1_980).for_each(|_| bench.gap());
    let before = bench.events().len();
    for n in 0..3_000 {
        bench.pass(20_000);
        bench.signed("ping", &format!("x{n}"), 9, OTHER);
        bench.command("ping", &format!("y{n}"), json!({}));
    }
    assert!(bench.data("shed").is_empty(), "{:?}", bench.data("shed"));
    assert_eq!(bench.events().len(), before, "an outbox that is half full still stores rejections");
}

#[test]
fn a_flood_of_signed_commands_evicts_no_event() {
    let mut bench = Bench::guarded();
    bench.agent.connected = false;
    (0..1_900).for_each(|_| bench.gap());
    let gaps = bench.data("gap").len();
    for n in 0..2_000 {
        bench.pass(50_000);
        bench.signed("restart", &format!("x{n}"), 10 + n, RFC);
    }
    assert_eq!(bench.data("gap").len(), gaps, "signed commands evicted events");
}

#[test]
fn forged_commands_do_not_throttle_signed_ones() {
    let mut bench = Bench::guarded();
    for n in 0..5_000 {
        bench.pass(2_000);
        bench.signed("ping", &format!("x{n}"), 9 + n, OTHER);
        if n % 500 == 0 {
            bench.signed("ping", &format!("honest{n}"), 9 + n, RFC);
        }
    }
    let answered =
        |status: &str| bench.replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!(answered("ok"), 10, "each honest ping");
    assert!(
        answered("error") <= 10 + 2 * 10 + 1,
        "{} refusals answered in 10 s",
        answered("error")
    );
}

#[test]
fn a_flood_of_signed_commands_is_rate_limited() {
    let mut bench = Bench::guarded();
    for n in 0..10_000 {
        bench.pass(1_000);
        bench.signed("ping", &format!("x{n}"), 9 + n, RFC);
    }
    let answered = bench.replies.iter().filter(|reply| reply.status == "ok").count();
    assert!((240..=260).contains(&answered), "{answered} in 10 s");
    assert!(bench.data("access").len() <= 20, "{}", bench.data("access").len());
}

#[test]
fn a_restart_must_be_signed_and_name_the_current_boot() {
    let mut bench = Bench::new();
    bench.command("restart", "r0", json!({"boot": 1}));
    assert!(
        bench.replies.pop().unwrap().detail.contains("must be signed"),
        "unsigned, and no key is enrolled"
    );
    let mut bench = Bench::guarded();
    bench.signed_with("restart", "r1", 1, RFC, json!({"boot": "9"}));
    assert_eq!(bench.replies.pop().unwrap().status, "error");
    assert!(!bench.log.contains(&"camera stop".to_owned()));
    let boot = bench.agent.boot.0.to_string();
    bench.signed_with("restart", "r2", 2, RFC, json!({"boot": boot}));
    assert_eq!(bench.replies.pop().unwrap().status, "ok");
    assert!(bench.log.contains(&"camera stop".to_owned()));
}

#[test]
fn signatures_are_required_without_a_stored_configuration() {
    let mut bench = Bench::new();
    bench.agent.settings.remote.keys = vec![trusted("office", RFC)];
    bench.command("ping", "r1", json!({}));
    assert_eq!(bench.replies.pop().unwrap().status, "error", "unsigned");
    bench.signed("ping", "r2", 1, RFC);
    assert_eq!(bench.replies.pop().unwrap().status, "ok");
    bench.signed("ping", "r3", 1, RFC);
    assert_eq!(bench.replies.pop().unwrap().status, "error", "its number was used already");
}
