//! The conformance suite of the seam.

use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_transport::Endpoint;

fn connector(endpoint: &Endpoint) -> Box<dyn msgtrans_transport::Connector> {
    Box::new(
        TcpClientConfig::from_endpoint(endpoint).expect("a listener's endpoint can be dialled"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_conforms_to_the_seam() {
    let server = || Box::new(TcpServerConfig::new("127.0.0.1:0")) as Box<_>;
    let report = conformance::seam(
        Capabilities::byte_stream().v1_close_waits(true),
        server,
        connector,
    )
    .run()
    .await;
    report.expect_passed();
}

#[tokio::test]
async fn tcp_conforms_on_one_thread_with_small_buffers_and_ipv6() {
    let server = || {
        Box::new(
            TcpServerConfig::new("[::1]:0")
                .send_buffer(65_536)
                .recv_buffer(65_536),
        ) as Box<_>
    };
    let report = conformance::seam(
        Capabilities::byte_stream().v1_close_waits(true),
        server,
        connector,
    )
    .run()
    .await;
    report.expect_passed();
}
