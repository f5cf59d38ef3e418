//! Unix sockets against the conformance suite, their files and their options.
#![cfg(unix)]

mod conformance;
mod files;
mod options;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use msgtrans_core::{BindError, ConnectError, Limits, WireVersions};
use msgtrans_transport::{
    Connection, Connector, DialContext, ListenContext, Listener, ServerProtocol,
};
use msgtrans_unix::{UnixClientConfig, UnixServerConfig};

/// A path that nothing else has.
fn fresh() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
    std::env::temp_dir().join(format!("msgtrans-{process}-{count}.sock"))
}

async fn bind(config: &UnixServerConfig) -> Result<Box<dyn Listener>, BindError> {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    config.bind(&context).await
}

async fn dial(config: &UnixClientConfig) -> Result<Box<dyn Connection>, ConnectError> {
    let context = DialContext::new(WireVersions::V2, Limits::default());
    config.connect(&context).await
}
