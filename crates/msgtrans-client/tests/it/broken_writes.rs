//! A connection that breaks under the client's first words.

use std::io;
use std::task::{Context, Poll};

use msgtrans_core::{
    CloseReason, ConfigError, ConnectError, ConnectionInfo, Limits, PacketBatch, PeerAddress,
    TransportError, WireVersion,
};
use msgtrans_transport::{
    BoxFuture, Connection, ConnectionError, Connector, DialContext, Endpoint, Framing,
    OutboundBatch, Progress, ProtocolConfig, Received,
};

use crate::support::Builder;

/// Dials connections that take nothing.
#[derive(Debug)]
struct Broken;

impl ProtocolConfig for Broken {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new("broken", "here", None)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl Connector for Broken {
    fn connect<'a>(
        &'a self,
        _: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        let mut info = ConnectionInfo::new("broken", PeerAddress::Local("here".into()));
        // Not one that could be dialled again as version 1.
        info.secure = true;
        let connection: Box<dyn Connection> = Box::new(Reset(info));
        Box::pin(std::future::ready(Ok(connection)))
    }
}

/// Reset by its peer before a byte was written.
struct Reset(ConnectionInfo);

impl Connection for Reset {
    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        Poll::Pending
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        Poll::Ready(Err(ConnectionError::Io(reset)))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn set_wire(&mut self, _: WireVersion, _: Limits) {}

    fn framing(&self) -> Framing {
        Framing::Packets
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn info(&self) -> &ConnectionInfo {
        &self.0
    }
}

#[tokio::test]
async fn a_connection_that_breaks_under_the_hello_may_be_dialled_again() {
    let client = Builder::new().with_protocol(Broken).build().await;
    let client = client.expect("a good configuration");
    let error = client.connect().await.expect_err("nothing can be written");
    let TransportError::Connect(ConnectError::Handshake {
        stage,
        what,
        retryable,
        ..
    }) = error
    else {
        panic!("{error:?} instead of a failed handshake");
    };
    assert_eq!((stage, retryable), ("hello", true));
    assert!(what.contains("reset"), "{what}");
}
