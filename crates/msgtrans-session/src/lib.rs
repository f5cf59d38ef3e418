//! What a connection becomes once it has an identity: handshake, lanes, requests, heartbeat, handler.
