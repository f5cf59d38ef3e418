//! The poll-based actor under every session: lanes with budgets, a mailbox, coarse timers, supervision, a lossy bus.
//!
//! An [`Actor`] is one task with three lanes (commands, outbound, inbound) that a [`Driver`] runs in passes, so that
//! none starves another and what a pass produces leaves together at its end. Other tasks reach it through its
//! [`Mailbox`], which wakes it at most once until it has looked. This crate knows nothing of packets.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actor;
mod bus;
mod byte_account;
mod mailbox;
mod task_group;
mod timeout;
mod timers;

pub use actor::{Actor, Driver, Lane};
pub use bus::{BusReceiver, EventBus, Received};
pub use byte_account::{BellGuard, ByteAccount, LOT};
pub use mailbox::{Bounds, Mailbox, Push, PushError};
pub use task_group::{Panicked, TaskGroup};
pub use timeout::Elapsed;
pub use timers::{TimerKey, Timers};

#[cfg(test)]
mod test_waker;

#[cfg(all(test, msgtrans_shuttle))]
mod shuttle_models;
