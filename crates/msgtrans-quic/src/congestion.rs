//! [`UntilClosed`]: a congestion controller of quinn's, which no longer holds anything back once the connection closes.
//!
//! quinn asks its congestion controller before it sends a CONNECTION_CLOSE while data waits to be sent, and a closed
//! connection no longer reads acknowledgements. A window that is full at that moment so stays full, the datagram never
//! leaves, and the peer waits for its idle timeout. The pacer could delay it in the same way.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{
    Bbr, BbrConfig, Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig, NewReno,
    NewRenoConfig,
};
use quinn_proto::RttEstimator;

/// How a sender finds out what a path carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuicCongestion {
    /// Slows down to 7/10 at a loss and finds back quickly; the default.
    Cubic,
    /// Follows the measured bandwidth and round trip, whatever is lost. quinn calls its own experimental.
    Bbr,
    /// Halves at a loss and finds back a datagram a round trip: fair to whoever does the same.
    NewReno,
}

impl QuicCongestion {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Cubic, "cubic"),
        (Self::Bbr, "bbr"),
        (Self::NewReno, "new_reno"),
    ];
}

impl fmt::Display for QuicCongestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(congestion, _)| congestion == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// The text is none of `cubic`, `bbr` and `new_reno`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCongestion;

impl fmt::Display for UnknownCongestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be cubic, bbr or new_reno")
    }
}

impl std::error::Error for UnknownCongestion {}

impl FromStr for QuicCongestion {
    type Err = UnknownCongestion;

    fn from_str(text: &str) -> Result<Self, UnknownCongestion> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(congestion, _)| *congestion)
            .ok_or(UnknownCongestion)
    }
}

/// Room for one more datagram whatever is in flight, and so large that quinn does not pace.
const UNBOUNDED: u64 = u64::MAX;

/// Makes the controllers of each path.
pub(crate) fn factory(congestion: QuicCongestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        QuicCongestion::Cubic => Arc::new(CubicUntilClosed::default()),
        QuicCongestion::Bbr => Arc::new(BbrUntilClosed::default()),
        QuicCongestion::NewReno => Arc::new(NewRenoUntilClosed::default()),
    }
}

#[derive(Default)]
struct CubicUntilClosed(Arc<CubicConfig>);

impl ControllerFactory for CubicUntilClosed {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        UntilClosed::boxed(Cubic::new(self.0.clone(), now, current_mtu))
    }
}

#[derive(Default)]
struct BbrUntilClosed(Arc<BbrConfig>);

impl ControllerFactory for BbrUntilClosed {
    fn build(self: Arc<Self>, _: Instant, current_mtu: u16) -> Box<dyn Controller> {
        UntilClosed::boxed(Bbr::new(self.0.clone(), current_mtu))
    }
}

#[derive(Default)]
struct NewRenoUntilClosed(Arc<NewRenoConfig>);

impl ControllerFactory for NewRenoUntilClosed {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        UntilClosed::boxed(NewReno::new(self.0.clone(), now, current_mtu))
    }
}

/// The controller of one path.
#[derive(Clone)]
struct UntilClosed<C> {
    inner: C,
    /// Written by whoever closes, through the clone that quinn hands out; read by the connection's driver. Relaxed: the
    /// close itself follows under the connection's lock, which the driver takes before it reads.
    closing: Arc<AtomicBool>,
}

impl<C: Controller + Clone + 'static> UntilClosed<C> {
    fn boxed(inner: C) -> Box<dyn Controller> {
        Box::new(Self {
            inner,
            closing: Arc::default(),
        })
    }
}

/// Lets everything pass that `connection` still sends. To be called right before it is closed: quinn then sends the
/// close and nothing else.
pub(crate) fn unbound(connection: &quinn::Connection) {
    let controller = connection.congestion_state().into_any();
    let closing = closing_of::<Cubic>(&*controller)
        .or_else(|| closing_of::<Bbr>(&*controller))
        .or_else(|| closing_of::<NewReno>(&*controller));
    if let Some(closing) = closing {
        closing.store(true, Ordering::Relaxed);
    }
}

fn closing_of<C: 'static>(controller: &dyn Any) -> Option<&AtomicBool> {
    let controller = controller.downcast_ref::<UntilClosed<C>>()?;
    Some(&controller.closing)
}

impl<C: Controller + Clone + 'static> Controller for UntilClosed<C> {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.closing.load(Ordering::Relaxed) {
            UNBOUNDED
        } else {
            self.inner.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn left_after_a_loss(congestion: QuicCongestion) -> f64 {
        let now = Instant::now();
        let mut controller = factory(congestion).build(now, 1_200);
        let before = controller.window();
        // Losses of what was sent before the controller was made do not count.
        let sent = now + Duration::from_millis(1);
        controller.on_sent(sent, before, 1);
        controller.on_congestion_event(sent, sent, false, 1_200);
        controller.window() as f64 / before as f64
    }

    #[test]
    fn a_lost_packet_halves_new_reno_slows_cubic_and_not_bbr() {
        let new_reno = left_after_a_loss(QuicCongestion::NewReno);
        assert!(new_reno < 0.55, "{new_reno} of the window is left");
        let cubic = left_after_a_loss(QuicCongestion::Cubic);
        assert!(
            (0.65..0.75).contains(&cubic),
            "{cubic} of the window is left"
        );
        let bbr = left_after_a_loss(QuicCongestion::Bbr);
        assert!(bbr >= 1.0, "{bbr} of the window is left");
    }
}
