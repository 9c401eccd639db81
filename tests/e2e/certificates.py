"""Certificates for the origin, minted at run time by the `openssl` command: a test root and one leaf for all names.

Nothing here is ever committed; every run of the tests has its own root.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

# Every destination of the catalogue, and names that belong to nobody (example.com and friends, RFC 2606).
NAMES = [
    "api.anthropic.com",
    "*.anthropic.com",
    "claude.ai",
    "*.claude.ai",
    "*.claude.com",
    "claude.com",
    "statsigapi.net",
    "*.statsigapi.net",
    "featuregates.org",
    "*.featuregates.org",
    "sentry.io",
    "*.sentry.io",
    "*.ingest.sentry.io",
    "*.ingest.us.sentry.io",
    "*.ingest.de.sentry.io",
    "*.logs.datadoghq.com",
    "*.logs.datadoghq.eu",
    "*.logs.us3.datadoghq.com",
    "*.logs.us5.datadoghq.com",
    "browser-intake-datadoghq.com",
    "browser-intake-us5-datadoghq.com",
    "api.segment.io",
    "storage.googleapis.com",
    "raw.githubusercontent.com",
    "example.com",
    "*.example.com",
    "example.net",
    "*.example.net",
    "example.org",
    "*.example.org",
    "localhost",
]
ADDRESSES = ["127.0.0.1", "::1"]


@dataclass(frozen=True)
class Certificates:
    """Where the files are."""

    root: Path
    leaf: Path
    key: Path


def mint(folder: Path) -> Certificates:
    """Mints a root and a leaf into `folder`; valid for two days, strict in every extension."""
    folder.mkdir(parents=True, exist_ok=True)
    root, root_key = folder / "origin-root.pem", folder / "origin-root.key"
    leaf, key, request = folder / "origin-leaf.pem", folder / "origin-leaf.key", folder / "origin-leaf.csr"
    _openssl(
        *["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
        *["-subj", "/CN=plainsight e2e origin root", "-keyout", root_key, "-out", root],
        *["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    )
    _openssl(
        *["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
        *["-subj", "/CN=plainsight e2e origin", "-keyout", key, "-out", request],
    )
    names = [f"DNS:{name}" for name in NAMES] + [f"IP:{address}" for address in ADDRESSES]
    extensions = folder / "leaf.ext"
    extensions.write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        f"subjectAltName={','.join(names)}\n"
    )
    _openssl(
        *["x509", "-req", "-in", request, "-CA", root, "-CAkey", root_key, "-days", "2"],
        *["-extfile", extensions, "-out", leaf],
    )
    return Certificates(root=root, leaf=leaf, key=key)


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command[:3])} …` failed: {done.stderr.strip()}")
