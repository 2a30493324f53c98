//! Addresses that pods can have: EndpointSlices refuse 127.0.0.0/8, so each is one of TEST-NET-2, added to `lo` while it is held.
//!
//! Several test processes may run at a time. Who holds an address is said by a lock on a file in the folder for temporary files,
//! which ends with the process however it ends; an address that was left behind by one that was killed is taken over.

use super::skip;
use std::fs::{File, TryLockError};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// Most addresses of all test processes together.
const COUNT: u8 = 64;

/// An address of this machine, taken away again when it is dropped.
pub(crate) struct PodAddress {
    /// It.
    pub(crate) ip: Ipv4Addr,
    _held: File,
}

impl PodAddress {
    /// One that nobody else has; `None` after a printed line where interfaces may not be changed.
    ///
    /// # Panics
    /// If all are taken, or skipping is not allowed (`CI=true`).
    pub(crate) fn claim() -> Option<Self> {
        let (ip, held) = (1..=COUNT).find_map(free).unwrap_or_else(|| panic!("all {COUNT} addresses of pods are taken"));
        match ip_address("add", ip) {
            Ok(()) => Some(Self { ip, _held: held }),
            Err(said) if said.contains("File exists") || said.contains("already assigned") => Some(Self { ip, _held: held }),
            Err(said) => {
                skip(&format!("pods need addresses, and {ip}/32 cannot be added to lo (root, or CAP_NET_ADMIN, may): {}", said.trim()));
                None
            }
        }
    }
}

impl Drop for PodAddress {
    fn drop(&mut self) {
        // what stays is taken over by the next one
        let _ = ip_address("del", self.ip);
    }
}

fn free(number: u8) -> Option<(Ipv4Addr, File)> {
    let ip = Ipv4Addr::new(198, 51, 100, number);
    // where all test runs of the machine look, wherever they keep what is theirs
    let file = Path::new("/tmp").join(format!("canaryd-pod-{ip}.lock"));
    // one of another user is held by another user
    let file = File::options().create(true).truncate(false).write(true).open(file).ok()?;
    match file.try_lock() {
        Ok(()) => Some((ip, file)),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

fn ip_address(verb: &str, ip: Ipv4Addr) -> Result<(), String> {
    let output = Command::new("ip").args(["address", verb, &format!("{ip}/32"), "dev", "lo"]).output();
    let output = output.map_err(|e| format!("ip: {e} (Debian: iproute2)"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
