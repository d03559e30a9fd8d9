//! The `weir` program: arguments to verb to exit code. What the verbs do is in [`weir::cli`].

#[cfg(feature = "mimalloc")]
use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc;

/// The allocator of the release binary; the system's serves where the feature is off.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    weir::cli::main()
}

/// What mimalloc aligns every block of at least as many bytes to (`MI_MAX_ALIGN_SIZE`).
#[cfg(feature = "mimalloc")]
const ALIGNED: usize = 16;

/// mimalloc, asked for what is aligned only where more is meant than it gives anyway. Asked by alignment, as the crate
/// `mimalloc` does for everything, it takes a longer way whenever the page at hand has to be looked at anew, and a
/// larger block: three of five allocations of a request over HTTP/2, 160 instructions each.
#[cfg(feature = "mimalloc")]
struct Allocator;

#[cfg(feature = "mimalloc")]
fn is_ordinary(layout: Layout) -> bool {
    layout.align() <= ALIGNED && layout.align() <= layout.size()
}

// SAFETY: all is mimalloc's own; ordinary blocks are as it aligns them without being asked, and it frees and resizes
// blocks of either kind alike.
#[cfg(feature = "mimalloc")]
#[expect(unsafe_code, reason = "an allocator hands out memory")]
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
