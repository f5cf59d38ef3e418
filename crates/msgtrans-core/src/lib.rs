//! Packets, the wire codec, identifiers and errors of MsgTrans.
