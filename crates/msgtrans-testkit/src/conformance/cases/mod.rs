//! Every case, by what it asks for.

mod closing;
mod flow;
mod identity;
mod limits;
mod transfer;

use std::future::Future;

use bytes::Bytes;
use msgtrans_core::Packet;

use super::pair::Setup;
use super::{Capabilities, Case, Protocol};
use crate::failure::Failure;
use crate::peer::Peer;

/// All cases, in the order in which a new protocol meets them.
pub(super) fn all() -> Vec<Case> {
    [
        transfer::CASES,
        identity::CASES,
        flow::CASES,
        limits::CASES,
        closing::CASES,
    ]
    .concat()
}

/// A [`Case`] named like its function.
macro_rules! case {
    ($name:ident) => {
        case!($name, |_| None)
    };
    ($name:ident, $skip:expr) => {
        $crate::conformance::Case {
            name: stringify!($name),
            skip: $skip,
            waits: false,
            run: |protocol| Box::pin($name(protocol)),
        }
    };
}
use case;

/// Packets of a large payload that all share one allocation.
fn large(bytes: usize) -> Packet {
    Packet::binary(Bytes::from(vec![0xa5; bytes])).with_message_id(1)
}

/// A payload whose every byte tells where it stands.
fn pattern(bytes: usize) -> Bytes {
    (0..bytes)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

/// Whether `got` is what was sent, said without printing megabytes.
fn same(got: &Packet, sent: &Packet) -> Result<(), Failure> {
    let mut sent = sent.clone();
    // Never on a wire: whether the session gives the id.
    sent.assign_id(|| 0);
    Failure::unless(*got == sent, || {
        format!("got {got:?} where {sent:?} was sent, or their bytes differ")
    })
}

fn needs_bytes(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.bytes).then_some("packets change hands whole")
}

fn needs_v1(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.v1).then_some("version 1 is not spoken")
}

fn needs_half_close(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.half_close).then_some("a close ends both directions")
}

/// What a case returns.
type Ran = Result<(), Failure>;

/// Runs both halves of a conversation and wants both to succeed.
async fn both<A, B>(
    a: impl Future<Output = Result<A, Failure>>,
    b: impl Future<Output = Result<B, Failure>>,
) -> Result<(A, B), Failure> {
    tokio::try_join!(a, b)
}

/// Runs `part` on a fresh pair with the client as the first side, then on another with the server as the first.
async fn either_way<F>(protocol: &Protocol, setup: Setup, part: impl Fn(Peer, Peer) -> F) -> Ran
where
    F: Future<Output = Ran>,
{
    for first in ["client", "server"] {
        let pair = protocol.pair_with(setup).await?;
        // The listener outlives what it accepted.
        let _listener = pair.listener;
        let done = match first {
            "client" => part(pair.client, pair.server).await,
            _ => part(pair.server, pair.client).await,
        };
        done.map_err(|failure| Failure::new(format!("{first} first: {failure}")))?;
    }
    Ok(())
}
