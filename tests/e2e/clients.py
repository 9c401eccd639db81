"""Installs what is under test from outside, once, into a cache: the audited clients, and the SDKs that send requests.

Safe against a second process that does the same: a lock file serialises, and a folder appears under its final name
only when it is complete.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PACKAGE = "@anthropic-ai/claude-code"
UNDICI_VERSION = "6.29.1"
# The newest that run on Node 20. The name of the folder says which set it is.
SDKS = {
    "@opentelemetry/api": "1.9.1",
    "@opentelemetry/api-logs": "0.223.0",
    **{f"@opentelemetry/exporter-{signal}-otlp-{kind}": "0.223.0" for signal in ("logs", "metrics", "trace") for kind in ("grpc", "http", "proto")},
    "@opentelemetry/resources": "2.12.1",
    "@opentelemetry/sdk-logs": "0.223.0",
    "@opentelemetry/sdk-metrics": "2.12.1",
    "@opentelemetry/sdk-trace-base": "2.12.1",
    "@sentry/node": "11.12.0",
    "@statsig/statsig-node-core": "0.23.2",
    "http-proxy-agent": "9.1.0",
    "https-proxy-agent": "9.1.0",
}
# What opens a page and looks at it. The browser itself is the machine's.
BROWSER_TOOLS = {"axe-core": "4.14.1", "playwright-core": "1.65.1"}

# The download of the native client is about 100 MB packed.
INSTALL_TIMEOUT_SECS = 600


class SetupError(Exception):
    """The machine lacks something, or a registry could not be reached."""


@dataclass(frozen=True)
class Client:
    """One version of the audited client: `command` starts it, arguments follow."""

    version: str
    command: tuple[str, ...]


def cache_folder() -> Path:
    """`PLAINSIGHT_E2E_CACHE`, or `.cache/e2e` in the repository."""
    folder = Path(os.environ.get("PLAINSIGHT_E2E_CACHE") or REPOSITORY / ".cache" / "e2e").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def native() -> Client:
    """2.1.329, one native executable."""
    version = "2.1.329"
    folder = _npm(f"claude-code-{version}", {PACKAGE: version})
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    executable = folder / "node_modules" / f"{PACKAGE}-linux-{machine}" / "claude"
    if not os.access(executable, os.X_OK):
        raise SetupError(f"{PACKAGE} {version} holds no executable {executable}: is there a build for this machine?")
    return Client(version, (str(executable),))


def javascript() -> Client:
    """2.0.14, JavaScript on Node."""
    version = "2.0.14"
    folder = _npm(f"claude-code-{version}", {PACKAGE: version})
    script = folder / "node_modules" / PACKAGE / "cli.js"
    if not script.is_file():
        raise SetupError(f"{PACKAGE} {version} holds no {script}")
    return Client(version, (tool("node"), str(script)))


def undici() -> Path:
    """The folder of the `undici` package: Node 20's own fetch knows no proxy."""
    return _npm(f"undici-{UNDICI_VERSION}", {"undici": UNDICI_VERSION}) / "node_modules" / "undici"


def sdks() -> Path:
    """The `node_modules` folder with the SDKs for Node."""
    name = hashlib.sha256(repr(sorted(SDKS.items())).encode()).hexdigest()[:12]
    return _npm(f"sdks-{name}", SDKS) / "node_modules"


def browser_tools() -> Path:
    """The `node_modules` folder with what opens a page and looks at it."""
    name = "browser-" + "-".join(BROWSER_TOOLS.values())
    return _npm(name, BROWSER_TOOLS) / "node_modules"


def chromium() -> str:
    """The machine's Chromium; installed by apt-get if there is none and we may."""
    with _locked(cache_folder() / "chromium.lock"):
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if found:
            return found
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise SetupError("there is no Chromium, and only root on Debian can install it: `apt-get install chromium`")
        for arguments in (["update", "--quiet"], ["install", "--yes", "--quiet", "--no-install-recommends", "chromium"]):
            _run(["apt-get", *arguments], "install Chromium")
        return tool("chromium")


def python() -> Path:
    """The interpreter of a virtual environment with `requirements.txt`."""
    requirements = HERE / "requirements.txt"
    seed = requirements.read_bytes() + sys.version.encode()
    name = f"venv-{hashlib.sha256(seed).hexdigest()[:12]}"

    def fill(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)], "make a virtual environment")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-r", str(requirements)], "install tests/e2e/requirements.txt")

    # A virtual environment knows its own path, so it is made in place and marked when complete.
    return _once(name, fill, in_place=True) / "bin" / "python"


def tool(name: str) -> str:
    """The path of a command that must be there."""
    path = shutil.which(name)
    if path is None:
        raise SetupError(f"`{name}` is not on PATH; the end-to-end tests need it")
    return path


def _npm(name: str, packages: dict[str, str]) -> Path:
    def fill(folder: Path) -> None:
        wanted = [f"{package}@{version}" for package, version in packages.items()]
        (folder / "package.json").write_text('{"private":true}\n')
        npm = [tool("npm"), "install", "--no-audit", "--no-fund", "--save-exact", "--prefix", str(folder)]
        _run([*npm, *wanted], f"install {' '.join(wanted)}", cwd=folder)

    return _once(name, fill)


def _once(name: str, fill: Callable[[Path], None], in_place: bool = False) -> Path:
    cache = cache_folder()
    target, mark = cache / name, cache / name / ".complete"
    if mark.exists():
        return target
    with _locked(cache / f"{name}.lock"):
        if mark.exists():
            return target
        shutil.rmtree(target, ignore_errors=True)
        if in_place:
            fill(target)
            mark.touch()
            return target
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=cache) as scratch:
            folder = Path(scratch) / "new"
            folder.mkdir()
            fill(folder)
            (folder / ".complete").touch()
            folder.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], purpose: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"could not {purpose}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise SetupError(f"could not {purpose} (`{' '.join(command[:4])} …` exit {done.returncode}):\n{tail}")


if __name__ == "__main__":
    try:
        print(native(), javascript(), undici(), sdks(), browser_tools(), chromium(), python(), sep="\n")
    except SetupError as problem:
        sys.exit(f"e2e: {problem}")
