//! An allocator that counts: how often it was asked, how much is in use, and the most that ever was.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, counted.
pub struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What some work took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Allocations and growths.
    pub count: usize,
    /// The most bytes in use at once, beyond what was in use before.
    pub peak_bytes: usize,
}

/// Does some work, and says what it took. Nothing else may allocate meanwhile.
pub fn taken<T>(work: impl FnOnce() -> T) -> (T, Taken) {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let count = COUNT.load(Relaxed);
    let done = work();
    let taken = Taken { count: COUNT.load(Relaxed) - count, peak_bytes: PEAK.load(Relaxed) - before };
    (done, taken)
}

fn grown(bytes: usize) {
    COUNT.fetch_add(1, Relaxed);
    let now = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; the counters touch no memory that it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        grown(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}
