"""The direct way, for comparison: a blind CONNECT forwarder. It sends every tunnel to the origin and reads nothing.

Telemetry hosts are wired into the client, so a proxy variable is the only way to bring it to a local origin without
touching what it says. Whatever differs from a run through this forwarder is plainsight's doing.
"""

import contextlib
import socket
import threading


class Forwarder:
    """The listening forwarder; a context manager."""

    def __init__(self, origin_port: int):
        self._origin_port = origin_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._lock = threading.Lock()
        self._authorities: list[str] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def authorities(self) -> list[str]:
        """Whom clients asked for, in order."""
        with self._lock:
            return list(self._authorities)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            method, authority, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            if method != "CONNECT":
                client.sendall(b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            with self._lock:
                self._authorities.append(authority)
            with socket.create_connection(("127.0.0.1", self._origin_port)) as origin:
                origin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pump, args=(origin, client), daemon=True)
                back.start()
                _pump(client, origin)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(256 * 1024):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
