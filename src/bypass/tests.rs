use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// A `/proc` of one process with one socket, of which the tables say what they are told.
fn folder_of(process: u32, inode: u64, tcp: &str, udp: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(process.to_string());
    for name in ["fd", "net", "ns", &format!("task/{process}")] {
        fs::create_dir_all(own.join(name)).unwrap();
    }
    let zeros = "0 ".repeat(18);
    fs::write(own.join("stat"), format!("{process} (a (b) c) S {zeros}77 0")).unwrap();
    fs::write(own.join("comm"), "a (b) c\n").unwrap();
    fs::write(own.join(format!("task/{process}/children")), "").unwrap();
    symlink(format!("socket:[{inode}]"), own.join("fd/3")).unwrap();
    symlink("net:[1]", own.join("ns/net")).unwrap();
    fs::write(own.join("net/tcp"), tcp).unwrap();
    fs::write(own.join("net/udp"), udp).unwrap();
    folder
}

fn line(remote: &str, inode: u64) -> String {
    format!(
        "   0: 0200120A:C350 {remote} 01 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0\n"
    )
}

fn own_sightings(watcher: &mut Watcher, port: u16) -> Vec<Sighting> {
    watcher.look().into_iter().filter(|sighting| sighting.remote.port() == port).collect()
}

#[test]
#[cfg(target_endian = "little")]
fn a_connection_to_another_machine_is_seen_once_with_its_program() {
    for (tcp, udp, transport) in [
        (line("070200C0:01BB", 4711), String::new(), "TCP"),
        (String::new(), line("070200C0:01BB", 4711), "UDP"),
    ] {
        let folder = folder_of(7, 4711, &tcp, &udp);
        let mut watcher = Watcher::in_folder(7, folder.path());

        let first = watcher.look();
        let second = watcher.look();

        let remote = "192.0.2.7:443".parse().unwrap();
        assert_eq!(first, [Sighting { transport, remote, program: "a (b) c".to_owned(), process: 7 }]);
        assert!(second.is_empty(), "{second:?}");
    }
}

#[test]
#[cfg(target_endian = "little")]
fn sockets_of_other_programs_listeners_and_mapped_loopback_are_no_way_around() {
    let tcp = line("070200C0:01BB", 4712) + &line("00000000:0000", 4711);
    let folder = folder_of(7, 4711, &tcp, &line("0100007F:0035", 4711));

    assert_eq!(Watcher::in_folder(7, folder.path()).look(), []);
}

#[test]
fn loopback_is_no_way_around() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _stream = TcpStream::connect(address).unwrap();

    let seen = own_sightings(&mut Watcher::new(std::process::id()), address.port());

    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn descendants_are_followed_after_their_parent_has_ended() {
    // The shell ends at once and leaves a child behind.
    let mut shell = Command::new("sh")
        .args(["-c", "sleep 30 & echo $!; sleep 0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watcher = Watcher::new(shell.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    while watcher.processes.len() < 2 && Instant::now() < deadline {
        watcher.look();
        thread::sleep(Duration::from_millis(10));
    }
    assert!(watcher.processes.len() >= 2, "the child of the shell is known");
    shell.wait().unwrap();

    watcher.look();

    let left: Vec<u32> = watcher.processes.keys().copied().collect();
    assert!(!left.contains(&shell.id()));
    assert_eq!(left.len(), 1, "{left:?}");
    Command::new("kill").arg(left[0].to_string()).status().unwrap();
}

#[test]
fn a_process_that_is_not_there_has_no_sockets() {
    let folder = tempfile::tempdir().unwrap();

    assert!(Watcher::in_folder(7, folder.path()).look().is_empty());
}
