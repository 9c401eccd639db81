//! Who is at the other end of a loopback connection, as far as the kernel says.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

/// Whether the connection was opened by another user than ours. Root is no one else; what cannot be told is taken for ours.
pub(super) fn is_someone_else(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    owner(peer, own).is_some_and(|user| user != 0 && Some(user) != our_user())
}

#[cfg(target_os = "linux")]
fn our_user() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

#[cfg(not(target_os = "linux"))]
const fn our_user() -> Option<u32> {
    None
}

/// The user who owns the socket at `from` that is connected to `to`.
#[cfg(target_os = "linux")]
fn owner(from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let file = if from.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let table = std::fs::read_to_string(file).ok()?;
    find(&table, &address(from), &address(to))
}

#[cfg(not(target_os = "linux"))]
const fn owner(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

/// The user in the row whose local and remote addresses these are. Columns: number, local, remote, state, queues, timer,
/// retransmissions, user.
fn find(table: &str, from: &str, to: &str) -> Option<u32> {
    table.lines().skip(1).find_map(|row| {
        let mut columns = row.split_ascii_whitespace().skip(1);
        let is_it = columns.next() == Some(from) && columns.next() == Some(to);
        if is_it { columns.nth(4)?.parse().ok() } else { None }
    })
}

/// An address as the table has it: words of the address in the machine's own order, and the port, in hex.
fn address(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_owner_is_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:10DE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n\
             1: 0100007F:10DE 0100007F:B3F2 01 00000000:00000000 00:00000000 00000000  1000        0 2\n\
             2: 0100007F:B3F2 0100007F:10DE 01 00000000:00000000 00:00000000 00000000  1001        0 3\n";
        let (client, own) = ("127.0.0.1:46066".parse().unwrap(), "127.0.0.1:4318".parse().unwrap());

        assert_eq!(find(table, &address(client), &address(own)), Some(1001));
        assert_eq!(find(table, &address(client), &address(client)), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn our_own_connection_is_known_as_ours() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();

        let found = owner(client.local_addr().unwrap(), server.local_addr().unwrap());

        assert_eq!(found, our_user());
        assert!(!is_someone_else(&server));
    }
}
