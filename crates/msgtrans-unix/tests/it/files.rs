//! Socket files: made, replaced, kept and removed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use msgtrans_core::PeerAddress;
use msgtrans_testkit::accept;
use msgtrans_unix::{UnixClientConfig, UnixServerConfig};

use crate::{bind, dial, fresh};

/// What a server that crashed leaves behind.
fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).expect("a fresh path"));
    assert!(path.exists());
}

async fn assert_in_use(path: &Path) {
    let error = bind(&UnixServerConfig::new(path)).await.map(drop);
    let error = error.expect_err("in use");
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse, "{error:?}");
    assert_eq!(error.endpoint, format!("unix://{}", path.display()));
}

#[tokio::test]
async fn both_ends_know_the_path_and_the_file_goes_with_the_listener() {
    let path = fresh();
    let mut listener = bind(&UnixServerConfig::new(&path)).await.expect("bound");
    let client = UnixClientConfig::new(&path);
    let (accepted, dialled) = tokio::join!(accept(listener.as_mut()), dial(&client));
    for connection in [accepted.expect("came"), dialled.expect("answers")] {
        let name = path.to_str().expect("UTF-8").to_owned();
        assert_eq!(connection.info().peer, PeerAddress::Local(name));
        assert!(connection.info().peer.capped_ip().is_none());
    }
    assert!(path.exists());
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let path = fresh();
    leave_stale(&path);
    let mut listener = bind(&UnixServerConfig::new(&path)).await.expect("bound");
    let client = UnixClientConfig::new(&path);
    let (accepted, dialled) = tokio::join!(accept(listener.as_mut()), dial(&client));
    assert!(accepted.is_ok() && dialled.is_ok());
}

#[tokio::test]
async fn a_second_listener_on_one_path_is_refused_and_the_first_goes_on() {
    let path = fresh();
    let mut first = bind(&UnixServerConfig::new(&path)).await.expect("bound");
    assert_in_use(&path).await;
    // Whoever asked whether somebody is there was a client for a moment.
    accept(first.as_mut()).await.expect("the probe");
    let client = UnixClientConfig::new(&path);
    let (accepted, dialled) = tokio::join!(accept(first.as_mut()), dial(&client));
    assert!(accepted.is_ok() && dialled.is_ok());
    drop(first);
    bind(&UnixServerConfig::new(&path))
        .await
        .expect("free again");
}

#[tokio::test]
async fn a_server_whose_backlog_is_full_is_not_taken_for_a_dead_one() {
    let path = fresh();
    let _first = bind(&UnixServerConfig::new(&path).backlog(1))
        .await
        .expect("bound");
    // One more than the backlog wait in the kernel.
    let client = UnixClientConfig::new(&path);
    let _waiting = (dial(&client).await, dial(&client).await);
    assert_in_use(&path).await;
    assert!(path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let path = fresh();
    fs::write(&path, "precious").expect("written");
    assert_in_use(&path).await;
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    fs::remove_file(&path).expect("removed");
}

#[tokio::test]
async fn a_link_to_a_stale_socket_is_left_alone() {
    let (path, target) = (fresh(), fresh());
    leave_stale(&target);
    std::os::unix::fs::symlink(&target, &path).expect("made");
    assert_in_use(&path).await;
    assert!(target.exists());
    for file in [path, target] {
        fs::remove_file(file).expect("removed");
    }
}

#[tokio::test]
async fn a_listener_does_not_remove_the_file_of_its_successor() {
    let path = fresh();
    let first = bind(&UnixServerConfig::new(&path)).await.expect("bound");
    // As an operator or another program would.
    fs::rename(&path, path.with_extension("old")).expect("renamed");
    let second = bind(&UnixServerConfig::new(&path)).await.expect("bound");
    let inode = fs::metadata(&path).expect("there").ino();
    drop(first);
    assert_eq!(fs::metadata(&path).expect("still there").ino(), inode);
    drop(second);
    assert!(!path.exists());
    fs::remove_file(path.with_extension("old")).expect("removed");
}

#[tokio::test]
async fn the_permission_bits_are_the_owners_alone_unless_they_are_set() {
    for (config, mode) in [
        (UnixServerConfig::new(fresh()), 0o600),
        (UnixServerConfig::new(fresh()).mode(0o660), 0o660),
        (UnixServerConfig::new(fresh()).mode(0o777), 0o777),
    ] {
        let listener = bind(&config).await.expect("bound");
        let endpoint = listener.local_endpoint();
        let metadata = fs::metadata(endpoint.path()).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_of_binding() {
    let path = fresh().join("app.sock");
    let error = bind(&UnixServerConfig::new(&path)).await.map(drop);
    let error = error.expect_err("no such folder");
    assert_eq!(error.source.kind(), ErrorKind::NotFound);
}
