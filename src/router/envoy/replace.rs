//! A file read whole, and replaced whole by rename: Envoy notices nothing else (ENVIRONMENT 2, GOTCHA 3).

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Most bytes of a route file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file as it was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) text: Vec<u8>,
    permissions: Permissions,
}

impl Found {
    /// The same file, found with this text.
    pub(super) fn with(&self, text: Vec<u8>) -> Self {
        Self { text, permissions: self.permissions.clone() }
    }
}

/// The file as it is.
///
/// # Errors
/// A sentence.
pub(super) fn read(path: &Path) -> Result<Found, String> {
    let link = fs::symlink_metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if link.is_symlink() {
        return Err("is a symbolic link, and a rename would replace the link: name the file itself".to_owned());
    }
    let file = File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(Found { text, permissions: link.permissions() })
}

/// Puts `text` where `found` was: a new file beside it with the same mode, on disk, renamed over it. Returns `false`, and
/// changes nothing, if the file is no longer as it was found.
///
/// # Errors
/// A sentence; the old file stands.
pub(super) fn replace(path: &Path, found: &Found, text: &[u8]) -> Result<bool, String> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or("names no file")?.to_string_lossy();
    let beside = folder.join(format!(".{name}.canaryd-{}", std::process::id()));
    let written = write_new(&beside, found, text).and_then(|()| swap(path, &beside, found));
    if !matches!(written, Ok(true)) {
        let _ = fs::remove_file(&beside); // what is left of it is nobody's
    }
    // the rename itself is on disk when the folder is; Envoy has seen it all the same if that fails
    let _ = File::open(folder).and_then(|f| f.sync_all());
    written.map_err(|e| format!("cannot be replaced (canaryd must be able to write its folder {}): {e}", folder.display()))
}

fn write_new(beside: &Path, found: &Found, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(beside)?;
    file.set_permissions(found.permissions.clone())?;
    file.write_all(text)?;
    file.sync_all()
}

fn swap(path: &Path, beside: &Path, found: &Found) -> io::Result<bool> {
    if fs::read(path)? != found.text {
        return Ok(false);
    }
    fs::rename(beside, path).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_mode_is_kept_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rds.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let found = read(&path).unwrap();
        assert!(replace(&path, &found, b"new").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rds.json");
        fs::write(&path, "old").unwrap();
        let found = read(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(!replace(&path, &found, b"ours").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_and_a_missing_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("target", &link).unwrap();
        assert!(read(&link).unwrap_err().contains("symbolic link"));
        assert!(read(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
