//! Sockets whose listeners have gone: they live on for their connections, and refuse newcomers, until a listener comes
//! back to the address or the last connection has gone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Endpoint;
use tokio::sync::Notify;

use crate::socket::Bound;

/// Of the whole process, as addresses are.
static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

struct Left {
    address: SocketAddr,
    bound: Bound,
    taken: Arc<Notify>,
}

fn left() -> MutexGuard<'static, Vec<Left>> {
    // Whole at any time: each change is one call.
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the endpoint to its connections.
pub(crate) fn leave(bound: Bound) {
    let endpoint = bound.endpoint.clone();
    // Without a runtime there is nobody to tell.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let Ok(address) = endpoint.local_addr() else {
        return;
    };
    let taken = Arc::new(Notify::new());
    left().push(Left {
        address,
        bound,
        taken: taken.clone(),
    });
    runtime.spawn(refuse(endpoint, Forget(taken)));
}

/// The endpoint that was left at `address`, for its next listener.
pub(crate) fn take(address: SocketAddr) -> Option<Bound> {
    let mut left = left();
    let index = left.iter().position(|left| left.address == address)?;
    let Left { bound, taken, .. } = left.swap_remove(index);
    taken.notify_one();
    Some(bound)
}

/// Forgets an endpoint that nobody has taken, when it is idle and where its runtime ends.
struct Forget(Arc<Notify>);

impl Drop for Forget {
    fn drop(&mut self) {
        left().retain(|left| !Arc::ptr_eq(&left.taken, &self.0));
    }
}

/// Refuses whoever comes. quinn ignores newcomers that it is not configured for, and they would take a timeout to find
/// out: refused, they know at once.
async fn refuse(endpoint: Endpoint, forget: Forget) {
    let idle = endpoint.wait_idle();
    tokio::pin!(idle);
    loop {
        tokio::select! {
            // First: who comes after it is the next listener's.
            biased;
            () = forget.0.notified() => return,
            () = &mut idle => return,
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => return,
            },
        }
    }
}
