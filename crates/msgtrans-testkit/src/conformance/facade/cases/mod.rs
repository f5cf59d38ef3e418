//! Every case, by what it asks for.

mod churn;
mod closing;
mod events;
mod lifecycle;
mod limits;
mod listeners;
mod middleware;
mod pipelined;
mod reentrancy;
mod requests;

use super::Protocol;
use super::protocol::{TransportClient, TransportServer, connect, start};
use crate::sessions::{Log, OnDrop, next_close, next_message, only_session, until};

type Case = super::Case<Protocol>;

/// All cases, from a session's first word to its server's last.
pub(super) fn all() -> Vec<Case> {
    [
        requests::CASES,
        events::CASES,
        pipelined::CASES,
        reentrancy::CASES,
        limits::CASES,
        middleware::CASES,
        closing::CASES,
        churn::CASES,
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
