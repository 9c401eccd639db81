//! Where the two halves meet: a socket in a private folder, a few notes, and file descriptors that travel with one.

use std::{
    ffi::OsString,
    fs, io,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use serde::{Deserialize, Serialize};

use crate::confine::{
    AddressPlan,
    launch::{error::ConfineError, inside::OWN_PROGRAM, mounts},
};

/// Where plainsight waits for the launcher.
#[derive(Debug)]
pub struct Handover {
    listener: UnixListener,
    folder: PathBuf,
}

/// A furnished namespace. The program waits until [`Namespace::go`].
#[derive(Debug)]
pub struct Namespace {
    socket: UnixStream,
}

/// What of a namespace is held outside of it.
#[derive(Debug)]
pub struct Devices {
    /// Every packet that the namespace sends out, and the way to send one in. Does not block.
    pub tun: OwnedFd,
    /// The proxy's own port on the namespace's loopback.
    pub proxy: TcpListener,
    /// Where turned-around IPv4 connections arrive.
    pub turned_v4: TcpListener,
    /// Where turned-around IPv6 connections arrive; none where there is no IPv6.
    pub turned_v6: Option<TcpListener>,
    /// Loopback ports of the machine, and where the namespace finds them.
    pub loopback: Vec<(u16, TcpListener)>,
}

/// What the launcher made besides the device.
pub(super) struct Furniture {
    pub(super) proxy: TcpListener,
    pub(super) turned_v4: TcpListener,
    pub(super) turned_v6: Option<TcpListener>,
    pub(super) loopback: Vec<(u16, TcpListener)>,
}

impl Handover {
    /// Waits in `folder`, which nobody else may enter.
    ///
    /// # Errors
    /// The socket or the files beside it cannot be made.
    pub fn prepare(folder: &Path) -> Result<Self, ConfineError> {
        let listener = UnixListener::bind(folder.join(SOCKET_FILE))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(ConfineError::handover("waiting for the launcher"))?;
        mounts::write_files(folder, AddressPlan::DNS)
            .map_err(ConfineError::handover("writing files for the namespace"))?;
        Ok(Self { listener, folder: folder.to_owned() })
    }

    /// The command line of the launcher; `__confine` reads it.
    pub fn command(&self, proxy_port: u16, loopback_ports: &[u16], program: &[OsString]) -> Vec<OsString> {
        let mut words = vec![OWN_PROGRAM.into(), "__confine".into()];
        words.push(self.folder.clone().into_os_string());
        words.push(proxy_port.to_string().into());
        let ports: Vec<String> = loopback_ports.iter().map(u16::to_string).collect();
        words.push(ports.join(",").into());
        words.push("--".into());
        words.extend_from_slice(program);
        words
    }

    /// Meets the launcher that was started as process `pid`, and takes over what it made. Blocks, for some ten
    /// milliseconds as a rule.
    ///
    /// # Errors
    /// The launcher says why it cannot build the namespace, or does not come.
    pub fn meet(&self, pid: u32) -> Result<(Namespace, Devices), ConfineError> {
        let lost = || ConfineError::handover("the launcher ended without a word");
        let socket = self.accept(pid)?;
        expect_unshared(Note::receive(&socket).map_err(lost())?)?;
        map_ids(pid).map_err(|error| ConfineError::Launcher(super::error::advise_namespaces(&error)))?;
        Note::Mapped.send(&socket).map_err(lost())?;
        let (note, descriptors) = Note::receive_with(&socket).map_err(lost())?;
        let (has_ipv6, loopback_ports) = match note {
            Note::Ready { has_ipv6, loopback_ports } => (has_ipv6, loopback_ports),
            Note::Failed(why) => return Err(ConfineError::Launcher(why)),
            other => return Err(ConfineError::Launcher(format!("the launcher said {other:?} out of turn"))),
        };
        let mut descriptors = descriptors.into_iter();
        let missing = || ConfineError::Launcher("the launcher handed over too little".to_owned());
        let mut next = || descriptors.next().ok_or_else(missing);
        let devices = Devices {
            tun: next()?,
            proxy: next()?.into(),
            turned_v4: next()?.into(),
            turned_v6: if has_ipv6 { Some(next()?.into()) } else { None },
            loopback: loopback_ports
                .into_iter()
                .map(|port| Ok((port, TcpListener::from(next()?))))
                .collect::<Result<_, ConfineError>>()?,
        };
        Ok((Namespace { socket }, devices))
    }

    fn accept(&self, pid: u32) -> Result<UnixStream, ConfineError> {
        let deadline = Instant::now() + MEETING_TIME;
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let is_launcher = socket_peercred(&socket)
                        .is_ok_and(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok() == Some(pid));
                    if is_launcher {
                        let prepared = socket
                            .set_nonblocking(false)
                            .and_then(|()| socket.set_read_timeout(Some(MEETING_TIME)));
                        prepared.map_err(ConfineError::handover("waiting for the launcher"))?;
                        return Ok(socket);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    if !Path::new("/proc").join(pid.to_string()).join("ns").exists() {
                        return Err(ConfineError::Launcher("the launcher ended at once".to_owned()));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(ConfineError::handover("waiting for the launcher")(error)),
            }
        }
    }
}

impl Namespace {
    /// Lets the launcher become the program, and waits until it has. Blocks for about a millisecond.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn go(self, program: &str) -> Result<(), ConfineError> {
        Note::Go.send(&self.socket).map_err(ConfineError::handover("the launcher ended without a word"))?;
        match Note::receive(&self.socket) {
            // The socket closes as the launcher becomes the program.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(Note::ProgramFailed(reason)) => {
                Err(ConfineError::Program { program: program.to_owned(), reason })
            }
            Ok(Note::Failed(why)) => Err(ConfineError::Launcher(why)),
            Ok(other) => Err(ConfineError::Launcher(format!("the launcher said {other:?} out of turn"))),
            Err(error) => Err(ConfineError::handover("starting the program")(error)),
        }
    }
}

fn expect_unshared(note: Note) -> Result<(), ConfineError> {
    match note {
        Note::Unshared => Ok(()),
        Note::Failed(why) => Err(ConfineError::Launcher(why)),
        other => Err(ConfineError::Launcher(format!("the launcher said {other:?} out of turn"))),
    }
}

/// Maps every user and group to itself: all of them if we may (as root), else our own alone. Files keep their owners
/// and programs their rights either way.
fn map_ids(pid: u32) -> io::Result<()> {
    let folder = Path::new("/proc").join(pid.to_string());
    let all = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).map(|map| to_itself(&map));
    let whole = || {
        fs::write(folder.join("uid_map"), all("uid_map")?)?;
        fs::write(folder.join("gid_map"), all("gid_map")?)
    };
    if geteuid().is_root() && whole().is_ok() {
        return Ok(());
    }
    fs::write(folder.join("uid_map"), format!("{0} {0} 1\n", geteuid().as_raw()))?;
    // Or the kernel refuses a map of groups by anybody but root.
    fs::write(folder.join("setgroups"), "deny")?;
    fs::write(folder.join("gid_map"), format!("{0} {0} 1\n", rustix::process::getegid().as_raw()))
}

/// From `inside outside count` lines of our own map, lines that map each of our ids to itself.
fn to_itself(map: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (inside, _, count) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

/// What the halves say to each other: a length, and JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    /// The launcher cannot go on.
    Failed(String),
    /// Become the program.
    Go,
    /// The ids are mapped.
    Mapped,
    /// The program cannot be run.
    ProgramFailed(String),
    /// Descriptors come with this note.
    Ready { has_ipv6: bool, loopback_ports: Vec<u16> },
    /// The launcher is in its namespaces.
    Unshared,
}

impl Note {
    pub(super) fn send(&self, socket: &UnixStream) -> io::Result<()> {
        self.send_with(socket, &[])
    }

    pub(super) fn send_with(
        &self,
        mut socket: &UnixStream,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_ne_bytes();
        if descriptors.is_empty() {
            socket.write_all(&length)?;
        } else {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("too many ports"));
            }
            sendmsg(socket, &[IoSlice::new(&length)], &mut control, SendFlags::empty())?;
        }
        socket.write_all(&text)
    }

    pub(super) fn receive(socket: &UnixStream) -> io::Result<Self> {
        Self::receive_with(socket).map(|(note, _)| note)
    }

    fn receive_with(mut socket: &UnixStream) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut length = [0; 4];
        let received =
            recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.read_exact(&mut length[received.bytes..])?;
        let length = u32::from_ne_bytes(length) as usize;
        if length > LONGEST_NOTE_BYTES {
            return Err(io::Error::other("the note is too long"));
        }
        let mut text = vec![0; length];
        socket.read_exact(&mut text)?;
        Ok((serde_json::from_slice(&text)?, descriptors))
    }
}

pub(super) const SOCKET_FILE: &str = "confine.sock";
/// The launcher's code when the program cannot be run; a shell says the same.
pub(super) const PROGRAM_FAILED: u8 = 127;
/// For the launcher to start, and for each of its steps: milliseconds as a rule, seconds on a machine under load.
const MEETING_TIME: Duration = Duration::from_secs(20);
/// The kernel passes on at most 253 at once (SCM_MAX_FD).
const MOST_DESCRIPTORS: usize = 253;
const LONGEST_NOTE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn notes_and_descriptors_arrive() {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let note = Note::Ready { has_ipv6: true, loopback_ports: vec![4317] };

        note.send_with(&one, &[listener.as_fd()]).unwrap();
        Note::Go.send(&one).unwrap();

        let (received, mut descriptors) = Note::receive_with(&other).unwrap();
        assert_eq!(received, note);
        let copy = TcpListener::from(descriptors.pop().unwrap());
        assert_eq!(copy.local_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(Note::receive(&other).unwrap(), Note::Go);
        drop(one);
        assert_eq!(Note::receive(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_map_of_ids_leads_to_the_same_ids() {
        assert_eq!(to_itself("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(to_itself("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }
}
