//! What the test kit's own parts promise, on real sockets.

mod datagram_proxy;
mod stream_proxy;

use std::future::Future;
use std::time::Duration;

/// What takes this long hangs.
async fn within_deadline<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("hangs: not done in time")
}
