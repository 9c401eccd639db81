use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::Barrier,
    thread,
};

use tempfile::TempDir;

use super::*;
use crate::model::Host;

fn scope() -> Scope {
    Scope { names: vec!["example.com".into()], addresses: vec!["::1".parse().unwrap()], unconstrained: false }
}

fn stored() -> (TempDir, CertificateAuthority) {
    let data = TempDir::new().unwrap();
    let ca = create(data.path(), scope(), SystemTime::now()).unwrap();
    (data, ca)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_stored_is_loaded_as_it_was() {
    let (data, made) = stored();

    let loaded = load(data.path()).unwrap();

    assert_eq!(loaded.fingerprint_sha256(), made.fingerprint_sha256());
    assert_eq!(loaded.scope(), &scope());
    assert_eq!(loaded.not_after(), made.not_after());
    assert_eq!(fs::read_to_string(path(data.path())).unwrap(), made.certificate_pem());
    assert!(
        loaded.leaf(&Host::Domain("example.com".into()), SystemTime::now()).unwrap().keys_match().is_ok()
    );
}

#[test]
fn the_key_is_private_from_the_folder_down() {
    // PITFALLS 31
    let (data, _) = stored();

    assert_eq!(mode(&folder(data.path())), 0o700);
    assert_eq!(mode(&key_path(data.path())), 0o600);
    let names: Vec<_> = fs::read_dir(folder(data.path())).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn folders_above_are_made_private_too() {
    let data = TempDir::new().unwrap();
    let data_dir = data.path().join("share/plainsight");

    create(&data_dir, scope(), SystemTime::now()).unwrap();

    assert_eq!(mode(&data_dir), 0o700);
}

#[test]
fn a_key_that_others_may_use_is_refused() {
    // PITFALLS 31
    let (data, _) = stored();
    let key = key_path(data.path());
    assert!(load(data.path()).is_ok());

    for wrong in [0o640, 0o604, 0o620] {
        set_mode(&key, wrong);

        let error = load(data.path()).unwrap_err();

        assert!(matches!(error, CaError::Unsafe { .. }), "{wrong:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_folder_that_others_may_use_is_refused() {
    // PITFALLS 31
    let (data, _) = stored();
    set_mode(&folder(data.path()), 0o750);

    assert!(matches!(load(data.path()), Err(CaError::Unsafe { .. })));
    assert!(matches!(rotate(data.path(), scope(), SystemTime::now()), Err(CaError::Unsafe { .. })));
    assert!(matches!(remove(data.path()), Err(CaError::Unsafe { .. })));
}

#[test]
fn links_are_refused() {
    // PITFALLS 31
    let (data, _) = stored();
    let key = key_path(data.path());
    let elsewhere = data.path().join("elsewhere");
    fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();

    let linked_key = load(data.path());

    assert!(matches!(linked_key, Err(CaError::Unsafe { .. })), "{linked_key:?}");

    let (other, _) = stored();
    let moved = other.path().join("moved");
    fs::rename(folder(other.path()), &moved).unwrap();
    symlink(&moved, folder(other.path())).unwrap();

    let linked_folder = load(other.path());

    assert!(matches!(linked_folder, Err(CaError::Unsafe { .. })), "{linked_folder:?}");
}

#[test]
fn a_pipe_in_the_key_s_place_does_not_hang() {
    let (data, _) = stored();
    let key = key_path(data.path());
    fs::remove_file(&key).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &key, rustix::fs::FileType::Fifo, mode, 0).unwrap();

    assert!(matches!(load(data.path()), Err(CaError::Unsafe { .. })));
}

#[test]
fn a_foreign_owner_is_refused() {
    // PITFALLS 31; as a function, since only root can give files away
    assert_eq!(access_problem(1000, 0o100_600, 1000, "600"), None);
    assert!(access_problem(1001, 0o100_600, 1000, "600").unwrap().contains("belongs to user 1001"));
}

#[test]
fn there_is_nothing_to_load_before_it_is_made() {
    let data = TempDir::new().unwrap();

    assert!(matches!(load(data.path()), Err(CaError::NotStored(_))));
    assert!(!remove(data.path()).unwrap());
    assert!(!folder(data.path()).exists());
}

#[test]
fn a_second_creation_leaves_the_first_alone() {
    let (data, first) = stored();

    let second = create(data.path(), scope(), SystemTime::now());

    assert!(matches!(second, Err(CaError::AlreadyStored(_))));
    assert_eq!(load(data.path()).unwrap().fingerprint_sha256(), first.fingerprint_sha256());
}

#[test]
fn all_who_start_at_once_get_the_same_ca() {
    let data = TempDir::new().unwrap();
    let start = Barrier::new(8);

    let fingerprints: Vec<String> = thread::scope(|scope_| {
        let get = || {
            start.wait();
            load_or_create(data.path(), scope, SystemTime::now()).unwrap().fingerprint_sha256()
        };
        let threads: Vec<_> = (0..8).map(|_| scope_.spawn(get)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]));
    assert_eq!(fs::read_dir(folder(data.path())).unwrap().count(), 2);
}

#[test]
fn rotation_replaces_key_and_certificate_together() {
    let (data, first) = stored();

    let second = rotate(data.path(), scope(), SystemTime::now()).unwrap();

    let loaded = load(data.path()).unwrap();
    assert_ne!(first.fingerprint_sha256(), second.fingerprint_sha256());
    assert_eq!(loaded.fingerprint_sha256(), second.fingerprint_sha256());
    assert_eq!(fs::read_to_string(path(data.path())).unwrap(), second.certificate_pem());
}

#[test]
fn a_reader_during_rotation_always_finds_a_whole_pair() {
    let (data, _) = stored();

    thread::scope(|scope_| {
        let writer = scope_.spawn(|| {
            for _ in 0..50 {
                rotate(data.path(), scope(), SystemTime::now()).unwrap();
            }
        });
        while !writer.is_finished() {
            load(data.path()).unwrap();
        }
    });

    let copy = fs::read_to_string(path(data.path())).unwrap();
    assert_eq!(copy, load_pair(data.path()).unwrap().certificate_pem());
}

#[test]
fn a_certificate_that_was_not_written_in_time_is_put_right() {
    let (data, ca) = stored();
    fs::write(path(data.path()), "half a certif").unwrap();

    load(data.path()).unwrap();

    assert_eq!(fs::read_to_string(path(data.path())).unwrap(), ca.certificate_pem());
}

#[test]
fn removal_leaves_nothing_of_ours() {
    let (data, _) = stored();
    fs::write(folder(data.path()).join(".unfinished-abc"), "left by a kill").unwrap();

    assert!(remove(data.path()).unwrap());

    assert!(!folder(data.path()).exists());
    assert!(data.path().exists());
}

#[test]
fn a_damaged_pair_is_named_and_the_key_is_not_shown() {
    let (data, _) = stored();
    let key = key_path(data.path());
    let text = fs::read_to_string(&key).unwrap();
    let other = CertificateAuthority::generate(scope(), SystemTime::now(), STORED_LIFETIME).unwrap();
    let secret_line = text.lines().nth(1).unwrap();
    for damaged in [
        String::new(),
        text[..60].to_owned(),
        text.split(CERTIFICATE_BEGINS).next().unwrap().to_owned(),
        format!("{}{}", other.key_pem().expose(), &text[text.find(CERTIFICATE_BEGINS).unwrap()..]),
    ] {
        fs::write(&key, damaged).unwrap();

        let error = load(data.path()).unwrap_err();

        assert!(matches!(error, CaError::Damaged { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains(secret_line));
    }
}
