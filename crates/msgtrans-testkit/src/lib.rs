//! Conformance suites, fault injection and raw peers for MsgTrans protocols.
