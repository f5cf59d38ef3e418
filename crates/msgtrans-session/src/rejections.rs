//! [`Rejections`]: who was turned away or cut off, counted by reason.

use msgtrans_core::{CloseReason, Code, Initiator};
use msgtrans_lockfree::Counter;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $variant:ident => $label:literal;)*) => {
        /// Why a peer was turned away or cut off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rejection {
            $($(#[$doc])* $variant,)*
        }

        /// Peers turned away or cut off, by reason. The `metrics` facade has them as `msgtrans_rejections_total` with
        /// the fields' names as `reason`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Rejections {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Rejections {
            /// Each reason with its count.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$(($label, self.$name)),*].into_iter()
            }

            /// All of them together.
            pub fn total(&self) -> u64 {
                self.iter().map(|(_, count)| count).sum()
            }
        }

        /// The counters behind [`Rejections`]. One that is never used has cost its memory alone.
        pub(crate) struct RejectionCounters {
            $($name: (Counter, metrics::Counter),)*
        }

        impl RejectionCounters {
            pub(crate) fn new(role: &'static str) -> Self {
                Self {
                    $($name: (
                        Counter::new(),
                        metrics::counter!("msgtrans_rejections_total", "role" => role, "reason" => $label),
                    ),)*
                }
            }

            pub(crate) fn add(&self, rejection: Rejection) {
                let (counter, meter) = match rejection {
                    $(Rejection::$variant => &self.$name,)*
                };
                counter.add(1);
                meter.increment(1);
            }

            pub(crate) fn snapshot(&self) -> Rejections {
                Rejections { $($name: self.$name.0.get(),)* }
            }
        }
    };
}

reasons! {
    /// Its address had too many connections already.
    address = Address => "address";
    /// The handshake below ours failed: TLS, HTTP upgrade or QUIC.
    handshake = Handshake => "handshake";
    /// It was gone before its handshake had ended.
    gone = Gone => "gone";
    /// It broke the wire format.
    protocol_error = ProtocolError => "protocol_error";
    /// A frame or a payload of its was above a limit.
    too_large = TooLarge => "too_large";
    /// The application refused it.
    unauthorized = Unauthorized => "unauthorized";
    /// There was no room for its session.
    overloaded = Overloaded => "overloaded";
    /// It held the most while the process held too many bytes.
    memory = Memory => "memory";
    /// It was silent for too long, or too slow with its handshake or a frame.
    timeout = Timeout => "timeout";
    /// It did not read what was written to it.
    slow_consumer = SlowConsumer => "slow_consumer";
    /// It asked for a session that is not kept here.
    resume_refused = ResumeRefused => "resume_refused";
    /// It came while the server was shutting down.
    going_away = GoingAway => "going_away";
    /// Refused for any other reason: the application's own codes.
    other = Other => "other";
}

impl Rejection {
    /// Why a handshake with `code` was refused.
    pub(crate) fn of_handshake(code: Code) -> Self {
        match code {
            Code::NORMAL => Self::Gone,
            Code::GOING_AWAY => Self::GoingAway,
            Code::UNAUTHORIZED => Self::Unauthorized,
            Code::OVERLOADED | Code::RATE_LIMITED => Self::Overloaded,
            Code::RESUME_REFUSED => Self::ResumeRefused,
            code => Self::of_fault(code).unwrap_or(Self::Other),
        }
    }

    /// Why a session was cut off; `None` for an end that is no fault of the peer's.
    pub(crate) fn of_end(reason: &CloseReason) -> Option<Self> {
        if reason.initiator == Initiator::Peer {
            return None;
        }
        Self::of_fault(reason.code)
    }

    fn of_fault(code: Code) -> Option<Self> {
        match code {
            Code::PROTOCOL_ERROR | Code::UNSUPPORTED => Some(Self::ProtocolError),
            Code::TOO_LARGE => Some(Self::TooLarge),
            Code::TIMEOUT => Some(Self::Timeout),
            Code::SLOW_CONSUMER => Some(Self::SlowConsumer),
            _ => None,
        }
    }
}
