//! Every case, by what it asks for.

mod churn;
mod closing;
mod deadlines;
mod events;
mod heartbeat;
mod lifecycle;
mod limits;
mod listeners;
mod middleware;
mod pipelined;
mod reconnect;
mod reentrancy;
mod requests;
mod sessions;

use super::Protocol;
use super::protocol::{HEARTBEAT, TransportClient, TransportServer, connect, start, welcome};
use crate::capabilities::Capabilities;
use crate::peer::accept;
use crate::sessions::{Log, OnDrop, next_close, next_message, only_session, until};

type Case = super::Case<Protocol>;

/// All cases, from a session's first word to its server's last.
pub(super) fn all() -> Vec<Case> {
    [
        sessions::CASES,
        requests::CASES,
        events::CASES,
        pipelined::CASES,
        reentrancy::CASES,
        limits::CASES,
        deadlines::CASES,
        heartbeat::CASES,
        middleware::CASES,
        closing::CASES,
        churn::CASES,
        reconnect::CASES,
        listeners::CASES,
        lifecycle::CASES,
    ]
    .concat()
}

/// A [`Case`] named like its function. One that `waits` does so for seconds in which nothing happens.
macro_rules! case {
    ($name:ident) => {
        case!($name, |_| None)
    };
    ($name:ident waits) => {
        $crate::conformance::Case {
            waits: true,
            ..case!($name)
        }
    };
    ($name:ident, $skip:expr) => {
        $crate::conformance::Case {
            name: stringify!($name),
            skip: $skip,
            waits: false,
            run: |protocol| {
                Box::pin(async {
                    $name(protocol).await;
                    Ok(())
                })
            },
        }
    };
}
use case;

fn needs_large(capabilities: &Capabilities) -> Option<&'static str> {
    (capabilities.max_payload < 1_000_000).then_some("payloads of 1 MB do not cross")
}
