//! What is too large, refused from the header alone.

use std::future::poll_fn;

use msgtrans_core::{Code, Initiator, Limits, Packet, PacketType};
use msgtrans_transport::ConnectionError;

use super::{Case, Ran, both, case, large, pattern};
use crate::conformance::Protocol;
use crate::conformance::pair::{Pair, Setup};
use crate::failure::Failure;
use crate::peer::{Peer, accept};

pub(super) const CASES: &[Case] = &[
    case!(a_payload_above_the_limit_is_refused_from_its_header),
    case!(an_extended_header_above_the_limit_is_refused),
    case!(a_payload_at_the_limit_is_taken),
    case!(a_first_frame_above_the_limit_of_the_context_is_refused),
    case!(a_control_frame_above_its_limit_is_not_sent),
    case!(a_refused_packet_leaves_the_batch_as_it_was),
];

/// The smallest payload limit that a version 2 session can have with this extended header limit.
fn small() -> Result<Limits, Failure> {
    Ok(Limits::new(100_000, 1000)?)
}

async fn small_pair(protocol: &Protocol) -> Result<Pair, Failure> {
    let setup = Setup {
        limits: small()?,
        ..Setup::default()
    };
    protocol.pair_with(setup).await
}

/// A refusal for the size alone: of our header, or of a frame of the protocol's own that cannot hold a legal one and is
/// refused in the protocol's own words.
fn too_large(received: Result<Option<Packet>, ConnectionError>) -> Ran {
    let code = match &received {
        Err(ConnectionError::Decode(error)) => Some(error.code()),
        Err(ConnectionError::Closed(reason)) if reason.initiator == Initiator::Local => {
            Some(reason.code)
        }
        _ => None,
    };
    Failure::unless(code == Some(Code::TOO_LARGE), || {
        format!("expected a refusal, got {received:?}")
    })
}

/// Sends what stands in front, then `packet`; the receiver must get the first and refuse the second as too large.
async fn refused(protocol: &Protocol, packet: Packet) -> Result<u64, Failure> {
    let mut pair = small_pair(protocol).await?;
    let before = pair.server.progress().read;
    pair.client.queue(large(100))?;
    pair.client.queue(packet)?;
    let (client, server) = (&mut pair.client, &mut pair.server);
    tokio::select! {
        biased;
        read = async {
            server.expect().await?;
            let received = server.recv().await;
            too_large(received)?;
            Ok(server.progress().read - before)
        } => read,
        error = async {
            // The receiver stops reading, so the rest may never leave.
            let _ = client.flush().await;
            std::future::pending().await
        } => error,
    }
}

async fn a_payload_above_the_limit_is_refused_from_its_header(protocol: Protocol) -> Ran {
    refused(&protocol, large(100_001)).await?;
    let bytes = protocol.capabilities.max_payload;
    let read = refused(&protocol, large(bytes)).await?;
    if !protocol.capabilities.bytes {
        return Ok(());
    }
    // One read buffer may hold some of what follows the header; the claimed length must not be waited for.
    Failure::unless(read < bytes as u64 / 4, || {
        format!("{read} of {bytes} bytes were read before the header was refused")
    })
}

async fn an_extended_header_above_the_limit_is_refused(protocol: Protocol) -> Ran {
    let packet = Packet::text("").with_ext_header(pattern(1001));
    refused(&protocol, packet).await.map(drop)
}

async fn a_payload_at_the_limit_is_taken(protocol: Protocol) -> Ran {
    let mut pair = small_pair(&protocol).await?;
    let packet = large(100_000).with_ext_header(pattern(1000));
    both(pair.client.send(packet), pair.server.expect()).await?;
    Ok(())
}

async fn a_first_frame_above_the_limit_of_the_context_is_refused(protocol: Protocol) -> Ran {
    let setup = Setup {
        first: small()?,
        ..Setup::default()
    };
    let mut listener = protocol.listen(setup).await?;
    let endpoint = listener.local_endpoint();
    let dial = async {
        // The receiver closes on it, so the rest may never leave.
        let client = protocol.dial(&endpoint, setup, [large(200_000)]).await;
        std::future::pending::<()>().await;
        drop(client);
    };
    tokio::select! {
        biased;
        refused = async {
            let mut server = Peer::new(accept(listener.as_mut()).await?, setup.version);
            too_large(poll_fn(|cx| server.poll_recv(cx)).await)
        } => refused,
        () = dial => Ok(()),
    }
}

async fn a_control_frame_above_its_limit_is_not_sent(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let ping = Packet::numbered(PacketType::Ping, 1, vec![0; 65]);
    let queued = pair.client.queue(ping);
    Failure::unless(queued.is_err(), || {
        "a Ping of 65 bytes was queued".to_owned()
    })
}

async fn a_refused_packet_leaves_the_batch_as_it_was(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let bad = Packet::text("").with_ext_header(pattern(65_536));
    pair.client.queue(large(1))?;
    let refused = pair.client.queue(bad).is_err();
    Failure::unless(refused, || {
        "an extended header of 65536 bytes was queued".to_owned()
    })?;
    pair.client.queue(large(2))?;
    pair.client.flush().await?;
    for len in [1, 2] {
        let got = pair.server.expect().await?.payload.len();
        Failure::unless(got == len, || {
            format!("got {got} bytes where {len} were sent")
        })?;
    }
    Ok(())
}
