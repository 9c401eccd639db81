"""What the client handed to plainsight, counted by neither: on which connections it sent a request. A request that the client itself cut off is
told from one that we lost, which the tests of what arrives cannot do.
"""

import collections
import contextlib
import socket
import threading
import time

import answers
import truth
from checks import Checks, origin_certificates
from clients import native
from origin import Origin
from product import Proxy
from real_client import AT_THE_END, EXPECTED
from sandbox import Auth, Sandbox, client_command

# Records of TLS: application data. The first of a client is the end of its handshake; a short one is a farewell.
APPLICATION_DATA = 23
LONGEST_FAREWELL = 64
# A client that ends does not wait: what it sent is read all the same, within this.
SETTLE_SECS = 2


class Connection:
    """One tunnel of the client's."""

    def __init__(self, authority: str):
        self.authority = authority
        self._left = b""
        self._records: list[int] = []

    def take(self, data: bytes) -> None:
        """Counts what the client sends."""
        self._left += data
        while len(self._left) >= 5 and len(self._left) >= (end := 5 + int.from_bytes(self._left[3:5], "big")):
            if self._left[0] == APPLICATION_DATA:
                self._records.append(end - 5)
            self._left = self._left[end:]

    @property
    def spoke(self) -> bool:
        """Whether it sent (the beginning of) a request, rather than a handshake alone."""
        return any(length > LONGEST_FAREWELL for length in self._records[1:])


class Witness:
    """Stands between a client and its proxy, and reads nothing but the lengths of records."""

    def __init__(self, proxy: tuple[str, int]):
        self._proxy = proxy
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Witness":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def spoke(self) -> collections.Counter[str]:
        """How many connections brought a request, by host."""
        with self._lock:
            return collections.Counter(one.authority.removesuffix(":443") for one in self._connections if one.spoke)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._proxy) as proxy:
            for side in (client, proxy):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            proxy.sendall(head)
            method, authority, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            connection = Connection(authority)
            if method == "CONNECT":
                with self._lock:
                    self._connections.append(connection)
            threading.Thread(target=_pump, args=(proxy, client, None), daemon=True).start()
            _pump(client, proxy, connection)
            # The answer may still be on its way to a client that said all it had to say.
            time.sleep(SETTLE_SECS)


def _pump(source: socket.socket, sink: socket.socket, connection: Connection | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(256 * 1024):
            # Passed on first: what is counted, the proxy could read.
            sink.sendall(data)
            if connection:
                connection.take(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def nothing_is_lost(auth: Auth) -> None:
    """Each connection on which the client sent a request has a record; what did not arrive was cut off by the client, and its record says so."""
    program = native()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(auth) as sandbox, Checks() as check:
        with Proxy(sandbox, origin) as proxy, Witness(proxy.address) as witness:
            result = sandbox.run(client_command(program), HTTPS_PROXY=witness.url, HTTP_PROXY=witness.url, NO_PROXY="localhost,127.0.0.1,::1", NODE_EXTRA_CA_CERTS=proxy.store.ca())
            check.equal((result.code, result.stdout), (0, f"{answers.FINAL_TEXT}\n"), f"exit code and stdout; {result}")
            time.sleep(SETTLE_SECS)
            flows = [flow for flow in proxy.store.closed_log() if flow["method"] != "CONNECT"]
        spoke = witness.spoke()
        recorded = collections.Counter(flow["authority"].removesuffix(":443") for flow in flows)
        check.that(spoke["api.anthropic.com"], f"the witness saw no request at all: {spoke}")
        check.equal(spoke - recorded, collections.Counter(), f"connections that brought a request, and have no record, of {recorded}")
        arrived = {truth.destination(request) for request in origin.requests()}
        for name in sorted(EXPECTED[program.version, auth]):
            host = truth.DESTINATIONS[name][0]
            sent = any(one == host or one.endswith(f".{host}") for one in spoke)
            own = [flow for flow in flows if flow["destination"] == name]
            outcomes = {"client-gone" if "client closed" in (flow["error"] or "") else flow["outcome"] for flow in own}
            if name in AT_THE_END and not sent:
                check.equal(outcomes, set(), f"{name}: the client sent no request, and there is a record of one")
            else:
                check.that(outcomes, f"{name}: the client sent a request, and there is no record of it")
                check.that(name in arrived or outcomes == {"client-gone"}, f"{name}: nothing arrived, and the client did not cut it off: {outcomes}")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    return [(f"client.witness.{auth.value}", lambda a=auth: nothing_is_lost(a)) for auth in Auth]
