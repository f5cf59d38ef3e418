//! What a server can do about a failed accept.

use super::*;

/// The kernel's words for it, by number: EMFILE, ENFILE, ENOBUFS, ENOMEM.
#[cfg(target_os = "linux")]
#[test]
fn running_out_of_descriptors_or_memory_is_a_reason_to_wait() {
    for code in [24, 23, 105, 12] {
        let error = AcceptError::from_io(io::Error::from_raw_os_error(code));
        assert!(matches!(error, AcceptError::Exhausted(_)), "{error:?}");
    }
}

/// ECONNABORTED, ECONNRESET, EPERM of a firewall, EPROTO, EINTR, and errors without a number.
#[cfg(target_os = "linux")]
#[test]
fn one_peer_that_failed_is_no_reason_to_stop() {
    for code in [103, 104, 1, 71, 4] {
        let error = AcceptError::from_io(io::Error::from_raw_os_error(code));
        assert!(matches!(error, AcceptError::Peer(_)), "{error:?}");
    }
    let error = AcceptError::from_io(io::ErrorKind::ConnectionReset.into());
    assert!(matches!(error, AcceptError::Peer(_)), "{error:?}");
}

/// EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP: asking again would spin.
#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_does_not_listen_is_the_end_of_the_listener() {
    for code in [9, 22, 88, 95] {
        let error = AcceptError::from_io(io::Error::from_raw_os_error(code));
        assert!(matches!(error, AcceptError::Fatal(_)), "{error:?}");
    }
}
