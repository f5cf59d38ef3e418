//! MsgTrans over TCP.
