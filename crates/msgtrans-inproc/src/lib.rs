//! MsgTrans in process: packets change hands in memory.
