"""Collects everything that is wrong in one test, so that a run tells the whole story and not its first line."""

import json
import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import certificates
from certificates import Certificates
from origin import Origin


class Checks:
    """Expectations of one test; a context manager that raises at its end if any did not hold."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __enter__(self) -> "Checks":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._problems and kind is None:
            raise AssertionError("\n".join(self._problems))
        if self._problems:
            print("\n".join(f"  before that: {problem}" for problem in self._problems), flush=True)

    def that(self, holds: object, problem: str) -> bool:
        """Notes `problem` unless `holds`."""
        if not holds:
            self._problems.append(f"- {problem}")
        return bool(holds)

    def failed(self) -> bool:
        """Whether anything did not hold so far."""
        return bool(self._problems)

    def equal(self, got: object, wanted: object, what: str) -> bool:
        """Notes a difference."""
        return self.that(got == wanted, f"{what}: got {_short(got)}, wanted {_short(wanted)}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 1200 else f"{text[:800]} … {text[-300:]} ({len(text)} characters)"


_minted: Certificates | None = None
_mint_lock = threading.Lock()


def origin_certificates() -> Certificates:
    """The origin's certificates: one set for each run of the tests."""
    global _minted
    with _mint_lock:
        if _minted is None:
            folder = Path(os.environ["PLAINSIGHT_E2E_SCRATCH"]) / "certificates"
            _minted = certificates.mint(folder)
        return _minted


def breaches(origin: Origin) -> list[str]:
    """Breaches of HTTP at an origin. That a client ended while its connection was being secured is none."""
    return [fault for fault in origin.faults() if "TLS handshake" not in fault or "UNEXPECTED_EOF" not in fault]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away."""
    with tempfile.TemporaryDirectory(dir=os.environ["PLAINSIGHT_E2E_SCRATCH"]) as folder:
        yield Path(folder)


def all_strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from all_strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from all_strings(inner)


def json_lines(text: str) -> list[dict]:
    """One object a line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
