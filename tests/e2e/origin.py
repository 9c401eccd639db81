"""The far end: a local origin that speaks TLS, HTTP/1.1, HTTP/2 and h2c on one port, and remembers what it got.

The HTTP/1.1 side is written by hand on blocking sockets, so that what it records is what was on the wire: the
request line, header lines in their order and spelling, the body with only its chunk framing removed. It is strict
where a lenient parser would hide a defect. HTTP/2 uses the `h2` package and records the header list in order.
What is answered is a function of its own (`answers.py`), which a test may override per method, host and path.
"""

import contextlib
import fnmatch
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Iterable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from certificates import Certificates

Headers = list[tuple[bytes, bytes]]
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Longest head accepted. The real client's heads stay under 4 KiB.
HEAD_LIMIT_BYTES = 256 * 1024
# Window offered per stream and connection, so that a 20 MiB upload needs no fine tuning.
H2_WINDOW_BYTES = 8 * 1024 * 1024


@dataclass
class Request:
    """One request as it stood on the wire."""

    protocol: str  # "HTTP/1.1", "HTTP/1.0" or "HTTP/2"
    scheme: str
    method: str
    target: str
    authority: str
    headers: Headers  # without pseudo header fields
    pseudo: Headers  # HTTP/2 only
    request_line: bytes  # HTTP/1 only
    connection: int
    sni: str | None
    alpn: str | None
    alpn_offered: tuple[str, ...]
    body: bytes = b""
    chunked: bool = False
    trailers: Headers = field(default_factory=list)
    complete: bool = False
    status: int | None = None  # what was answered
    received: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        """The first value of a header field."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    @property
    def host(self) -> str:
        """The authority without its port."""
        return self.authority.rsplit(":", 1)[0] if self.authority.rsplit(":", 1)[-1].isdigit() else self.authority

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.split("?", 1)[0]

    def __str__(self) -> str:
        return f"{self.method} {self.scheme}://{self.authority}{self.target}"


@dataclass
class Answer:
    """What is sent back. `chunks` are sent one by one, each after its own delay."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    chunks: Iterable[tuple[float, bytes]] | None = None
    trailers: list[tuple[str, str]] = field(default_factory=list)
    delay_seconds: float = 0.0


@dataclass
class Override:
    """Replaces the usual answer where all three globs match."""

    method: str
    host: str
    path: str
    answer: Callable[[Request], Answer]

    def matches(self, request: Request) -> bool:
        return (
            fnmatch.fnmatchcase(request.method, self.method)
            and fnmatch.fnmatchcase(request.host, self.host)
            and fnmatch.fnmatchcase(request.path, self.path)
        )


class Fault(Exception):
    """The peer broke HTTP."""


class Origin:
    """The listening origin; a context manager. `requests()` is what it got so far, in order of arrival."""

    def __init__(
        self,
        certificates: Certificates,
        answer: Callable[[Request], Answer],
        alpn: tuple[str, ...] = ("h2", "http/1.1"),
    ):
        self._answer = answer
        self._overrides: list[Override] = []
        self._requests: list[Request] = []
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self._connections = 0
        # Paths of HTTP/1 of which only so many bytes of the body are read before the connection is cut.
        self.cuts: dict[str, int] = {}
        self._open: set[socket.socket] = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates.leaf, certificates.key)
        self._tls.set_alpn_protocols(list(alpn))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.root = certificates.root

    def __enter__(self) -> "Origin":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # `shutdown` wakes the blocked accept; `close` alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def requests(self) -> list[Request]:
        """Every request whose head arrived."""
        with self._lock:
            return list(self._requests)

    def faults(self) -> list[str]:
        """Every breach of HTTP that was seen, and every failed handshake."""
        with self._lock:
            return list(self._faults)

    def connections(self) -> int:
        """How many connections were accepted."""
        with self._lock:
            return self._connections

    def forget(self) -> None:
        """Forgets requests and faults, not connections."""
        with self._lock:
            self._requests.clear()
            self._faults.clear()

    def on(
        self,
        method: str = "*",
        host: str = "*",
        path: str = "*",
        *,
        answer: Callable[[Request], Answer] | None = None,
        **fields: object,
    ) -> None:
        """Overrides an answer from now on: `origin.on("POST", path="/v1/rgstr", status=500)`. The last one wins."""
        make = answer or (lambda _: Answer(**fields))
        self._overrides.insert(0, Override(method, host, path, make))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections += 1
                number = self._connections
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        stream: socket.socket = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(120)
            first = connection.recv(1, socket.MSG_PEEK)
            scheme, sni, alpn, offered = "http", None, None, ()
            if first == b"\x16":
                sni, offered = _client_hello(_peek_record(connection))
                try:
                    stream = self._tls.wrap_socket(connection, server_side=True)
                except (ssl.SSLError, OSError) as error:
                    self._fault(f"TLS handshake for {sni} failed: {error}")
                    return
                with self._lock:
                    # The wrapped socket has taken over the descriptor.
                    self._open.discard(connection)
                    self._open.add(stream)
                scheme, alpn = "https", stream.selected_alpn_protocol()
            about = {"connection": number, "scheme": scheme, "sni": sni, "alpn": alpn, "alpn_offered": offered}
            if alpn == "h2" or (alpn is None and scheme == "http" and _is_h2c(connection)):
                _Http2(self, stream, about).serve()
            else:
                self._serve_http1(stream, about)
        except (Fault, h2.exceptions.ProtocolError) as fault:
            self._fault(f"{type(fault).__name__}: {fault}")
        except (OSError, EOFError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
                self._open.discard(stream)
            with contextlib.suppress(OSError):
                stream.close()

    def _serve_http1(self, stream: socket.socket, about: dict) -> None:
        reader = _Reader(stream)
        while True:
            head = reader.head()
            if head is None:
                return
            request = _parse_head(head, about)
            self._record(request)
            if (request.header("expect") or "").lower() == "100-continue":
                stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if (count := self.cuts.get(request.path)) is not None:
                request.body = reader.exactly(count)
                return
            try:
                _read_body(reader, request)
            except (Fault, OSError):
                # What arrived of it arrived.
                request.body = reader.rest()
                raise
            request.complete = True
            answer = self._answer_for(request)
            keep = (request.header("connection") or "").lower() != "close" and request.protocol == "HTTP/1.1"
            _write_http1(stream, request, answer, keep)
            if not keep:
                return

    def _answer_for(self, request: Request) -> Answer:
        override = next((entry for entry in self._overrides if entry.matches(request)), None)
        answer = override.answer(request) if override else self._answer(request)
        if answer.delay_seconds:
            time.sleep(answer.delay_seconds)
        request.status = answer.status
        return answer

    def _record(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def _fault(self, text: str) -> None:
        with self._lock:
            self._faults.append(text)


class _Reader:
    """Reads exactly what is asked for, and never past it."""

    def __init__(self, stream: socket.socket):
        self._stream = stream
        self._buffer = bytearray()

    def _more(self) -> bool:
        data = self._stream.recv(256 * 1024)
        self._buffer += data
        return bool(data)

    def head(self) -> bytes | None:
        """A head with its empty line, or `None` when the peer closed in between."""
        start = 0
        while (end := self._buffer.find(b"\r\n\r\n", start)) < 0:
            if len(self._buffer) > HEAD_LIMIT_BYTES:
                raise Fault("the head is too long")
            start = max(0, len(self._buffer) - 3)
            if not self._more():
                if self._buffer:
                    raise Fault("the connection ended within a head")
                return None
        return self._take(end + 4)

    def line(self) -> bytes:
        """A line without its CRLF."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._more():
                raise Fault("the connection ended within a line")
        return self._take(end + 2)[:-2]

    def exactly(self, count: int) -> bytes:
        """`count` bytes."""
        while len(self._buffer) < count:
            if not self._more():
                raise Fault(f"the connection ended {count - len(self._buffer)} bytes short")
        return self._take(count)

    def rest(self) -> bytes:
        """What was read and not asked for."""
        return self._take(len(self._buffer))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _parse_head(head: bytes, about: dict) -> Request:
    lines = head[:-4].split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise Fault("a bare CR or LF in the head")
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Fault(f"no request line: {lines[0][:200]!r}")
    headers = [_parse_field(line) for line in lines[1:]]
    hosts = [value for name, value in headers if name.lower() == b"host"]
    if len(hosts) != 1 and words[2] == b"HTTP/1.1":
        raise Fault(f"{len(hosts)} Host fields")
    return Request(
        protocol=words[2].decode(),
        method=words[0].decode("latin-1"),
        target=words[1].decode("latin-1"),
        authority=hosts[0].decode("latin-1") if hosts else "",
        headers=headers,
        pseudo=[],
        request_line=lines[0],
        **about,
    )


def _parse_field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip() or line[:1] in (b" ", b"\t"):
        raise Fault(f"no header field: {line[:200]!r}")
    return name, value.strip(b" \t")


def _read_body(reader: _Reader, request: Request) -> None:
    codings = [value.lower() for name, value in request.headers if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in request.headers if name.lower() == b"content-length"]
    if codings and lengths:
        raise Fault("Content-Length together with Transfer-Encoding")
    if len(lengths) > 1:
        raise Fault("more than one Content-Length")
    if codings:
        if codings != [b"chunked"]:
            raise Fault(f"transfer coding {codings!r}")
        request.chunked = True
        parts = []
        while size := int(reader.line().split(b";", 1)[0], 16):
            parts.append(reader.exactly(size))
            if reader.exactly(2) != b"\r\n":
                raise Fault("a chunk without CRLF at its end")
        while line := reader.line():
            request.trailers.append(_parse_field(line))
        request.body = b"".join(parts)
    elif lengths:
        if not lengths[0].isdigit():
            raise Fault(f"Content-Length {lengths[0]!r}")
        request.body = reader.exactly(int(lengths[0]))


def _write_http1(stream: socket.socket, request: Request, answer: Answer, keep: bool) -> None:
    bodiless = request.method == "HEAD" or answer.status in (204, 304) or 100 <= answer.status < 200
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    named = {name.lower() for name, _ in answer.headers}
    chunked = (answer.chunks is not None or bool(answer.trailers)) and not bodiless
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif "content-length" not in named and answer.status not in (204, 304):
        lines.append(f"content-length: {len(answer.body)}")
    if not keep:
        lines.append("connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if bodiless:
        stream.sendall(head)
        return
    if not chunked:
        stream.sendall(head + answer.body)
        return
    stream.sendall(head)
    for delay_seconds, chunk in answer.chunks if answer.chunks is not None else [(0.0, answer.body)]:
        if delay_seconds:
            time.sleep(delay_seconds)
        if chunk:
            stream.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    trailers = "".join(f"{name}: {value}\r\n" for name, value in answer.trailers)
    stream.sendall(b"0\r\n" + trailers.encode("latin-1") + b"\r\n")


class _Http2:
    """One HTTP/2 connection. Answers are written by threads of their own, but only `serve` touches the socket: a TLS
    socket must not be read and written at the same time.
    """

    def __init__(self, origin: Origin, stream: socket.socket, about: dict):
        self._origin, self._stream, self._about = origin, stream, about
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: H2_WINDOW_BYTES,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 256,
                h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self._state = threading.Condition()
        self._open: dict[int, tuple[Request, list[bytes]]] = {}
        self._gone: set[int] = set()
        self._closed = False
        self._wake_reader, self._wake_writer = socket.socketpair()

    def serve(self) -> None:
        """Reads and writes until the peer goes away."""
        with self._state:
            self._h2.initiate_connection()
            self._h2.increment_flow_control_window(H2_WINDOW_BYTES)
        self._stream.setblocking(False)
        # A full pipe has woken `serve` already.
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        try:
            while self._turn():
                pass
        finally:
            with self._state:
                self._closed = True
                self._state.notify_all()
            self._wake_reader.close()
            self._wake_writer.close()

    def _turn(self) -> bool:
        """Writes what there is to write, then reads what has come; `False` at the end."""
        with self._state:
            waiting = self._h2.data_to_send()
        while waiting:
            try:
                waiting = waiting[self._stream.send(waiting) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                select.select([], [self._stream], [], 1)
            except ssl.SSLWantReadError:
                select.select([self._stream], [], [], 1)
        if not (isinstance(self._stream, ssl.SSLSocket) and self._stream.pending()):
            ready, _, _ = select.select([self._stream, self._wake_reader], [], [], 120)
            if not ready:
                return False
            if self._wake_reader in ready:
                self._wake_reader.recv(4096)
            if self._stream not in ready:
                return True
        try:
            data = self._stream.recv(256 * 1024)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        if not data:
            return False
        with self._state:
            try:
                for event in self._h2.receive_data(data):
                    self._on(event)
            except h2.exceptions.ProtocolError:
                with contextlib.suppress(OSError):
                    self._stream.send(self._h2.data_to_send())
                raise
            self._state.notify_all()
        return True

    def _flush(self) -> None:
        """Has `serve` write what is waiting."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"!")

    def _on(self, event: object) -> None:
        match event:
            case h2.events.RequestReceived():
                pseudo = [(bytes(name), bytes(value)) for name, value in event.headers if name.startswith(b":")]
                plain = dict(pseudo)
                request = Request(
                    protocol="HTTP/2",
                    method=plain[b":method"].decode("latin-1"),
                    target=plain.get(b":path", b"").decode("latin-1"),
                    authority=plain.get(b":authority", b"").decode("latin-1"),
                    headers=[(bytes(n), bytes(v)) for n, v in event.headers if not n.startswith(b":")],
                    pseudo=pseudo,
                    request_line=b"",
                    **self._about,
                )
                self._open[event.stream_id] = (request, [])
                self._origin._record(request)
            case h2.events.DataReceived():
                self._open[event.stream_id][1].append(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self._open[event.stream_id][0].trailers = [(bytes(n), bytes(v)) for n, v in event.headers]
            case h2.events.StreamEnded():
                request, parts = self._open.pop(event.stream_id)
                request.body = b"".join(parts)
                request.complete = True
                threading.Thread(target=self._respond, args=(event.stream_id, request), daemon=True).start()
            case h2.events.StreamReset():
                self._open.pop(event.stream_id, None)
                self._gone.add(event.stream_id)

    def _respond(self, stream_id: int, request: Request) -> None:
        answer = self._origin._answer_for(request)
        bodiless = request.method == "HEAD" or answer.status in (204, 304)
        headers = [(":status", str(answer.status))] + [(name.lower(), value) for name, value in answer.headers]
        named = {name for name, _ in headers}
        if answer.chunks is None and not answer.trailers and "content-length" not in named and answer.status not in (204, 304):
            headers.append(("content-length", str(len(answer.body))))
        chunks = [] if bodiless else answer.chunks if answer.chunks is not None else [(0.0, answer.body)]
        try:
            with self._state:
                self._h2.send_headers(stream_id, headers)
                self._flush()
            for delay_seconds, chunk in chunks:
                if delay_seconds:
                    time.sleep(delay_seconds)
                self._send(stream_id, chunk)
            with self._state:
                if answer.trailers:
                    self._h2.send_headers(stream_id, answer.trailers, end_stream=True)
                else:
                    self._h2.end_stream(stream_id)
                self._flush()
        except (OSError, EOFError, h2.exceptions.ProtocolError):
            return

    def _send(self, stream_id: int, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            with self._state:
                while not (room := self._h2.local_flow_control_window(stream_id)):
                    if self._closed or stream_id in self._gone or not self._state.wait(timeout=60):
                        raise EOFError
                part = data[sent : sent + min(room, self._h2.max_outbound_frame_size)]
                self._h2.send_data(stream_id, part)
                self._flush()
                sent += len(part)


def _is_h2c(connection: socket.socket) -> bool:
    """Whether the preface of HTTP/2 comes first. A short read is normal, so it looks until it can tell."""
    while True:
        start = connection.recv(len(H2_PREFACE), socket.MSG_PEEK)
        if len(start) == len(H2_PREFACE) or not H2_PREFACE.startswith(start) or not start:
            return start == H2_PREFACE
        time.sleep(0.001)


def _peek_record(connection: socket.socket) -> bytes:
    """The first TLS record, left in the socket. Empty if it does not come in time."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        start = connection.recv(5 + 16384, socket.MSG_PEEK)
        if not start:
            break
        if len(start) >= 5 and len(start) >= 5 + int.from_bytes(start[3:5], "big"):
            return start[5 : 5 + int.from_bytes(start[3:5], "big")]
        time.sleep(0.001)
    return b""


def _client_hello(record: bytes) -> tuple[str | None, tuple[str, ...]]:
    """Server name and offered protocols of a ClientHello."""
    try:
        at = 4 + 2 + 32
        at += 1 + record[at]
        at += 2 + int.from_bytes(record[at : at + 2], "big")
        at += 1 + record[at]
        end = at + 2 + int.from_bytes(record[at : at + 2], "big")
        at += 2
        sni, alpn = None, []
        while at + 4 <= min(end, len(record)):
            kind, size = (int.from_bytes(record[at + i : at + i + 2], "big") for i in (0, 2))
            value = record[at + 4 : at + 4 + size]
            if kind == 0:
                sni = value[5:].decode("ascii")
            elif kind == 16:
                position = 2
                while position < len(value):
                    alpn.append(value[position + 1 : position + 1 + value[position]].decode("latin-1"))
                    position += 1 + value[position]
            at += 4 + size
        return sni, tuple(alpn)
    except (IndexError, UnicodeDecodeError):
        return None, ()


_REASONS = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
