//! The conformance suite of the seam.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use msgtrans_inproc::{InprocClientConfig, InprocServerConfig};
use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_transport::{Connector, Endpoint, ServerProtocol};

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What must be woken is woken, or the test fails instead of hanging.
pub(crate) async fn soon<T>(woken: impl Future<Output = T>) -> T {
    let woken = tokio::time::timeout(Duration::from_secs(30), woken).await;
    woken.expect("nobody woke it")
}

fn server() -> Box<dyn ServerProtocol> {
    Box::new(InprocServerConfig::new(fresh_name()))
}

fn connector(endpoint: &Endpoint) -> Box<dyn Connector> {
    Box::new(
        InprocClientConfig::from_endpoint(endpoint).expect("a listener's endpoint can be dialled"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inproc_conforms_to_the_seam() {
    let report = conformance::seam(Capabilities::packets(), server, connector)
        .run()
        .await;
    report.expect_passed();
}

#[tokio::test]
async fn inproc_conforms_on_one_thread() {
    let report = conformance::seam(Capabilities::packets(), server, connector)
        .run()
        .await;
    report.expect_passed();
}
