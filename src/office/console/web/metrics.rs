//! Figures of the office for machines, as Prometheus reads them: text format 0.0.4.
//!
//! No user names, and at most 30 series of a site.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::route::Route;
use super::site_view::SiteView;
use super::web_state::lock;

/// Upper bounds of the times of requests, seconds.
const BUCKETS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 2.0, 10.0];

#[derive(Debug, Default, Clone, Copy)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// Counters of requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By class of the status, 2 for 2xx.
    statuses: Mutex<BTreeMap<u16, u64>>,
    times: Mutex<Times>,
}

impl Counts {
    /// Counts a request.
    pub(crate) fn request(&self, _route: &Route, status: u16, took: Duration) {
        *lock(&self.statuses).entry(status / 100).or_default() += 1;
        let mut times = lock(&self.times);
        let seconds = took.as_secs_f64();
        times.count += 1;
        times.seconds += seconds;
        for (bucket, bound) in times.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}

/// What stands beside the sites.
pub(crate) struct OfficeFigures {
    pub(crate) sessions: u64,
    pub(crate) streams: u64,
    pub(crate) connections: u64,
    pub(crate) audit_head: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) free_bytes: u64,
}

/// The text.
pub(crate) fn text(counts: &Counts, office: &OfficeFigures, sites: &[SiteView]) -> String {
    let mut out = String::new();
    let gauges = [
        ("taimat_office_sessions", "Open sessions.", office.sessions),
        ("taimat_office_streams", "Open streams of events.", office.streams),
        ("taimat_office_connections", "Open web connections.", office.connections),
        (
            "taimat_office_audit_head",
            "Number of the newest record of the audit trail.",
            office.audit_head,
        ),
        ("taimat_office_files", "Stored files.", office.files),
        ("taimat_office_file_bytes", "Bytes of stored files.", office.bytes),
        ("taimat_office_free_bytes", "Free bytes of the archive's disk.", office.free_bytes),
    ];
    for (name, about, value) in gauges {
        head(&mut out, name, about, "gauge");
        let _ = writeln!(out, "{name} {value}");
    }
    requests(&mut out, counts);
    type Figure = fn(&SiteView) -> Option<u64>;
    let of_site: [(&str, &str, Figure); 5] = [
        ("taimat_site_up", "1: the device is online.", |site| {
            Some(u64::from(site.presence == "online"))
        }),
        ("taimat_site_recording", "1: the device records.", |site| site.recording.map(u64::from)),
        ("taimat_site_state", "0 fault, 1 warning, 2 unknown, 3 well.", |site| {
            ["fault", "warn", "unknown", "ok"]
                .iter()
                .position(|state| *state == site.state)
                .map(|at| at as u64)
        }),
        ("taimat_site_backlog_bytes", "Bytes that wait for the office.", |site| {
            Some(site.backlog_bytes)
        }),
        ("taimat_site_card_worn_percent", "Used part of the card's life.", |site| {
            site.card_worn_percent
        }),
    ];
    for (name, about, figure) in of_site {
        head(&mut out, name, about, "gauge");
        for site in sites {
            if let Some(value) = figure(site) {
                // A site id is of `a-z`, `0-9` and `-`: nothing to escape.
                let _ = writeln!(out, "{name}{{site=\"{}\"}} {value}", site.site);
            }
        }
    }
    out
}

fn head(out: &mut String, name: &str, about: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

fn requests(out: &mut String, counts: &Counts) {
    head(
        out,
        "taimat_office_http_requests_total",
        "Answered requests by class of status.",
        "counter",
    );
    for (class, count) in lock(&counts.statuses).iter() {
        let _ = writeln!(out, "taimat_office_http_requests_total{{status=\"{class}xx\"}} {count}");
    }
    let times = *lock(&counts.times);
    let name = "taimat_office_http_seconds";
    head(out, name, "Time to an answer's head.", "histogram");
    for (bucket, bound) in times.buckets.iter().zip(BUCKETS) {
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {bucket}");
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", times.count);
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", times.seconds, times.count);
}
