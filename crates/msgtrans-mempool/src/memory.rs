//! Plain memory: large buffers start on a page, and are as good as new once nobody holds a slice.

use bytes::BytesMut;

/// Kernel copies into a buffer that is not aligned relative to the source run at 2 to 3 GB/s instead of
/// 40, and large blocks of glibc start at page + 16, the worst phase.
const PAGE: usize = 4096;
/// Below this a page lost to alignment is more than it gains.
const ALIGNED_MIN: usize = 32 * 1024;

/// An empty buffer for `len` bytes, on a page boundary where it is large.
#[cold]
pub(crate) fn allocate(len: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(whole(len));
    align(&mut bytes, len);
    bytes
}

/// Makes an empty buffer from [`allocate`] whole again, whatever part of it is left; `false` while
/// slices of it live.
pub(crate) fn restore(bytes: &mut BytesMut, len: usize) -> bool {
    // Reclaiming moves the start back to that of the allocation, which is not aligned.
    if !bytes.try_reclaim(whole(len)) {
        return false;
    }
    align(bytes, len);
    true
}

fn whole(len: usize) -> usize {
    if len < ALIGNED_MIN { len } else { len + PAGE }
}

fn align(bytes: &mut BytesMut, len: usize) {
    let gap = bytes.as_ptr().align_offset(PAGE);
    if gap > 0 && len >= ALIGNED_MIN {
        // Splitting within the spare capacity writes nothing; filling the gap and advancing over it
        // cost 4 KiB of cache at each turn.
        *bytes = bytes.split_off(gap);
    }
}
