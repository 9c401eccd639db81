//! The launcher: the process that moves into the namespace, furnishes it, and becomes the program.

use std::{
    ffi::OsString,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
};

use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::confine::{
    AddressPlan, LARGEST_PACKET_BYTES,
    launch::{
        error::{advise_namespaces, advise_tun},
        handover::{Furniture, Note, PROGRAM_FAILED},
        mounts,
        netlink::Netlink,
    },
};

/// What the launcher is told.
#[derive(Clone, Debug)]
pub struct LauncherArguments {
    /// The private folder with the socket where plainsight waits, and the files that cover others.
    pub folder: PathBuf,
    /// The proxy's own port, which is served on the namespace's loopback as well.
    pub proxy_port: u16,
    /// Loopback ports of the machine that the program may reach.
    pub loopback_ports: Vec<u16>,
    /// The program and its arguments.
    pub program: Vec<OsString>,
}

/// Moves into a namespace, hands its devices over, and becomes the program. Returns only if that fails; whoever waits
/// at the other end says why.
pub fn launch(arguments: &LauncherArguments) -> u8 {
    let Ok(socket) = UnixStream::connect(arguments.folder.join(super::handover::SOCKET_FILE)) else {
        eprintln!(
            "plainsight: `__confine` is for plainsight itself; type `plainsight run --confine -- PROGRAM`"
        );
        return FAILED;
    };
    match furnish(arguments, &socket) {
        Ok(()) => become_program(arguments, &socket),
        Err(why) => {
            // Nobody is there to be told otherwise.
            let _ = Note::Failed(why).send(&socket);
            FAILED
        }
    }
}

fn furnish(arguments: &LauncherArguments, socket: &UnixStream) -> Result<(), String> {
    let broken = |error: io::Error| format!("the launcher lost its other half: {error}");
    unshare().map_err(|error| advise_namespaces(&error))?;
    Note::Unshared.send(socket).map_err(broken)?;
    match Note::receive(socket).map_err(broken)? {
        Note::Mapped => {}
        other => return Err(format!("the launcher was told {other:?} in place of being mapped")),
    }
    mounts::cover(&arguments.folder)?;
    let tun = make_tun().map_err(|error| advise_tun(&error))?;
    let has_ipv6 =
        make_routes().map_err(|error| format!("the namespace's routes cannot be made: {error}"))?;
    let furniture = listen(arguments, has_ipv6)?;
    drop_capabilities()?;
    furniture.send(&tun, socket).map_err(broken)?;
    match Note::receive(socket).map_err(broken)? {
        Note::Go => Ok(()),
        other => Err(format!("the launcher was told {other:?} in place of going")),
    }
}

fn become_program(arguments: &LauncherArguments, socket: &UnixStream) -> u8 {
    let Some((program, rest)) = arguments.program.split_first() else { return FAILED };
    let error = Command::new(program).args(rest).exec();
    let _ = Note::ProgramFailed(error.to_string()).send(socket);
    PROGRAM_FAILED
}

fn unshare() -> io::Result<()> {
    // The safe function is deprecated because FILES may invalidate descriptors; these flags do not.
    #[expect(deprecated, reason = "its replacement is unsafe for a flag that is not used here")]
    let unshared =
        rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS);
    Ok(unshared?)
}

fn make_tun() -> io::Result<SyncDevice> {
    // Opened first for the sake of a good error.
    fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let device = DeviceBuilder::new().name(DEVICE).enable(false).build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

/// Sends everything to the device. Says whether that goes for IPv6 too; if not, there is no IPv6 at all.
fn make_routes() -> io::Result<bool> {
    let mut netlink = Netlink::open()?;
    netlink.switch_on(LOOPBACK_INDEX, None)?;
    let index = netlink.index(DEVICE)?;
    netlink.switch_on(index, Some(LARGEST_PACKET_BYTES as u32))?;
    let own: IpAddr = AddressPlan::OWN_V4.into();
    netlink.add_address(index, own)?;
    netlink.route_all(index, own)?;
    let own: IpAddr = AddressPlan::OWN_V6.into();
    let ipv6 = netlink.add_address(index, own).and_then(|()| netlink.route_all(index, own));
    Ok(ipv6.is_ok())
}

fn listen(arguments: &LauncherArguments, has_ipv6: bool) -> Result<Furniture, String> {
    let bind = |address: SocketAddr| {
        TcpListener::bind(address)
            .map_err(|error| format!("no listener on {address} in the namespace: {error}"))
    };
    let mut loopback = Vec::new();
    for port in &arguments.loopback_ports {
        loopback.push((*port, bind((Ipv4Addr::LOCALHOST, *port).into())?));
        if has_ipv6 {
            loopback.push((*port, bind((Ipv6Addr::LOCALHOST, *port).into())?));
        }
    }
    Ok(Furniture {
        turned_v4: bind((AddressPlan::OWN_V4, 0).into())?,
        turned_v6: has_ipv6.then(|| bind((AddressPlan::OWN_V6, 0).into())).transpose()?,
        proxy: bind((Ipv4Addr::LOCALHOST, arguments.proxy_port).into())?,
        loopback,
    })
}

/// Takes from the program what it could take the namespace apart with. For anybody but root the kernel does that on
/// `exec` anyway.
fn drop_capabilities() -> Result<(), String> {
    for capability in [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW, CapabilitySet::SYS_ADMIN] {
        remove_capability_from_bounding_set(capability)
            .map_err(|error| format!("capabilities cannot be dropped: {error}"))?;
    }
    Ok(())
}

impl Furniture {
    fn send(&self, tun: &SyncDevice, socket: &UnixStream) -> io::Result<()> {
        let mut descriptors = vec![tun.as_fd(), self.proxy.as_fd(), self.turned_v4.as_fd()];
        descriptors.extend(self.turned_v6.iter().map(AsFd::as_fd));
        descriptors.extend(self.loopback.iter().map(|(_, listener)| listener.as_fd()));
        let loopback_ports = self.loopback.iter().map(|(port, _)| *port).collect();
        let note = Note::Ready { has_ipv6: self.turned_v6.is_some(), loopback_ports };
        note.send_with(socket, &descriptors)
    }
}

/// Whether this path is where a launcher can be started from: plainsight itself.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";
const DEVICE: &str = "plainsight";
/// In a new network namespace `lo` is always the first device.
const LOOPBACK_INDEX: u32 = 1;
const FAILED: u8 = 2;
