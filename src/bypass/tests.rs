use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// A socket of this process that is connected to an address which is not loopback, without a byte leaving: UDP only
/// remembers whom it is for.
fn connected_udp() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.7:443").or_else(|_| socket.connect("198.51.100.7:443")).unwrap();
    socket
}

fn own_sightings(watcher: &mut Watcher, port: u16) -> Vec<Sighting> {
    watcher.look().into_iter().filter(|sighting| sighting.remote.port() == port).collect()
}

#[test]
fn a_connection_to_another_machine_is_seen_once_with_its_program() {
    // Where there is no route there is no way around either; then this cannot be shown, and `tests/e2e` shows it.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.2.7:443").is_err() {
        eprintln!("not run: this machine has no route to any other");
        return;
    }
    let mut watcher = Watcher::new(std::process::id());
    let socket = connected_udp();

    let first = own_sightings(&mut watcher, 443);
    let second = own_sightings(&mut watcher, 443);

    let own = first.iter().find(|sighting| sighting.transport == "UDP").unwrap();
    assert_eq!(own.process, std::process::id());
    assert!(!own.program.is_empty());
    assert_eq!(own.remote, socket.peer_addr().unwrap());
    assert!(second.is_empty(), "{second:?}");
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
