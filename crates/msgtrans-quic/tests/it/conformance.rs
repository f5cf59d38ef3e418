//! The suite that every protocol passes.

use std::time::Duration;

use msgtrans_quic::QuicClientConfig;
use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_tls::Identity;

use crate::end::local;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_is_a_protocol_of_the_seam() {
    let identity = Identity::development().expect("an identity");
    let pin = identity.spki_pin();
    let report = conformance::seam(
        // A UDP port where nobody is says nothing.
        Capabilities::byte_stream().refuses(false),
        // A peer that is dropped says so in one datagram; where that is lost, its silence tells, and within the deadline
        // of a case: the default of 60 s is as long as that.
        move || {
            Box::new(
                local()
                    .with_identity(identity.clone())
                    .max_idle_timeout(Duration::from_secs(10)),
            )
        },
        move |endpoint| {
            let address = endpoint.authority().expect("an address");
            Box::new(QuicClientConfig::new(address).with_pin(pin))
        },
    )
    .run()
    .await;
    report.expect_passed();
}
