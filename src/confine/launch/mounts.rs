//! What the namespace sees of the system's name resolution: a `resolv.conf` that names us, a `hosts` that names nobody,
//! and no socket of a daemon that would resolve names outside.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{MountPropagationFlags, mount_bind, mount_change},
};

/// Covers files of the new mount namespace by those in `folder`, which [`write_files`] wrote.
pub(super) fn cover(folder: &Path) -> Result<(), String> {
    // A namespace of another user's passes nothing on to the outer one by itself; a root that is no mount point says
    // EINVAL.
    match mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(format!("the mounts cannot be set apart: {error}")),
    }
    for (name, target) in COVERED {
        bind(&folder.join(name), Path::new(target))?;
    }
    for target in RESOLVERS {
        bind(&folder.join(NO_SOCKET), Path::new(target))?;
    }
    Ok(())
}

/// Writes the files that [`cover`] needs.
pub(super) fn write_files(folder: &Path, dns: std::net::Ipv4Addr) -> io::Result<()> {
    // No `search` and no `ndots`: a name with such an ending would have an address like any other, and be the wrong one.
    fs::write(folder.join("resolv.conf"), format!("# plainsight run --confine\nnameserver {dns}\n"))?;
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    fs::write(folder.join("hosts"), loopback_only(&hosts))?;
    fs::write(folder.join(NO_SOCKET), "")
}

/// The lines of a `hosts` file that stay on the machine. The others are looked up by the proxy, which has the whole file.
fn loopback_only(hosts: &str) -> String {
    let is_loopback = |line: &&str| {
        let address = line.split_whitespace().next().and_then(|word| word.parse::<std::net::IpAddr>().ok());
        address.is_some_and(|address| address.is_loopback())
    };
    let mut kept: Vec<&str> = hosts.lines().filter(is_loopback).collect();
    if kept.is_empty() {
        kept.extend(["127.0.0.1 localhost", "::1 localhost"]);
    }
    kept.join("\n") + "\n"
}

fn bind(source: &Path, target: &Path) -> Result<(), String> {
    let target: PathBuf = match fs::canonicalize(target) {
        Ok(target) => target,
        // What is not there needs no cover.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", target.display())),
    };
    mount_bind(source, &target).map_err(|error| format!("{} cannot be covered: {error}", target.display()))
}

const COVERED: &[(&str, &str)] = &[("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts")];
/// Sockets by which programs ask a daemon outside to resolve names: systemd-resolved, nscd (and what speaks its
/// protocol), Avahi, SSSD.
const RESOLVERS: &[&str] = &[
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/avahi-daemon/socket",
    "/var/lib/sss/pipes/nss",
];
const NO_SOCKET: &str = "no-socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_stay_in_hosts() {
        let hosts = "# comment\n127.0.0.1 localhost\n203.0.113.7 api.example\n::1\tlocalhost ip6-localhost\nfe80::1 x\n";

        assert_eq!(loopback_only(hosts), "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n");
        assert_eq!(loopback_only(""), "127.0.0.1 localhost\n::1 localhost\n");
    }
}
