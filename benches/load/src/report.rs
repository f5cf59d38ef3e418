//! The one JSON line that a run prints.

use bench_kit::process::Usage;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// What was counted between the two ends of the measured time.
pub(crate) struct Measured {
    pub(crate) time: Duration,
    pub(crate) messages: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Bytes of a message and of its answer, if it has one, with all framing of theirs.
    pub(crate) bytes_per_message: usize,
    pub(crate) own: Usage,
    /// The watched process, where there is one.
    pub(crate) server: Option<Usage>,
    /// Nanoseconds from sending (or the intended time) to the answer.
    pub(crate) latency: Histogram<u64>,
}

/// Counters between two readings.
pub(crate) fn difference(after: Usage, before: Usage) -> Usage {
    Usage {
        cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
        // Threads may have ended, so these can go back.
        voluntary_switches: after
            .voluntary_switches
            .saturating_sub(before.voluntary_switches),
        involuntary_switches: after
            .involuntary_switches
            .saturating_sub(before.involuntary_switches),
    }
}

/// A histogram of nanoseconds up to a minute, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("constant bounds are valid")
}

impl Measured {
    pub(crate) fn to_json(&self) -> Value {
        let seconds = self.time.as_secs_f64();
        let messages = self.messages as f64;
        let micros = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let mut out = json!({
            "seconds": seconds,
            "messages": self.messages,
            "messages_per_s": messages / seconds,
            "bytes_per_s": messages * self.bytes_per_message as f64 / seconds,
            "load_cpu_ns_per_message": self.own.cpu_ns as f64 / messages,
            "load_cpu_share": self.own.cpu_ns as f64 / 1e9 / seconds,
            "messages_per_read": messages / self.reads.max(1) as f64,
            "messages_per_write": messages / self.writes.max(1) as f64,
        });
        if !self.latency.is_empty() {
            out["latency_us"] = json!({
                "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "p999": micros(0.999),
                "max": self.latency.max() as f64 / 1e3,
            });
        }
        if let Some(server) = self.server {
            out["server_cpu_ns_per_message"] = json!(server.cpu_ns as f64 / messages);
            out["server_cpu_share"] = json!(server.cpu_ns as f64 / 1e9 / seconds);
            out["server_voluntary_switches"] = json!(server.voluntary_switches);
            out["server_involuntary_switches"] = json!(server.involuntary_switches);
        }
        out
    }
}
