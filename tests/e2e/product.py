"""plainsight itself, as a user has it: a binary, its arguments, what it prints. This file is the list of the interfaces
that the end-to-end tests rely on.
"""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from checks import json_lines
from clients import REPOSITORY
from origin import Origin
from sandbox import Result, Sandbox

# `proxy` starts within a moment; a loaded machine with a debug build gets more.
START_TIMEOUT_SECS = 60
STOP_TIMEOUT_SECS = 20
CLOSING_SECS = 10


def binary() -> str:
    """`PLAINSIGHT_BIN`, or the newest build in `target/`."""
    named = os.environ.get("PLAINSIGHT_BIN")
    found = [Path(named).resolve()] if named else [REPOSITORY / "target" / kind / "plainsight" for kind in ("release", "debug")]
    usable = [path for path in found if os.access(path, os.X_OK)]
    if not usable:
        raise AssertionError(f"no plainsight binary at {' or '.join(map(str, found))}: build it, or set PLAINSIGHT_BIN")
    return str(max(usable, key=lambda path: path.stat().st_mtime))


def to_origin(origin: Origin) -> list[str]:
    """The flags that bring every authority to the local origin."""
    return ["--upstream-ca", str(origin.root), "--connect-to", f"::127.0.0.1:{origin.port}"]


class Store:
    """One data folder and the commands that read it."""

    def __init__(self, sandbox: Sandbox):
        self._sandbox = sandbox
        self.folder = sandbox.folder / "data"

    def command(self, *arguments: str, timeout_secs: float = 60) -> Result:
        """Runs plainsight on this data folder."""
        return self._sandbox.run([binary(), *arguments], timeout_secs, PLAINSIGHT_DATA_DIR=self.folder)

    def log(self) -> list[dict]:
        """`plainsight log --json`: one flow a line."""
        result = self.command("log", "--json")
        assert result.code == 0, f"`log --json` failed: {result}"
        return json_lines(result.stdout)

    def closed_log(self) -> list[dict]:
        """The same of a proxy that still runs, once every record is closed: the last ones may wait for company."""
        deadline = time.monotonic() + CLOSING_SECS
        while True:
            flows = self.log()
            if all(flow["outcome"] for flow in flows) or time.monotonic() > deadline:
                return flows
            time.sleep(0.05)

    def show(self, flow: str) -> str:
        """`plainsight show ID --json`, as text."""
        result = self.command("show", flow, "--json")
        assert result.code == 0, f"`show {flow} --json` failed: {result}"
        return result.stdout

    def ca(self) -> Path:
        """`plainsight ca path`."""
        result = self.command("ca", "path")
        assert result.code == 0, f"`ca path` failed: {result}"
        return Path(result.stdout.strip())

    def everything_stored(self) -> bytes:
        """Every byte of every file under the data folder."""
        return b"\n".join(file.read_bytes() for file in sorted(self.folder.rglob("*")) if file.is_file())


class Proxy:
    """A running `plainsight proxy` on a free port; a context manager."""

    def __init__(self, sandbox: Sandbox, origin: Origin, *arguments: str, before: bool = False):
        self.store = Store(sandbox)
        # What comes first counts for `--connect-to`.
        flags = [*arguments, *to_origin(origin)] if before else [*to_origin(origin), *arguments]
        self._command = [binary(), "proxy", "--listen", "127.0.0.1:0", *flags]
        self._environment = sandbox.environment(PLAINSIGHT_DATA_DIR=self.store.folder)
        self._work = sandbox.work
        self._lines: list[str] = []
        self._listening = threading.Event()
        self.url = ""
        # Where it receives OTLP, by `gRPC` and `HTTP`.
        self.receivers: dict[str, str] = {}

    def __enter__(self) -> "Proxy":
        self._process = subprocess.Popen(
            self._command,
            cwd=self._work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while not self._listening.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError(f"`{' '.join(self._command)}` did not listen (exit {self._process.poll()}): {self.stderr()}")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            if kind is None:
                raise AssertionError(f"SIGTERM did not end the proxy within {STOP_TIMEOUT_SECS} s: {self.stderr()}") from None
            return
        if kind is None and code != 0:
            raise AssertionError(f"after SIGTERM the proxy ended with {code}: {self.stderr()}")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def stderr(self) -> str:
        """What it said so far."""
        return "".join(self._lines)

    def _read(self) -> None:
        for line in self._process.stderr:
            self._lines.append(line)
            if match := re.search(r"receiving OTLP over (\w+) on (http://\S+:\d+)", line):
                self.receivers[match[1]] = match[2]
            if match := re.search(r"listening on (http://\S+:\d+)", line):
                self.url = match[1]
                self._listening.set()
