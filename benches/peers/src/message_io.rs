//! message-io: its framed TCP transport, whose frames stand behind their length as a varint.

use message_io::network::{NetEvent, Transport};
use message_io::node;
use std::io;

/// Sends each message back in the callback that brings it, as its examples do.
pub(crate) fn serve() -> io::Result<()> {
    let (handler, listener) = node::split::<()>();
    let network = handler.network();
    let (_, address) = network.listen(Transport::FramedTcp, "127.0.0.1:0")?;
    crate::announce("tcp", address)?;
    listener.for_each(move |event| {
        if let NetEvent::Message(endpoint, data) = event.network() {
            // What it could not send, the load misses.
            let _ = handler.network().send(endpoint, data);
        }
    });
    Ok(())
}
