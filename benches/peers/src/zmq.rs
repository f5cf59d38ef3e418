//! libzmq: a ROUTER that sends each message back to the DEALER it came from.

use std::io;

/// One thread of ours beside libzmq's own I/O thread, as its guide does it.
pub(crate) fn serve() -> io::Result<()> {
    let context = zmq::Context::new();
    let router = context.socket(zmq::ROUTER)?;
    // The default of 1 000 drops what is above; the load counts every message.
    router.set_sndhwm(0)?;
    router.set_rcvhwm(0)?;
    router.bind("tcp://127.0.0.1:*")?;
    let endpoint = router.get_last_endpoint()?;
    let address = endpoint.unwrap_or_else(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    crate::announce("tcp", address.trim_start_matches("tcp://"))?;
    loop {
        let peer = router.recv_msg(0)?;
        let message = router.recv_msg(0)?;
        router.send(peer, zmq::SNDMORE)?;
        router.send(message, 0)?;
    }
}
