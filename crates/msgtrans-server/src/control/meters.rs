//! The figures of the process as metrics.

use metrics::{Gauge, gauge};

use super::ProcessStats;

/// Handles of the `metrics` facade, held so that publishing never looks a name up.
///
/// They have no label: the figures are of the process, and the servers of one process publish the same.
pub(super) struct Meters {
    resident_bytes: Gauge,
    /// A gauge, though it only grows: counters of the facade are whole numbers, and a second is too coarse.
    cpu_seconds: Gauge,
    open_fds: Gauge,
    threads: Gauge,
    read_buffer_hit_rate: Gauge,
    frame_buffer_hit_rate: Gauge,
    buffer_pool_bytes: Gauge,
    read_buffer_shared_bytes: Gauge,
    held_bytes: Gauge,
    memory_budget: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            resident_bytes: gauge!("msgtrans_process_resident_bytes"),
            cpu_seconds: gauge!("msgtrans_process_cpu_seconds_total"),
            open_fds: gauge!("msgtrans_process_open_fds"),
            threads: gauge!("msgtrans_process_threads"),
            read_buffer_hit_rate: gauge!("msgtrans_read_buffer_hit_rate"),
            frame_buffer_hit_rate: gauge!("msgtrans_frame_buffer_hit_rate"),
            buffer_pool_bytes: gauge!("msgtrans_buffer_pool_bytes"),
            read_buffer_shared_bytes: gauge!("msgtrans_read_buffer_shared_bytes"),
            held_bytes: gauge!("msgtrans_held_bytes"),
            memory_budget: gauge!("msgtrans_memory_budget_bytes"),
        }
    }

    /// What is not known is not published, rather than as 0.
    pub(super) fn publish(&self, stats: &ProcessStats) {
        let whole = |gauge: &Gauge, value: Option<u64>| {
            if let Some(value) = value {
                gauge.set(value as f64);
            }
        };
        whole(&self.resident_bytes, stats.resident_bytes);
        whole(&self.open_fds, stats.open_fds);
        whole(&self.threads, stats.threads);
        if let Some(cpu) = stats.cpu_time {
            self.cpu_seconds.set(cpu.as_secs_f64());
        }
        self.read_buffer_hit_rate.set(stats.read_buffer_hit_rate);
        self.frame_buffer_hit_rate.set(stats.frame_buffer_hit_rate);
        self.buffer_pool_bytes.set(stats.buffer_pool_bytes as f64);
        self.read_buffer_shared_bytes
            .set(stats.read_buffer_shared_bytes as f64);
        self.held_bytes.set(stats.held_bytes as f64);
        self.memory_budget.set(stats.memory_budget as f64);
    }
}
