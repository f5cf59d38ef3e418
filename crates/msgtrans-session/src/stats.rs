//! What is counted, and snapshots of it.

use std::time::Duration;

use msgtrans_core::{CloseReason, Code};
use msgtrans_lockfree::{Counter, Gauge, Histogram, SoleCounter, Tally};

use crate::rejections::{Rejection, RejectionCounters, Rejections};

/// In a pass the counts behind `rarely` are nearly always zero: they lie apart, and whoever asks for them is noted.
macro_rules! counters {
    (
        often { $($(#[$often_doc:meta])* $often:ident => $often_metric:literal;)* }
        rarely { $($(#[$rare_doc:meta])* $rare:ident => $rare_metric:literal;)* }
    ) => {
        counters! {
            @all
            $($(#[$often_doc])* $often => $often_metric;)*
            $($(#[$rare_doc])* $rare => $rare_metric;)*
        }

        impl PassCounts {
            /// Adds the counts to both levels and forgets them.
            #[inline]
            pub(crate) fn flush(&mut self, session: &SessionCounters, runtime: &RuntimeStats) {
                $(session.$often.add(self.$often);)*
                self.flush_past(runtime);
                $(self.$often = 0;)*
                if std::mem::take(&mut self.has_rare) {
                    self.flush_rare(session, runtime);
                }
            }

            /// Adds the counts of what happens often to those of all sessions, for what went past a session's task.
            #[inline]
            fn flush_past(&self, runtime: &RuntimeStats) {
                runtime.counters.often.add([$(self.$often),*]);
                $(if self.$often != 0 {
                    runtime.meters.$often.increment(self.$often);
                })*
            }

            /// Counts of what happens rarely, to be changed.
            #[inline]
            pub(crate) fn rare(&mut self) -> &mut RareCounts {
                self.has_rare = true;
                &mut self.rare
            }

            #[cold]
            fn flush_rare(&mut self, session: &SessionCounters, runtime: &RuntimeStats) {
                let rare = std::mem::take(&mut self.rare);
                $(if rare.$rare != 0 {
                    session.$rare.add(rare.$rare);
                    runtime.counters.$rare.add(rare.$rare);
                    runtime.meters.$rare.increment(rare.$rare);
                })*
            }
        }

        /// Counts of all sessions of a server or client, striped so that threads do not share cache lines.
        #[derive(Debug, Default)]
        pub(crate) struct RuntimeCounters {
            often: Tally<{ [$($often_metric),*].len() }>,
            $($rare: Counter,)*
        }

        impl RuntimeCounters {
            fn snapshot(&self) -> TransportStats {
                let [$($often),*] = self.often.get();
                TransportStats {
                    $($often,)*
                    $($rare: self.$rare.get(),)*
                    ..TransportStats::default()
                }
            }
        }

        /// What one pass has counted, added to session and runtime at its end.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct PassCounts {
            $(pub(crate) $often: u64,)*
            has_rare: bool,
            rare: RareCounts,
        }

        /// What few passes count.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct RareCounts {
            $(pub(crate) $rare: u64,)*
        }
    };
    (@all $($(#[$doc:meta])* $name:ident => $metric:literal;)*) => {
        /// Counts of one session. Each has one writer at a time, so that a pass adds without contention.
        #[derive(Debug, Default)]
        pub(crate) struct SessionCounters {
            $(pub(crate) $name: SoleCounter,)*
        }

        /// What one session has done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct SessionStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests of this side without a response yet.
            pub requests_pending: usize,
            /// Packets queued to be written.
            pub queued: usize,
            /// Bytes queued to be written.
            pub queued_bytes: usize,
        }

        impl SessionCounters {
            pub(crate) fn snapshot(&self) -> SessionStats {
                SessionStats { $($name: self.$name.get(),)* ..SessionStats::default() }
            }
        }

        /// What all sessions of a server or client have done so far.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct TransportStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Sessions open now.
            pub sessions: i64,
            /// Sessions opened so far.
            pub sessions_opened: u64,
            /// Sessions ended so far.
            pub sessions_closed: u64,
            /// Handshakes that failed or were refused.
            pub handshakes_failed: u64,
            /// Peers turned away or cut off, by reason.
            pub rejections: Rejections,
            /// From the read that brought a message to the moment its reply was queued or its handler had returned. Of reads
            /// that bring one or two messages one in eight is measured, of the others each.
            pub handling: LatencyStats,
            /// From a request of this side to its response, as the session's task saw them leave and come; in process, where
            /// they went past the task, as they left and came, and of those one in eight.
            pub round_trip: LatencyStats,
        }

        /// Handles of the `metrics` facade, held so that counting never looks a name up.
        pub(crate) struct Meters {
            $($name: metrics::Counter,)*
            sessions: metrics::Gauge,
            handling: metrics::Histogram,
            round_trip: metrics::Histogram,
        }

        impl Meters {
            fn new(role: &'static str) -> Self {
                Self {
                    $($name: metrics::counter!($metric, "role" => role),)*
                    sessions: metrics::gauge!("msgtrans_sessions", "role" => role),
                    handling: metrics::histogram!("msgtrans_handling_seconds", "role" => role),
                    round_trip: metrics::histogram!("msgtrans_round_trip_seconds", "role" => role),
                }
            }
        }
    };
}

counters! {
    often {
        /// Data packets received.
        packets_in => "msgtrans_packets_in_total";
        /// Data packets sent.
        packets_out => "msgtrans_packets_out_total";
        /// Bytes read from the connection.
        bytes_in => "msgtrans_bytes_in_total";
        /// Bytes written to the connection.
        bytes_out => "msgtrans_bytes_out_total";
        /// Requests of the peer.
        requests_in => "msgtrans_requests_in_total";
    }
    rarely {
        /// Responses that nobody awaited, or no longer.
        responses_unmatched => "msgtrans_responses_unmatched_total";
        /// Requests of the peer that it cancelled while they ran.
        requests_cancelled => "msgtrans_requests_cancelled_total";
        /// Requests of the peer refused because too many ran already.
        requests_overloaded => "msgtrans_requests_overloaded_total";
        /// Errors returned by handlers.
        handler_errors => "msgtrans_handler_errors_total";
        /// Packets that a middleware kept from the handler.
        packets_refused => "msgtrans_packets_refused_total";
        /// Times that reading paused because the peer was above its rate.
        rate_limited => "msgtrans_rate_limited_total";
        /// Messages dropped, oldest first, because nobody takes the events.
        events_dropped => "msgtrans_events_dropped_total";
        /// Pings written.
        pings_out => "msgtrans_pings_out_total";
    }
}

/// Quantiles of a latency, from a log-linear histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyStats {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: Duration,
    /// 99 in 100 are at most this.
    pub p99: Duration,
    /// 999 in 1000 are at most this.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

impl LatencyStats {
    fn of(histogram: &Histogram) -> Self {
        let snapshot = histogram.snapshot();
        let at = |quantile| Duration::from_nanos(snapshot.quantile(quantile));
        Self {
            count: snapshot.count(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(snapshot.max()),
        }
    }
}

/// Everything that a server or client counts over all its sessions.
pub struct RuntimeStats {
    pub(crate) counters: RuntimeCounters,
    pub(crate) meters: Meters,
    sessions: Gauge,
    sessions_opened: Counter,
    sessions_closed: Counter,
    handshakes_failed: Counter,
    rejections: RejectionCounters,
    handling: Histogram,
    round_trip: Histogram,
}

impl std::fmt::Debug for RuntimeStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RuntimeStats")
            .field(&self.snapshot())
            .finish()
    }
}

impl RuntimeStats {
    /// Zeroes; `role` labels the metrics: `"server"` or `"client"`.
    pub fn new(role: &'static str) -> Self {
        Self {
            counters: RuntimeCounters::default(),
            meters: Meters::new(role),
            sessions: Gauge::new(),
            sessions_opened: Counter::new(),
            sessions_closed: Counter::new(),
            handshakes_failed: Counter::new(),
            rejections: RejectionCounters::new(role),
            handling: Histogram::new(),
            round_trip: Histogram::new(),
        }
    }

    pub(crate) fn session_opened(&self) {
        self.sessions.add(1);
        self.sessions_opened.add(1);
        self.meters.sessions.increment(1.0);
    }

    pub(crate) fn session_closed(&self, reason: &CloseReason) {
        if let Some(rejection) = Rejection::of_end(reason) {
            self.rejected(rejection);
        }
        self.sessions.add(-1);
        self.sessions_closed.add(1);
        self.meters.sessions.decrement(1.0);
    }

    /// A handshake of ours failed or was refused.
    pub(crate) fn handshake_refused(&self, code: Code) {
        self.handshake_failed(Rejection::of_handshake(code));
    }

    /// A handshake failed or was refused.
    pub fn handshake_failed(&self, rejection: Rejection) {
        self.handshakes_failed.add(1);
        self.rejected(rejection);
    }

    /// A peer was turned away or cut off.
    pub fn rejected(&self, rejection: Rejection) {
        self.rejections.add(rejection);
    }

    /// A data packet left past its session's task.
    #[inline]
    pub(crate) fn sent_past(&self, bytes: usize) {
        let past = PassCounts {
            packets_out: 1,
            bytes_out: bytes as u64,
            ..PassCounts::default()
        };
        past.flush_past(self);
    }

    /// Data packets left past their sessions' tasks: see
    /// [`Session::try_write_encoded`](crate::Session::try_write_encoded).
    pub fn wrote_past(&self, packets: u64, bytes: u64) {
        let past = PassCounts {
            packets_out: packets,
            bytes_out: bytes,
            ..PassCounts::default()
        };
        past.flush_past(self);
    }

    /// A data packet came past its session's task.
    #[inline]
    pub(crate) fn received_past(&self, bytes: usize) {
        let past = PassCounts {
            packets_in: 1,
            bytes_in: bytes as u64,
            ..PassCounts::default()
        };
        past.flush_past(self);
    }

    pub(crate) fn handled(&self, time: Duration, count: u64) {
        self.handling.record_n(nanos(time), count);
        self.meters.handling.record(time.as_secs_f64());
    }

    pub(crate) fn round_trips(&self, time: Duration, count: u64) {
        self.round_trip.record_n(nanos(time), count);
        let many = usize::try_from(count).unwrap_or(usize::MAX);
        self.meters.round_trip.record_many(time.as_secs_f64(), many);
    }

    /// The sums and quantiles now.
    pub fn snapshot(&self) -> TransportStats {
        TransportStats {
            sessions: self.sessions.get(),
            sessions_opened: self.sessions_opened.get(),
            sessions_closed: self.sessions_closed.get(),
            handshakes_failed: self.handshakes_failed.get(),
            rejections: self.rejections.snapshot(),
            handling: LatencyStats::of(&self.handling),
            round_trip: LatencyStats::of(&self.round_trip),
            ..self.counters.snapshot()
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
