//! MsgTrans over WebSocket, with a frame codec of its own.
