//! Free ports for components that cannot be told to take any.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

// Below Linux' ephemeral range (32768 up): between our look and the component's bind no outgoing connection can take it,
// which happens with ports found by bind(0) as soon as a load runs beside.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A port of 127.0.0.1 that was free just now, never the same twice in one run.
///
/// # Panics
/// If there is none.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // different test processes begin far apart
    let begin = std::process::id().wrapping_mul(7919) % COUNT;
    for _ in 0..COUNT {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {FIRST}..{}", FIRST + COUNT);
}
