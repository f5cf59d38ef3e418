//! [`CubicUntilClosed`]: quinn's CUBIC, which no longer holds anything back once the connection closes.
//!
//! quinn asks its congestion controller before it sends a CONNECTION_CLOSE while data waits to be sent, and a closed
//! connection no longer reads acknowledgements. A window that is full at that moment so stays full, the datagram never
//! leaves, and the peer waits for its idle timeout. The pacer could delay it in the same way.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// Room for one more datagram whatever is in flight, and so large that quinn does not pace.
const UNBOUNDED: u64 = u64::MAX;

/// Makes the controller of each path.
#[derive(Debug, Default)]
pub(crate) struct CubicUntilClosedConfig(Arc<CubicConfig>);

impl ControllerFactory for CubicUntilClosedConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(CubicUntilClosed {
            cubic: Cubic::new(self.0.clone(), now, current_mtu),
            closing: Arc::default(),
        })
    }
}

/// The controller of one path.
struct CubicUntilClosed {
    cubic: Cubic,
    /// Written by whoever closes, through the clone that quinn hands out; read by the connection's driver. Relaxed: the
    /// close itself follows under the connection's lock, which the driver takes before it reads.
    closing: Arc<AtomicBool>,
}

/// Lets everything pass that `connection` still sends. To be called right before it is closed: quinn then sends the
/// close and nothing else.
pub(crate) fn unbound(connection: &quinn::Connection) {
    let controller = connection.congestion_state().into_any();
    if let Ok(controller) = controller.downcast::<CubicUntilClosed>() {
        controller.closing.store(true, Ordering::Relaxed);
    }
}

impl Controller for CubicUntilClosed {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.closing.load(Ordering::Relaxed) {
            UNBOUNDED
        } else {
            self.cubic.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            cubic: self.cubic.clone(),
            closing: self.closing.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
