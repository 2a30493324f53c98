//! The TLS provider of the whole process: every client of ours names the same one, here.

/// Makes ring the provider of every client that is built from now on. Any further call finds it in place.
pub fn install() {
    // fails only if one is installed already, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
}
