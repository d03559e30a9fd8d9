//! mimalloc, asked for what is aligned only where more is meant than it gives anyway: 16 bytes (`MI_MAX_ALIGN_SIZE`).
//!
//! Asked by alignment, as the crate `mimalloc` does for everything, it takes a longer way whenever the page at hand has
//! to be looked at anew, and a larger block: three of five allocations of a request over HTTP/2, 160 instructions each.
#![expect(unsafe_code, reason = "an allocator hands out memory")]

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

/// What every block of at least as many bytes is aligned to.
const ALIGNED: usize = 16;

/// The allocator of the release binary.
pub(crate) struct Allocator;

fn is_ordinary(layout: Layout) -> bool {
    layout.align() <= ALIGNED && layout.align() <= layout.size()
}

// SAFETY: all is mimalloc's own; ordinary blocks are as it aligns them without being asked, and it frees and resizes
// blocks of either kind alike.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe {
            match is_ordinary(layout) {
                true => libmimalloc_sys::mi_malloc(layout.size()).cast(),
                false => MiMalloc.alloc(layout),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe {
            match is_ordinary(layout) {
                true => libmimalloc_sys::mi_zalloc(layout.size()).cast(),
                false => MiMalloc.alloc_zeroed(layout),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as for the caller.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe {
            match layout.align() <= ALIGNED && layout.align() <= size {
                true => libmimalloc_sys::mi_realloc(block.cast(), size).cast(),
                false => MiMalloc.realloc(block, layout, size),
            }
        }
    }
}
