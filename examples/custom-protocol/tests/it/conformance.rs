//! The conformance suites of the seam and of the facade.

use std::sync::atomic::{AtomicUsize, Ordering};

use custom_protocol::{AppSchemes, DuplexConfig, ParcelConfig};
use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_transport::{Connector, Endpoint, ServerProtocol};

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

const DUPLEX: Capabilities = Capabilities::byte_stream().v1_close_waits(true);
// Large packets travel in parts; there is no version 1.
const PARCEL: Capabilities = Capabilities::byte_stream().v1(false);

async fn duplex_conforms() {
    let server = || Box::new(DuplexConfig::new(fresh_name())) as Box<dyn ServerProtocol>;
    let connector = |endpoint: &Endpoint| {
        Box::new(DuplexConfig::from_endpoint(endpoint).expect("a URL")) as Box<dyn Connector>
    };
    let report = conformance::seam(DUPLEX, server, connector).run().await;
    report.expect_passed();
}

/// Both ends send as `tuned` says.
async fn parcel_conforms(tuned: fn(ParcelConfig) -> ParcelConfig) {
    let server =
        move || Box::new(tuned(ParcelConfig::new(fresh_name()))) as Box<dyn ServerProtocol>;
    let connector = move |endpoint: &Endpoint| {
        let config = ParcelConfig::from_endpoint(endpoint).expect("a URL");
        Box::new(tuned(config)) as Box<dyn Connector>
    };
    let report = conformance::seam(PARCEL, server, connector).run().await;
    report.expect_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplex_conforms_to_the_seam() {
    duplex_conforms().await;
}

#[tokio::test]
async fn duplex_conforms_on_one_thread() {
    duplex_conforms().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parcel_conforms_to_the_seam() {
    parcel_conforms(|config| config).await;
}

#[tokio::test]
async fn parcel_conforms_on_one_thread() {
    parcel_conforms(|config| config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parcel_conforms_with_small_messages_as_they_are() {
    parcel_conforms(|config| config.message_bytes(4096).pack(false)).await;
}

#[tokio::test]
async fn duplex_conforms_to_the_facade() {
    let listen = || format!("duplex://{}", fresh_name());
    let report = conformance::facade::<AppSchemes>(DUPLEX, listen)
        .run()
        .await;
    report.expect_passed();
}

#[tokio::test]
async fn parcel_conforms_to_the_facade() {
    let listen = || format!("parcel://{}", fresh_name());
    let report = conformance::facade::<AppSchemes>(PARCEL, listen)
        .run()
        .await;
    report.expect_passed();
}
