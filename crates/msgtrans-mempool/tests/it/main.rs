//! Worker buffers and the pool, through the public interface.
#![cfg(not(msgtrans_loom))]

mod pool;
mod worker;

#[test]
fn public_types_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<msgtrans_mempool::BufferPool>();
    check::<msgtrans_mempool::PooledBuf>();
    check::<msgtrans_mempool::worker::ReadBuffer>();
}
