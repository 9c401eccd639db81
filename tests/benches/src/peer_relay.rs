//! The floor: terminates TLS, originates it again, copies bytes. Knows no HTTP beyond CONNECT.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ServerConfig, pki_types::ServerName, server::Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use crate::{Failure, arguments::PeerArguments, certificates, certificates::Ca, subject};

/// Serves until the harness closes our standard input.
pub async fn serve(arguments: PeerArguments) -> Result<(), Failure> {
    let ca = Ca::new("peer-relay")?;
    fs::write(&arguments.ca_out, ca.pem())?;
    let connector = |protocols: &[&[u8]]| -> Result<TlsConnector, Failure> {
        Ok(TlsConnector::from(Arc::new(certificates::client(&arguments.origin_ca, protocols)?)))
    };
    let relay = Arc::new(Relay {
        h1: connector(&[b"http/1.1"])?,
        h2: connector(&[b"h2"])?,
        ca,
        leaves: Mutex::default(),
        arguments,
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    subject::announce(listener.local_addr()?);
    let accept = async {
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            let relay = Arc::clone(&relay);
            tokio::spawn(async move { relay.carry(client).await });
        }
    };
    tokio::select! {
        () = accept => Ok(()),
        () = subject::standard_input_closed() => Ok(()),
    }
}

/// Server sides by name and protocol: what the relay has signed so far.
type Leaves = HashMap<(String, Vec<u8>), Arc<ServerConfig>>;

struct Relay {
    arguments: PeerArguments,
    ca: Ca,
    h1: TlsConnector,
    h2: TlsConnector,
    leaves: Mutex<Leaves>,
}

impl Relay {
    async fn carry(&self, mut client: TcpStream) -> Result<(), Failure> {
        client.set_nodelay(true)?;
        let authority = read_connect(&mut client).await?;
        let mut origin = TcpStream::connect(self.arguments.origin).await?;
        origin.set_nodelay(true)?;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        if host.parse::<IpAddr>().is_ok() {
            copy_bidirectional_with_sizes(&mut client, &mut origin, TUNNEL_BYTES, TUNNEL_BYTES).await?;
            return Ok(());
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
        let hello = start.client_hello();
        let name = hello.server_name().unwrap_or(host).to_owned();
        let h2 = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == b"h2"));
        let connector = if h2 { &self.h2 } else { &self.h1 };
        let mut origin = connector.connect(ServerName::try_from(name.clone())?, origin).await?;
        let protocol = origin.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
        let mut client = start.into_stream(self.leaf(name, protocol)?).await?;
        copy_bidirectional_with_sizes(&mut client, &mut origin, RECORD_BYTES, RECORD_BYTES).await?;
        Ok(())
    }

    fn leaf(&self, name: String, protocol: Vec<u8>) -> Result<Arc<ServerConfig>, Failure> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(&(name.clone(), protocol.clone())) {
            return Ok(Arc::clone(leaf));
        }
        let leaf = self.ca.server(&[&name], &[&protocol])?;
        leaves.insert((name, protocol), Arc::clone(&leaf));
        Ok(leaf)
    }
}

/// Reads a CONNECT head and returns its authority. The client of this harness sends nothing more before the answer.
async fn read_connect(client: &mut TcpStream) -> Result<String, Failure> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 || head.len() > 4096 {
            return Err("no CONNECT".into());
        }
    }
    let head = String::from_utf8(head)?;
    let mut words = head.split(' ');
    match (words.next(), words.next()) {
        (Some("CONNECT"), Some(authority)) => Ok(authority.to_owned()),
        _ => Err("not a CONNECT".into()),
    }
}

/// One TLS record's plaintext: more is never read at once.
const RECORD_BYTES: usize = 16 * 1024;

/// What a tunnel carries at once. Measured: nearly twice the rate of tokio's 8 KiB.
const TUNNEL_BYTES: usize = 64 * 1024;
