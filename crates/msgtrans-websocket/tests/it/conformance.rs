//! The conformance suite of the seam, over `ws` and `wss`.

use msgtrans_testkit::{Capabilities, conformance};
use msgtrans_transport::{Connector, Endpoint, ServerProtocol};
use msgtrans_websocket::{WebSocketClientConfig, WebSocketServerConfig};

async fn conforms(
    server: impl Fn() -> WebSocketServerConfig + Send + Sync + 'static,
    connector: impl Fn(&Endpoint) -> WebSocketClientConfig + Send + Sync + 'static,
) {
    let server = move || Box::new(server()) as Box<dyn ServerProtocol>;
    let connector = move |endpoint: &Endpoint| Box::new(connector(endpoint)) as Box<dyn Connector>;
    conformance::seam(Capabilities::byte_stream(), server, connector)
        .run()
        .await
        .expect_passed();
}

fn dialled(endpoint: &Endpoint) -> WebSocketClientConfig {
    WebSocketClientConfig::from_endpoint(endpoint).expect("a listener's endpoint can be dialled")
}

fn local() -> WebSocketServerConfig {
    WebSocketServerConfig::new("127.0.0.1:0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_conforms_to_the_seam() {
    conforms(local, dialled).await;
}

#[tokio::test]
async fn ws_conforms_on_one_thread_with_small_buffers() {
    let server = || {
        local()
            .path("/chat")
            .send_buffer(65_536)
            .recv_buffer(65_536)
    };
    conforms(server, dialled).await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wss_conforms_to_the_seam() {
    use msgtrans_tls::{Identity, ServerTls};

    let identity = Identity::development().expect("a certificate");
    let pin = identity.spki_pin();
    conforms(
        move || local().tls(ServerTls::new(identity.clone())),
        move |endpoint| dialled(&endpoint.clone().with_option("pin", pin)),
    )
    .await;
}
