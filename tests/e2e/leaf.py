"""Leaf acceptance: what strict verifiers say to the certificates of a running `plainsight proxy`."""

import re
import ssl
import stat
import subprocess
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterator

import answers
import senders
from checks import Checks, origin_certificates, scratch
from clients import tool
from origin import Origin
from product import Proxy, Store
from sandbox import Auth, Sandbox
from senders import Case, Way

# Decrypted by default: the catalogue's telemetry hosts. A wildcard of the catalogue is among them.
HOSTS = ["api.anthropic.com", "statsig.anthropic.com", "http-intake.logs.us5.datadoghq.com", "o1.ingest.us.sentry.io"]
# PITFALLS 9.
LEAF_VALIDITY_LIMIT = timedelta(days=8)
CA_VALIDITY_LIMIT = timedelta(days=825)


@contextmanager
def running(*arguments: str) -> Iterator[tuple[Proxy, Way, Path]]:
    """A proxy with the policy it has by default, and a folder to work in."""
    with (
        scratch() as folder,
        Origin(origin_certificates(), answers.answer) as origin,
        Sandbox(Auth.API_KEY) as sandbox,
        Proxy(sandbox, origin, *arguments) as proxy,
    ):
        yield proxy, Way("plainsight", proxy.url, proxy.store.ca()), folder


def curl() -> None:
    """curl, which checks by OpenSSL."""
    with running() as (_, way, folder), Checks() as check:
        for host in HOSTS:
            for version in ("--http1.1", "--http2"):
                outcome = senders.curl(way, Case("leaf", f"https://{host}/echo"), folder, version)
                check.equal((outcome.error, outcome.status), (None, 200), f"curl {version} to {host}")


def python_strict() -> None:
    """Python's ssl with VERIFY_X509_STRICT, as Python 3.13 has it by default."""
    with running() as (_, way, _), Checks() as check:
        for host in HOSTS:
            try:
                with senders.secured(way, host, 443, ["http/1.1"], strict=True) as stream:
                    issuer = dict(pair for part in stream.getpeercert()["issuer"] for pair in part)
                check.that("origin" not in issuer.get("commonName", ""), f"{host} was not decrypted: its issuer is {issuer}")
            except (OSError, ssl.SSLError) as error:
                check.that(False, f"{host}: {error}")


def node() -> None:
    """Node's tls."""
    with running() as (_, way, folder), Checks() as check:
        for outcome in senders.node(way, [Case(host, f"https://{host}/") for host in HOSTS], folder, "tls"):
            check.equal(outcome.get("error"), None, f"error of {outcome['name']}")
            check.that(outcome.get("authorized"), f"{outcome['name']} is not authorized: {outcome}")
            check.that("origin" not in (outcome.get("issuer") or ""), f"{outcome['name']} was not decrypted: {outcome}")


def openssl_verify() -> None:
    """`openssl verify -x509_strict`, and the profile of PITFALLS 7 to 12."""
    with running() as (proxy, way, folder), Checks() as check:
        ca_text, serials, keys = _text(way.ca), set(), set()
        _check_ca(check, way.ca, ca_text)
        for host in HOSTS:
            leaf = _leaf_of(proxy, host, folder)
            done = _verify(way.ca, leaf, "-verify_hostname", host)
            check.equal(done.returncode, 0, f"openssl verify of {host}: {done.stdout}{done.stderr}")
            done = _verify(way.ca, leaf, "-verify_hostname", "other.example.com")
            check.that(done.returncode != 0, f"openssl accepts the leaf of {host} for another name")
            text = _text(leaf)
            _check_leaf(check, host, leaf, text, ca_text)
            serials.add(_field(text, r"Serial Number:\s*([0-9a-f:() x]+?)\s*\n"))
            keys.add(_public_key(leaf))
        check.equal(len(serials), len(HOSTS), "different serial numbers (PITFALLS 11)")
        check.equal(len(keys | {_public_key(way.ca)}), len(HOSTS) + 1, "different keys (PITFALLS 7)")


def constraints_bind() -> None:
    """Even with our CA's key in hand, a leaf for another name or an address is refused by OpenSSL (PITFALLS 12)."""
    with running() as (proxy, way, folder), Checks() as check:
        key = _private_key_of(proxy.store.folder, way.ca)
        if not check.that(key, f"no private key of {way.ca} under the data folder, so nothing could be signed"):
            return
        # PITFALLS 33: what we sign is good in every other respect.
        for name, permitted in {
            "DNS:api.anthropic.com": True,
            "DNS:statsig.anthropic.com": True,
            "DNS:evil.example.net": False,
            "DNS:anthropic.com.evil.example.net": False,
            "DNS:notanthropic.com": False,
            "IP:127.0.0.1": False,
            "IP:192.0.2.7": False,
            "IP:2001:db8::7": False,
            "email:bob@example.com": False,
            "URI:https://evil.example.net/": False,
        }.items():
            done = _verify(way.ca, _sign(folder, way.ca, key, name))
            said = done.stdout + done.stderr
            if permitted:
                check.equal(done.returncode, 0, f"a leaf for {name} signed by hand: {said}")
            else:
                check.that(done.returncode != 0 and "subtree violation" in said, f"a leaf for {name} is not refused by name constraints: {said}")


def key_is_private() -> None:
    """The stored key: 0600 in a 0700 folder (PITFALLS 31), and the CA survives a restart."""
    with scratch(), Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        with Proxy(sandbox, origin) as proxy:
            before = proxy.store.ca().read_bytes()
            key = _private_key_of(proxy.store.folder, proxy.store.ca())
            if check.that(key, "the private key was not found under the data folder"):
                check.equal(oct(stat.S_IMODE(key.stat().st_mode)), "0o600", f"mode of {key.name}")
                check.equal(oct(stat.S_IMODE(key.parent.stat().st_mode)), "0o700", f"mode of the folder of {key.name}")
        with Proxy(sandbox, origin) as proxy:
            check.that(proxy.store.ca().read_bytes() == before, "a restart made another CA")


def no_ca_yet() -> None:
    """`ca path` says exit 1 while there is none."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        result = Store(sandbox).command("ca", "path")
        check.equal(result.code, 1, f"exit code of {result}")
        check.equal(result.stdout, "", "stdout")


def _leaf_of(proxy: Proxy, host: str, folder: Path) -> Path:
    address = ":".join(map(str, proxy.address))
    command = [tool("openssl"), "s_client", "-proxy", address, "-connect", f"{host}:443", "-servername", host, "-showcerts"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", done.stdout, re.DOTALL)
    assert found, f"openssl s_client got no certificate from {host}: {done.stdout[-500:]}{done.stderr[-500:]}"
    file = folder / f"{host}.pem"
    file.write_text(found[0])
    return file


def _check_ca(check: Checks, file: Path, text: str) -> None:
    for what, pattern in {
        "basic constraints are not critical, CA, path length 0": r"Basic Constraints: critical\s+CA:TRUE, pathlen:0",
        "name constraints are not critical": r"Name Constraints: critical",
        "IPv4 is not excluded": r"IP:0\.0\.0\.0/0\.0\.0\.0",
        "IPv6 is not excluded": r"IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0",
        "key usage lacks certificate signing": r"Key Usage: critical\s+[^\n]*Certificate Sign",
    }.items():
        check.that(re.search(pattern, text), f"the CA's {what}")
    start, end = _validity(text)
    check.that(end - start < CA_VALIDITY_LIMIT, f"the CA is valid from {start} to {end}")
    done = subprocess.run([tool("openssl"), "verify", "-x509_strict", "-CAfile", str(file), str(file)], capture_output=True, text=True)
    check.equal(done.returncode, 0, f"openssl verify of the CA: {done.stdout}{done.stderr}")


def _check_leaf(check: Checks, host: str, file: Path, text: str, ca_text: str) -> None:
    start, end = _validity(text)
    now = datetime.now(timezone.utc)
    check.that(end - start <= LEAF_VALIDITY_LIMIT and start < now < end, f"{host}: valid from {start} to {end} (PITFALLS 9)")
    authority_key = _field(text, r"Authority Key Identifier:[^\n]*\n\s+(?:keyid:)?([0-9A-F:]+)")
    own_key = _field(text, r"Subject Key Identifier:[^\n]*\n\s+([0-9A-F:]+)")
    ca_key = _field(ca_text, r"Subject Key Identifier:[^\n]*\n\s+([0-9A-F:]+)")
    check.that(authority_key and authority_key == ca_key, f"{host}: authority key id {authority_key}, the CA's {ca_key} (PITFALLS 8)")
    check.that(own_key != ca_key, f"{host}: the leaf has the CA's key id (PITFALLS 8)")
    check.that("TLS Web Server Authentication" in text, f"{host}: no server authentication")
    check.that(not re.search(r"CA:TRUE", text), f"{host}: the leaf is a CA")
    check.that(f"DNS:{host}" in text, f"{host}: the name is missing")
    check.that("prime256v1" in text, f"{host}: the key is not P-256 (PITFALLS 7)")
    serial = int(subprocess.run([tool("openssl"), "x509", "-noout", "-serial", "-in", str(file)], capture_output=True, text=True).stdout.split("=")[1], 16)
    check.that(0 < serial and serial.bit_length() > 96, f"{host}: serial number of {serial.bit_length()} bits (PITFALLS 11)")


def _verify(ca: Path, leaf: Path, *more: str) -> subprocess.CompletedProcess:
    command = [tool("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(ca), *more, str(leaf)]
    return subprocess.run(command, capture_output=True, text=True)


def _sign(folder: Path, ca: Path, ca_key: Path, name: str) -> Path:
    key, request, leaf, extensions = (folder / f"by-hand.{kind}" for kind in ("key", "csr", "pem", "ext"))
    extensions.write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        f"subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName={name}\n"
    )
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (
        ["req", "-new", *curve, "-subj", "/CN=by hand", "-keyout", str(key), "-out", str(request)],
        ["x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key), "-days", "1", "-set_serial", "0x1234567890abcdef", "-extfile", str(extensions), "-out", str(leaf)],
    ):
        done = subprocess.run([tool("openssl"), *command], capture_output=True, text=True)
        assert done.returncode == 0, f"openssl {command[0]}: {done.stderr}"
    return leaf


def _private_key_of(folder: Path, certificate: Path) -> Path | None:
    wanted = _public_key(certificate)
    for file in sorted(folder.rglob("*")):
        if file.is_file() and b"PRIVATE KEY-----" in file.read_bytes()[:65536]:
            done = subprocess.run([tool("openssl"), "pkey", "-in", str(file), "-pubout"], capture_output=True, text=True)
            if done.stdout == wanted:
                return file
    return None


def _public_key(certificate: Path) -> str:
    return subprocess.run([tool("openssl"), "x509", "-noout", "-pubkey", "-in", str(certificate)], capture_output=True, text=True, check=True).stdout


def _text(certificate: Path) -> str:
    return subprocess.run([tool("openssl"), "x509", "-noout", "-text", "-in", str(certificate)], capture_output=True, text=True, check=True).stdout


def _field(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found[1].strip() if found else None


def _validity(text: str) -> tuple[datetime, datetime]:
    dates = [_field(text, rf"Not {side}\s*: ([^\n]+)") for side in ("Before", "After")]
    return tuple(datetime.strptime(date, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc) for date in dates)


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    named = [curl, python_strict, node, openssl_verify, constraints_bind, key_is_private, no_ca_yet]
    return [(f"leaf.{test.__name__.replace('_', '-')}", test) for test in named]
