"""Sends one described request by each of the programs that people use: curl, requests, httpx, Node, and by hand.

Every sender takes the same two things besides the request: the proxy and the CA to trust. The direct way is the blind
forwarder with the origin's root, the other is plainsight with its own, so nothing else can differ.
"""

import hashlib
import json
import os
import socket
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx
import requests

from clients import tool, undici

# Name of the header field that says which case a request belongs to.
CASE_HEADER = "X-E2E-Case"
SEND_TIMEOUT_SECS = 20


@dataclass(frozen=True)
class Way:
    """Through which proxy, trusting whom."""

    name: str
    proxy: str
    ca: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.proxy)
        return parts.hostname, parts.port


@dataclass(frozen=True)
class Case:
    """One request to send."""

    name: str
    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    streamed: bool = False  # without a length: chunked, or open-ended frames
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        return [(CASE_HEADER, self.name), *self.headers]


@dataclass
class Outcome:
    """What the program got back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""  # SHA-256
    error: str | None = None


def curl(way: Way, case: Case, folder: Path, version: str = "--http1.1", route: list[str] | None = None) -> Outcome:
    """curl with an HTTP proxy, or by another `route`."""
    head, body, upload = folder / "head", folder / "body", folder / "upload"
    command = [tool("curl"), "--disable", "--silent", "--show-error", "--globoff", "--path-as-is", version]
    command += route if route is not None else ["--proxy", way.proxy, "--cacert", str(way.ca)]
    command += ["--suppress-connect-headers", "--max-time", str(SEND_TIMEOUT_SECS)]
    command += ["--dump-header", str(head), "--output", str(body)]
    command += ["--head"] if case.method == "HEAD" else ["--request", case.method]
    for name, value in case.all_headers:
        command += ["--header", f"{name}: {value}" if value else f"{name};"]
    if case.body is not None:
        upload.write_bytes(case.body)
        if case.streamed and version == "--http1.1":
            command += ["--header", "Transfer-Encoding: chunked"]
        command += ["--data-binary", f"@{upload}"]
    for file in (head, body):
        file.write_bytes(b"")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run([*command, case.url], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        return Outcome(error=f"curl exit {done.returncode}: {done.stderr.strip()}")
    # The last head is the answer's: a 100 may come before it.
    lines = head.read_text("latin-1").strip().split("\r\n\r\n")[-1].split("\r\n")
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if ":" in line]
    return Outcome(int(lines[0].split()[1]), headers, _digest(b"" if case.method == "HEAD" else body.read_bytes()))


def by_requests(way: Way, case: Case) -> Outcome:
    """Python requests."""
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": way.proxy, "https": way.proxy}
        session.verify = str(way.ca)
        body = _pieces(case.body) if case.streamed else case.body
        try:
            answer = session.request(
                case.method, case.url, headers=dict(case.all_headers), data=body, timeout=SEND_TIMEOUT_SECS, allow_redirects=False
            )
        except requests.RequestException as error:
            return Outcome(error=repr(error))
        return Outcome(answer.status_code, list(answer.raw.headers.items()), _digest(answer.content))


def by_httpx(way: Way, case: Case, http2: bool) -> Outcome:
    """Python httpx, over HTTP/1.1 or HTTP/2."""
    trust = ssl.create_default_context(cafile=str(way.ca))
    try:
        with httpx.Client(proxy=way.proxy, verify=trust, http1=not http2, http2=http2, trust_env=False, timeout=SEND_TIMEOUT_SECS) as client:
            body = _pieces(case.body) if case.streamed else case.body
            answer = client.request(case.method, case.url, headers=case.all_headers, content=body)
            return Outcome(answer.status_code, answer.headers.multi_items(), _digest(answer.content))
    except httpx.HTTPError as error:
        return Outcome(error=repr(error))


def node(way: Way, cases: list[Case], folder: Path, how: str) -> list[dict]:
    """Node: one process for all cases, one outcome each."""
    described = []
    for number, case in enumerate(cases):
        entry = {"name": case.name, "url": case.url, "method": case.method, "headers": case.all_headers, "streamed": case.streamed}
        if case.body is not None:
            file = folder / f"node-{number}"
            file.write_bytes(case.body)
            entry["bodyFile"] = str(file)
        described.append(entry)
    job = {"proxy": way.proxy, "ca": str(way.ca), "timeoutSecs": SEND_TIMEOUT_SECS, "undici": str(undici()), "way": how, "requests": described}
    try:
        done = subprocess.run(
            [tool("node"), str(Path(__file__).with_name("senders.mjs"))],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=(1 + len(cases)) * SEND_TIMEOUT_SECS,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"node did not end: {late}") from late
    assert done.returncode == 0, f"node exit {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def by_hand_h1(way: Way, case: Case) -> Outcome:
    """Literal bytes, for what no library lets through: spelling, order, interleaved repetition, trailers."""
    parts = urlsplit(case.url)
    target = case.url.split(parts.netloc, 1)[1]
    lines = [f"{case.method} {target} HTTP/1.1", f"hOsT: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in case.all_headers]
    body = case.body or b""
    if case.streamed:
        lines += [f"Trailer: {', '.join(name for name, _ in case.trailers)}"] if case.trailers else []
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _pieces(body)) + b"0\r\n"
        body += "".join(f"{name}: {value}\r\n" for name, value in case.trailers).encode("latin-1") + b"\r\n"
    elif case.body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    try:
        with secured(way, parts.hostname, parts.port or 443, ["http/1.1"]) as stream:
            stream.sendall(head + body)
            return _read_answer(stream, case.method)
    except (OSError, ValueError) as error:
        return Outcome(error=repr(error))


def by_hand_h2(way: Way, case: Case) -> Outcome:
    """HTTP/2 frame by frame, for trailers and repeated fields."""
    parts = urlsplit(case.url)
    pseudo = [(":method", case.method), (":authority", parts.netloc), (":scheme", "https"), (":path", case.url.split(parts.netloc, 1)[1])]
    headers = pseudo + [(name.lower(), value) for name, value in case.all_headers]
    outcome, received, trailers, ended = Outcome(), bytearray(), [], False
    try:
        with secured(way, parts.hostname, parts.port or 443, ["h2"]) as stream:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
            connection.initiate_connection()
            connection.send_headers(1, headers, end_stream=case.body is None and not case.trailers)
            pieces = list(_pieces(case.body or b"", 16384))
            stream.sendall(connection.data_to_send())
            while not ended:
                while pieces and connection.local_flow_control_window(1) >= len(pieces[0]):
                    connection.send_data(1, pieces.pop(0), end_stream=not pieces and not case.trailers)
                    if not pieces and case.trailers:
                        connection.send_headers(1, list(case.trailers), end_stream=True)
                stream.sendall(connection.data_to_send())
                data = stream.recv(262144)
                if not data:
                    return Outcome(error="the connection ended before the answer did")
                for event in connection.receive_data(data):
                    match event:
                        case h2.events.ResponseReceived():
                            outcome.status = int(dict(event.headers)[":status"])
                            outcome.headers = [pair for pair in event.headers if not pair[0].startswith(":")]
                        case h2.events.TrailersReceived():
                            trailers = [(f"trailer {name}", value) for name, value in event.headers]
                        case h2.events.DataReceived():
                            received += event.data
                            connection.acknowledge_received_data(event.flow_controlled_length, 1)
                        case h2.events.StreamEnded():
                            ended = True
                        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                            return Outcome(error=f"{type(event).__name__} {event.error_code}")
                stream.sendall(connection.data_to_send())
    except (OSError, h2.exceptions.ProtocolError) as error:
        return Outcome(error=repr(error))
    outcome.headers += trailers
    outcome.body = _digest(bytes(received))
    return outcome


@contextmanager
def secured(way: Way, host: str, port: int, protocols: list[str], strict: bool = False) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to `host` through the way's proxy."""
    trust = ssl.create_default_context(cafile=str(way.ca))
    trust.set_alpn_protocols(protocols)
    if strict:
        trust.verify_flags |= ssl.VERIFY_X509_STRICT
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with socket.create_connection(way.address, timeout=SEND_TIMEOUT_SECS) as connection:
        connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                raise ConnectionError(f"the proxy closed after {head!r}")
            head += byte
        if head.split(b" ")[1] != b"200":
            raise ConnectionError(f"CONNECT answered {head!r}")
        with trust.wrap_socket(connection, server_hostname=host) as stream:
            yield stream


def _read_answer(stream: ssl.SSLSocket, method: str) -> Outcome:
    with stream.makefile("rb") as file:
        while True:
            words = file.readline().split()
            if len(words) < 2:
                raise ValueError("no answer")
            status, headers = int(words[1]), []
            while line := file.readline().strip(b"\r\n"):
                name, value = line.decode("latin-1").split(":", 1)
                headers.append((name, value.strip()))
            if status >= 200:
                break
        fields = {name.lower(): value for name, value in headers}
        body = b""
        if method == "HEAD" or status in (204, 304):
            pass
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(file.readline(), 16):
                body += file.read(size)
                file.readline()
            while line := file.readline().strip(b"\r\n"):
                name, value = line.decode("latin-1").split(":", 1)
                headers.append((f"trailer {name.lower()}", value.strip()))
        else:
            body = file.read(int(fields["content-length"]))
        return Outcome(status, headers, _digest(body))


def _pieces(body: bytes | None, size_bytes: int = 50_000) -> Iterator[bytes]:
    body = body or b""
    return (body[at : at + size_bytes] for at in range(0, len(body), size_bytes))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
