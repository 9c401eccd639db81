//! Private files: made with their final mode and never chmod-ed, refused when others could have touched them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::{audit::AuditError, model::FingerprintKey};

/// Makes `folder` (0700) if it is not there, and returns its real path.
///
/// A folder that is there may be readable to others, for what is in it is not; it must not be writable to them.
pub(super) fn private_folder(folder: &Path) -> Result<PathBuf, AuditError> {
    let fails = |error: &io::Error| AuditError::io(folder, error);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| fails(&error))?;
    // SQLite refuses a symbolic link anywhere in a path; those above the folder are the user's own business.
    let folder = folder.canonicalize().map_err(|error| fails(&error))?;
    check_folder(&folder)?;
    Ok(folder)
}

/// Makes an empty file (0600) unless it is there, in which case it has to be a private one.
pub(super) fn private_file(path: &Path) -> Result<(), AuditError> {
    match create_new(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_file(path),
        Err(error) => Err(AuditError::io(path, &error)),
    }
}

/// Reads the installation's key, or makes it. Of several processes that make it at once, one wins for all.
pub(super) fn installation_key(folder: &Path) -> Result<FingerprintKey, AuditError> {
    let path = folder.join(KEY_FILE);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        make_key(folder, &path)?;
    }
    check_file(&path)?;
    let fails = |error: io::Error| AuditError::io(&path, &error);
    let mut raw = Vec::new();
    let file = File::open(&path).map_err(fails)?;
    // One more than a key has, so that a longer file is noticed.
    file.take(FingerprintKey::LEN_BYTES as u64 + 1).read_to_end(&mut raw).map_err(fails)?;
    let raw: [u8; FingerprintKey::LEN_BYTES] = raw
        .try_into()
        .map_err(|_| AuditError::Damaged(format!("`{}` does not hold a key of 32 bytes", path.display())))?;
    Ok(FingerprintKey::new(&raw))
}

/// Checks that `path` is a plain file that belongs to us alone.
pub(super) fn check_file(path: &Path) -> Result<(), AuditError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| AuditError::io(path, &error))?;
    if !metadata.is_file() || !is_ours(&metadata) {
        return Err(AuditError::Suspicious(path.display().to_string()));
    }
    match mode_of(&metadata) {
        mode if mode & 0o077 != 0 => {
            Err(AuditError::Exposed { path: path.display().to_string(), mode, folder: false })
        }
        _ => Ok(()),
    }
}

/// What tells a file from another that was put in its place.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        drop(metadata);
        Some((0, 0))
    }
}

fn check_folder(folder: &Path) -> Result<(), AuditError> {
    let metadata = fs::metadata(folder).map_err(|error| AuditError::io(folder, &error))?;
    if !is_ours(&metadata) {
        return Err(AuditError::Suspicious(folder.display().to_string()));
    }
    match mode_of(&metadata) {
        mode if mode & 0o022 != 0 => {
            Err(AuditError::Exposed { path: folder.display().to_string(), mode, folder: true })
        }
        _ => Ok(()),
    }
}

/// Writes the key aside and moves it into place whole, so that no one ever reads half a key.
fn make_key(folder: &Path, path: &Path) -> Result<(), AuditError> {
    let mut raw = [0; FingerprintKey::LEN_BYTES];
    getrandom::fill(&mut raw)
        .map_err(|error| AuditError::Io { path: path.display().to_string(), why: error.to_string() })?;
    let fails = |error: io::Error| AuditError::io(path, &error);
    // `tempfile` creates with O_EXCL and 0600.
    let mut aside = tempfile::Builder::new().prefix(".key-").tempfile_in(folder).map_err(fails)?;
    aside.write_all(&raw).map_err(fails)?;
    aside.as_file().sync_all().map_err(fails)?;
    match aside.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fails(error.error)),
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn is_ours(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
fn mode_of(metadata: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o777
}

#[cfg(not(unix))]
fn is_ours(_: &fs::Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> u32 {
    0
}

const KEY_FILE: &str = "installation.key";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        mode_of(&fs::symlink_metadata(path).unwrap())
    }

    // PITFALLS 31
    #[test]
    fn folder_and_files_are_private_from_the_start() {
        let outer = tempfile::tempdir().unwrap();

        let folder = private_folder(&outer.path().join("a/b")).unwrap();
        private_file(&folder.join("f")).unwrap();
        installation_key(&folder).unwrap();

        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("f")), 0o600);
        assert_eq!(mode(&folder.join(KEY_FILE)), 0o600);
    }

    // PITFALLS 31
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

        let error = private_file(&path).unwrap_err();

        assert!(matches!(&error, AuditError::Exposed { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    // PITFALLS 31
    #[test]
    fn a_symbolic_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        symlink(folder.path().join("elsewhere"), &path).unwrap();

        assert!(matches!(private_file(&path), Err(AuditError::Suspicious(_))));
        assert!(!folder.path().join("elsewhere").exists());
    }

    // PITFALLS 31
    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();

        let error = private_folder(folder.path()).unwrap_err();

        assert!(matches!(error, AuditError::Exposed { folder: true, .. }), "{error}");
    }

    #[test]
    fn everyone_who_makes_the_key_at_once_gets_the_same() {
        let folder = tempfile::tempdir().unwrap();

        let prints: Vec<_> = std::thread::scope(|scope| {
            let start = || installation_key(folder.path()).unwrap().fingerprint(b"x");
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(prints.windows(2).all(|pair| pair[0] == pair[1]), "{prints:?}");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(installation_key(other.path()).unwrap().fingerprint(b"x"), prints[0]);
    }

    #[test]
    fn a_cut_key_is_an_error_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        private_file(&folder.path().join(KEY_FILE)).unwrap();

        let error = installation_key(folder.path()).unwrap_err();

        assert!(error.to_string().contains("32 bytes"), "{error}");
    }
}
