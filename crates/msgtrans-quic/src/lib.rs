//! MsgTrans over QUIC.
