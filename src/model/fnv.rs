//! Fowler, Noll and Vo's hash FNV-1a of 64 bits: which text it is, or an order that nobody chose; never against one who forges.
//! What it gave is stored (digests of rules, identities of templates), so it never changes.

/// A hash in the making.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Fnv {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// With these bytes after those before.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Of all that was added.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

/// Of one text.
pub fn fnv(text: &str) -> u64 {
    Fnv::new().with(text.as_bytes()).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_come_out() {
        assert_eq!((fnv(""), fnv("a"), fnv("foobar")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8));
        assert_eq!(Fnv::new().with(b"foo").with(b"").with(b"bar").value(), fnv("foobar"), "piece by piece");
    }
}
