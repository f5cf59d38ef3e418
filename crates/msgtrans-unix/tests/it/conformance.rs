//! The conformance suite of the seam.

use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_transport::{Connector, Endpoint};
use msgtrans_unix::{UnixClientConfig, UnixServerConfig};

use crate::fresh;

async fn conforms() {
    let server = || Box::new(UnixServerConfig::new(fresh())) as Box<_>;
    let connector = |endpoint: &Endpoint| {
        let client = UnixClientConfig::from_endpoint(endpoint).expect("can be dialled");
        Box::new(client) as Box<dyn Connector>
    };
    let report = conformance::seam(Capabilities::byte_stream(), server, connector)
        .run()
        .await;
    report.expect_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_conforms_to_the_seam() {
    conforms().await;
}

#[tokio::test]
async fn unix_conforms_on_one_thread() {
    conforms().await;
}
