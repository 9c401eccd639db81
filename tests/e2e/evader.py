"""A program that wants to get past: each way to reach somebody that knows nothing of a proxy. Run by `confine.py` inside
and outside of a confinement; prints one JSON object, what each attempt came to.

    python3 evader.py V4 V6 PORT      addresses of a probe that listens on TCP and UDP
"""

import base64
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import urllib.parse

TIMEOUT_SECS = 3
DNS_NAME = "evader.invalid"
NAME = "named.example.com"
QUERY = struct.pack(">6H", 0x1234, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(part)]) + part.encode() for part in DNS_NAME.split(".")) + b"\0\0\1\0\1"


def tcp(address: str, port: int, mark: str) -> str:
    """An address literal, no name, no variable."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(TIMEOUT_SECS)
        stream.connect((address, port))
        stream.sendall(f"evader {mark}\n".encode())
        answer = stream.recv(16)
        # A look at the sockets must find it: it is no part of the claim that shorter ones are seen.
        stream.settimeout(0.4)
        try:
            stream.recv(1)
        except TimeoutError:
            pass
        return answer.decode()


def udp(address: str, port: int, mark: str) -> str:
    """QUIC's way: a datagram, and then waiting for an answer or a refusal."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(TIMEOUT_SECS)
        datagrams.connect((address, port))
        datagrams.send(f"evader {mark}\n".encode().ljust(1200))
        return datagrams.recv(16).decode()


def own_dns(server: str) -> str:
    """A DNS client of its own, that asks whom it likes. Returns the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(TIMEOUT_SECS)
        datagrams.sendto(QUERY, (server, 53))
        return socket.inet_ntoa(datagrams.recv(512)[-4:])


def own_dns_over_tcp(server: str) -> str:
    """The same over TCP."""
    with socket.create_connection((server, 53), TIMEOUT_SECS) as stream:
        stream.sendall(struct.pack(">H", len(QUERY)) + QUERY)
        length = struct.unpack(">H", stream.recv(2))[0]
        return socket.inet_ntoa(stream.recv(length)[-4:])


def bare_child(address: str, port: int) -> str:
    """A grandchild with no environment at all."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import evader; print(evader.tcp({address!r}, {port}, 'bare'))"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


def tls(address: str, port: int, name: str | None) -> str:
    """TLS to an address literal: with a name in its first words, or without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), TIMEOUT_SECS) as stream, context.wrap_socket(stream, server_hostname=name):
        return "handshake"


def http(address: str, port: int) -> str:
    """Cleartext HTTP to an address that nobody named."""
    with socket.create_connection((address, port), TIMEOUT_SECS) as stream:
        stream.sendall(f"GET /evader-http HTTP/1.1\r\nHost: {address}:{port}\r\n\r\n".encode())
        return stream.recv(16).decode()


def by_proxy(address: str, port: int) -> str:
    """Asks the proxy itself for an address, with the credential that stands in the environment."""
    proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
    credential = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    with socket.create_connection((proxy.hostname, proxy.port), TIMEOUT_SECS) as stream:
        stream.sendall(f"CONNECT {address}:{port} HTTP/1.1\r\nHost: {address}:{port}\r\nProxy-Authorization: Basic {credential}\r\n\r\n".encode())
        status = stream.recv(4096).split(b"\r\n")[0].decode()
        if " 200 " not in status:
            return status
        stream.sendall(b"evader proxy\n")
        return stream.recv(16).decode()


def raw(address: str) -> str:
    """A packet put together by hand, past every socket of TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as packets:
        packets.sendto(b"\x08\x00\xf7\xff\0\0\0\0", (address, 0))
        return "sent"


def abstract(port: int) -> str:
    """A unix socket with no path, which only a network namespace keeps in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(b"\0plainsight-evader-%d" % port)
        stream.sendall(b"evader abstract\n")
        return "sent"


def main() -> None:
    v4, v6, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    attempts = {
        "tcp4": lambda: tcp(v4, port, "tcp4"),
        "tcp6": lambda: tcp(v6, port, "tcp6"),
        "udp4": lambda: udp(v4, port, "udp4"),
        "udp6": lambda: udp(v6, port, "udp6"),
        "dns": lambda: own_dns(v4),
        "dns-tcp": lambda: own_dns_over_tcp(v4),
        "bare": lambda: bare_child(v4, port),
        "tls-named": lambda: tls(v4, port, NAME),
        "tls-unnamed": lambda: tls(v4, port, None),
        "http": lambda: http(v4, port),
        "proxy": lambda: by_proxy(v4, port),
        "raw": lambda: raw(v4),
        "abstract": lambda: abstract(port),
    }
    said = {}
    for name, attempt in attempts.items():
        try:
            said[name] = attempt()
        except OSError as error:
            said[name] = f"{type(error).__name__}: {error}"
        except subprocess.TimeoutExpired:
            said[name] = "timeout"
    print(json.dumps(said))


if __name__ == "__main__":
    main()
