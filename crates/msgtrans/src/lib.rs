//! One business code, any protocol: the MsgTrans client and server API.
