//! Tiered buffer pool whose buffers come home when the last slice drops.
