//! The CA that outlives a process: two files in a folder that only their owner may enter.
//!
//! `ca/ca.key` holds the key and, after it, its certificate, so that the pair is put in place, and replaced, in one
//! step. `ca/ca.pem` holds the certificate alone, for clients; it is a copy, and is put right when it differs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::NamedTempFile;

use crate::{
    ca::{CaError, CertificateAuthority, Scope},
    model::Secret,
};

/// Where the certificate stands, whether or not there is one.
pub fn path(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("ca.pem")
}

/// Reads the stored CA, exactly as it was stored.
///
/// # Errors
/// [`CaError::NotStored`]; [`CaError::Unsafe`] when someone else could have read or replaced the key;
/// [`CaError::Damaged`]. An expired CA is read, and refuses to sign.
pub fn load(data_dir: &Path) -> Result<CertificateAuthority, CaError> {
    loop {
        let ca = load_pair(data_dir)?;
        // Whoever made or replaced the pair may have been killed before the copy was written.
        let path = path(data_dir);
        if fs::read_to_string(&path).ok().as_deref() == Some(ca.certificate_pem()) {
            return Ok(ca);
        }
        write_new(data_dir, ca.certificate_pem())?
            .persist(&path)
            .map_err(|error| io_error(&path, error.error))?;
        // Once more: the pair may have been replaced meanwhile, and then the copy just written is the old one.
    }
}

fn load_pair(data_dir: &Path) -> Result<CertificateAuthority, CaError> {
    let key_path = key_path(data_dir);
    check_folder(&folder(data_dir)).map_err(|error| not_stored(error, &key_path))?;
    let text = read_private(&key_path).map_err(|error| not_stored(error, &key_path))?;
    let (key, certificate) = match text.expose().find(CERTIFICATE_BEGINS) {
        Some(start) => text.expose().split_at(start),
        None => (text.expose().as_str(), ""),
    };
    CertificateAuthority::from_pem(certificate, key).map_err(|why| CaError::Damaged { path: key_path, why })
}

/// Makes and stores a CA, valid for [`STORED_LIFETIME`].
///
/// # Errors
/// [`CaError::AlreadyStored`] if there is one, also when another process was faster by an instant.
pub fn create(data_dir: &Path, scope: Scope, now: SystemTime) -> Result<CertificateAuthority, CaError> {
    let key_path = key_path(data_dir);
    let (ca, file) = prepare(data_dir, scope, now)?;
    file.persist_noclobber(&key_path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => CaError::AlreadyStored(key_path.clone()),
        _ => io_error(&key_path, error.error),
    })?;
    publish(data_dir, &ca)?;
    Ok(ca)
}

/// Reads the stored CA, or makes one; of two processes that try at once both get the same.
///
/// # Errors
/// As [`load`] and [`create`].
pub fn load_or_create(
    data_dir: &Path,
    scope: impl FnOnce() -> Scope,
    now: SystemTime,
) -> Result<CertificateAuthority, CaError> {
    match load(data_dir) {
        Err(CaError::NotStored(_)) => match create(data_dir, scope(), now) {
            Err(CaError::AlreadyStored(_)) => load(data_dir),
            result => result,
        },
        result => result,
    }
}

/// Replaces the stored CA, or makes the first. Whatever trusts the old one must be told of the new one.
///
/// # Errors
/// [`CaError::Unsafe`] for a folder that is not ours alone; [`CaError::Io`].
pub fn rotate(data_dir: &Path, scope: Scope, now: SystemTime) -> Result<CertificateAuthority, CaError> {
    let key_path = key_path(data_dir);
    let (ca, file) = prepare(data_dir, scope, now)?;
    file.persist(&key_path).map_err(|error| io_error(&key_path, error.error))?;
    publish(data_dir, &ca)?;
    Ok(ca)
}

/// Removes the stored CA and its folder. Says whether there was one.
///
/// # Errors
/// [`CaError::Unsafe`] for a folder that is not ours alone; [`CaError::Io`].
pub fn remove(data_dir: &Path) -> Result<bool, CaError> {
    let folder = folder(data_dir);
    match check_folder(&folder) {
        Err(CaError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result?,
    }
    let mut removed = false;
    for entry in fs::read_dir(&folder).map_err(|error| io_error(&folder, error))? {
        let path = entry.map_err(|error| io_error(&folder, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "ca.key" || name == "ca.pem" || name.starts_with(UNFINISHED) {
            fs::remove_file(&path).map_err(|error| io_error(&path, error))?;
            removed |= name == "ca.key" || name == "ca.pem";
        }
    }
    // Something that is not ours may be left in it, and then it stays.
    let _ = fs::remove_dir(&folder);
    Ok(removed)
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("ca")
}

fn key_path(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("ca.key")
}

/// A new CA, complete on disk under a name that nobody reads.
fn prepare(
    data_dir: &Path,
    scope: Scope,
    now: SystemTime,
) -> Result<(CertificateAuthority, NamedTempFile), CaError> {
    make_folder(&folder(data_dir))?;
    let ca = CertificateAuthority::generate(scope, now, STORED_LIFETIME)?;
    let pair = Secret::new(format!("{}{}", ca.key_pem().expose(), ca.certificate_pem()));
    let file = write_new(data_dir, pair.expose())?;
    Ok((ca, file))
}

/// Puts the clients' copy beside the pair, and waits until both are on the disk.
fn publish(data_dir: &Path, ca: &CertificateAuthority) -> Result<(), CaError> {
    let path = path(data_dir);
    write_new(data_dir, ca.certificate_pem())?
        .persist(&path)
        .map_err(|error| io_error(&path, error.error))?;
    if cfg!(unix) {
        let folder = folder(data_dir);
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error(&folder, error))?;
    }
    Ok(())
}

/// `tempfile` opens with `O_EXCL` and mode 0600, so that the file is private from its first moment.
fn write_new(data_dir: &Path, text: &str) -> Result<NamedTempFile, CaError> {
    let folder = folder(data_dir);
    let write = || -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|error| io_error(&folder, error))
}

fn make_folder(folder: &Path) -> Result<(), CaError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| io_error(folder, error))?;
    check_folder(folder)
}

fn check_folder(folder: &Path) -> Result<(), CaError> {
    let metadata = fs::symlink_metadata(folder).map_err(|error| io_error(folder, error))?;
    if metadata.is_symlink() || !metadata.is_dir() {
        return Err(unsafe_at(folder, "it must be a folder, not a link or a file"));
    }
    check_access(folder, &metadata, "700")
}

/// Reads a file that only we can have written. Checks what was opened, not what the name meant a moment ago.
fn read_private(path: &Path) -> Result<Secret<String>, CaError> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // Neither follow a link, nor wait for a pipe's other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(unsafe_at(path, "it must be a plain file, not a link"));
    }
    let file = options.open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    if !metadata.is_file() {
        return Err(unsafe_at(path, "it must be a plain file, not a link"));
    }
    check_access(path, &metadata, "600")?;
    let mut text = String::new();
    file.take(LARGEST_PAIR).read_to_string(&mut text).map_err(|error| io_error(path, error))?;
    Ok(Secret::new(text))
}

#[cfg(unix)]
fn check_access(path: &Path, metadata: &fs::Metadata, wanted: &str) -> Result<(), CaError> {
    use std::os::unix::fs::MetadataExt as _;

    let own = rustix::process::geteuid().as_raw();
    match access_problem(metadata.uid(), metadata.mode(), own, wanted) {
        Some(why) => Err(unsafe_at(path, &why)),
        None => Ok(()),
    }
}

/// On Windows the user's profile folder is private by inheritance; there is no mode to look at.
#[cfg(not(unix))]
fn check_access(_: &Path, _: &fs::Metadata, _: &str) -> Result<(), CaError> {
    Ok(())
}

#[cfg(unix)]
fn access_problem(owner: u32, mode: u32, own: u32, wanted: &str) -> Option<String> {
    if owner != own {
        return Some(format!("it belongs to user {owner}, not to you ({own})"));
    }
    (mode & 0o077 != 0).then(|| {
        format!(
            "others may use it (mode {:o}); if nobody did, `chmod {wanted}`, else remove it",
            mode & 0o7777
        )
    })
}

fn not_stored(error: CaError, key_path: &Path) -> CaError {
    match error {
        CaError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CaError::NotStored(key_path.to_owned())
        }
        error => error,
    }
}

fn unsafe_at(path: &Path, why: &str) -> CaError {
    CaError::Unsafe { path: path.to_owned(), why: why.to_owned() }
}

fn io_error(path: &Path, source: io::Error) -> CaError {
    CaError::Io { path: path.to_owned(), source }
}

/// How long a stored CA is valid: long enough to be set up once, and under what Apple's verifiers allow.
pub const STORED_LIFETIME: Duration = Duration::from_hours(800 * 24);

/// A key and a certificate take two kilobytes, with very many names perhaps ten times that.
const LARGEST_PAIR: u64 = 1024 * 1024;

const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// Prefix of files that are still being written.
const UNFINISHED: &str = ".unfinished-";

#[cfg(test)]
#[cfg(unix)]
mod tests;
