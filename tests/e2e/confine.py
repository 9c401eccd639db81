"""`plainsight run --confine`: no way past. Each "nothing got out" first shows that the probe sees what does get out.

Needs a Linux that allows user namespaces and has /dev/net/tun. Where that is missing these tests fail with `not run`:
whoever reads the last line must not believe that confinement was shown.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import answers
import evader as ways
import truth
from checks import Checks, breaches, origin_certificates
from clients import native
from origin import Origin
from product import Store, binary, to_origin
from real_client import AT_THE_END, EXPECTED
from sandbox import Auth, Result, Sandbox, client_command

EVADER = Path(__file__).with_name("evader.py")
PROXY_VARIABLES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "grpc_proxy", "NODE_USE_ENV_PROXY", "NO_PROXY", "no_proxy"]
LARGE_BYTES = 20 * 1024 * 1024
# More than any pool has, and as many as a busy session.
MANY = 200


def can_confine() -> None:
    """Fails with the reason when this machine forbids what is tested."""
    problem = None
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        problem = "/dev/net/tun is not there or not ours"
    elif subprocess.run(["unshare", "-Urnm", "true"], capture_output=True).returncode:
        problem = "user and network namespaces are forbidden"
    if problem:
        raise AssertionError(f"not run: {problem}; confinement was NOT tested on this machine")


def outside_addresses() -> tuple[str, str]:
    """Addresses of this machine that are no loopback, without sending anything: where a probe can listen."""
    found = []
    for family, anybody in ((socket.AF_INET, "192.0.2.255"), (socket.AF_INET6, "2001:db8::ff")):
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            try:
                datagrams.connect((anybody, 9))
            except OSError:
                # Broadcast or no route; any other address will do to learn our own.
                try:
                    datagrams.connect(("198.51.100.1" if family == socket.AF_INET else "fd00::1", 9))
                except OSError as error:
                    raise AssertionError(f"not run: this machine has no address but loopback ({error}), so no probe can stand outside") from error
            found.append(datagrams.getsockname()[0])
    return found[0], found[1]


class Probe:
    """Listens outside, on TCP, UDP and an abstract unix socket, and notes every word; a context manager."""

    def __init__(self, v4: str, v6: str):
        self.heard: list[str] = []
        self._sockets: list[socket.socket] = []
        tcp4 = self._bind(socket.AF_INET, socket.SOCK_STREAM, (v4, 0))
        self.port = tcp4.getsockname()[1]
        tcp6 = self._bind(socket.AF_INET6, socket.SOCK_STREAM, (v6, self.port))
        unix = self._bind(socket.AF_UNIX, socket.SOCK_STREAM, b"\0plainsight-evader-%d" % self.port)
        for listener in (tcp4, tcp6, unix):
            listener.listen(64)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        for datagrams in (self._bind(socket.AF_INET, socket.SOCK_DGRAM, (v4, self.port)), self._bind(socket.AF_INET6, socket.SOCK_DGRAM, (v6, self.port))):
            threading.Thread(target=self._receive, args=(datagrams,), daemon=True).start()

    def _bind(self, family: int, kind: int, address: object) -> socket.socket:
        bound = socket.socket(family, kind)
        self._sockets.append(bound)
        bound.bind(address)
        return bound

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream:
            try:
                if word := stream.recv(4096):
                    self.heard.append(_label(word))
                    stream.sendall(b"heard")
                stream.settimeout(5)
                stream.recv(1)
            except OSError:
                pass

    def _receive(self, datagrams: socket.socket) -> None:
        while True:
            try:
                word, peer = datagrams.recvfrom(2000)
            except OSError:
                return
            self.heard.append(_label(word))
            datagrams.sendto(b"heard", peer)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None:
        for bound in self._sockets:
            bound.close()


def _label(word: bytes) -> str:
    if word.startswith(b"\x16"):
        return "evader tls-named" if ways.NAME.encode() in word else "evader tls-unnamed"
    return "evader http" if word.startswith(b"GET /evader-http") else word.decode(errors="replace").strip()


def _evade(sandbox: Sandbox, probe: Probe, v4: str, v6: str, *flags: str) -> dict:
    # The one name that is spoken leads to the probe, too: it would hear it.
    named = ["--connect-to", f"{ways.NAME}::{v4}:{probe.port}"]
    result = sandbox.run(
        [binary(), "run", "--quiet", *named, *flags, "--", sys.executable, str(EVADER), v4, v6, str(probe.port)],
        PLAINSIGHT_DATA_DIR=sandbox.folder / "data",
    )
    assert result.code == 0, f"the evader did not run: {result}"
    return json.loads(result.stdout)


def evader() -> None:
    """A program written to evade: unconfined the probe hears it and each TCP attempt is a bypass; confined nothing gets out but what names its host, and each attempt is a record."""
    can_confine()
    v4, v6 = outside_addresses()
    with Probe(v4, v6) as probe, Sandbox(Auth.API_KEY) as free, Sandbox(Auth.API_KEY) as held, Checks() as check:
        said = _evade(free, probe, v4, v6)
        expected = {f"evader {way}" for way in ("tcp4", "tcp6", "udp4", "udp6", "bare", "abstract", "tls-named", "tls-unnamed", "http", "proxy")}
        check.equal(set(probe.heard), expected, f"the probe is a probe: it hears all of it without --confine ({said})")
        flows = Store(free).log()
        bypasses = {(flow["method"], flow["authority"]) for flow in flows if flow["outcome"] == "bypassed"}
        here = {f"{v4}:{probe.port}", f"[{v6}]:{probe.port}"}
        check.that({("TCP", address) for address in here} <= bypasses, f"TCP attempts that are no bypass in the log: {bypasses}")
        check.that(any("python" in (flow.get("error") or "") for flow in flows), f"no bypass names its program: {flows}")

        probe.heard.clear()
        said = _evade(held, probe, v4, v6, "--confine")
        flows = Store(held).log()
        kept_in = {(flow["method"], flow["authority"]) for flow in flows if flow["outcome"] == "refused"}
        tunnels = [flow["authority"] for flow in flows if flow["outcome"] == "tunneled"]
        check.equal(probe.heard, ["evader tls-named"], "what got out of the confinement: a tunnel by its name")
        check.equal(tunnels, [f"{ways.NAME}:{probe.port}"], "which is a record")
        for method in ("TCP", "UDP"):
            check.that({(method, address) for address in here} <= kept_in, f"{method} that is no record: {kept_in}")
        check.that(("CONNECT", f"{v4}:{probe.port}") in kept_in, f"the proxy was asked for an address, which is no record: {kept_in}")
        check.that(("DNS", f"{v4}:53") in kept_in, f"a question to another DNS server is no record: {kept_in}")
        tried = [flow for flow in flows if (flow["method"], flow["authority"]) == ("TCP", f"{v4}:{probe.port}")]
        check.that(any("(4 packets" in (flow["error"] or "") for flow in tried), f"not each of four TCP attempts is counted: {tried}")
        for name in ("udp4", "udp6", "abstract"):
            check.that("ConnectionRefusedError" in said[name], f"{name} was not refused at once: {said[name]}")
        for name in ("tcp4", "tcp6", "tls-unnamed", "http"):
            check.that("ConnectionResetError" in said[name], f"{name} was not cut off: {said[name]}")
        check.that(" 403 " in said["proxy"], f"the proxy was asked for an address: {said['proxy']}")
        for name in ("dns", "dns-tcp"):
            check.that(said[name].startswith("198.18."), f"{name} got an address that we did not hand out: {said[name]}")
        check.that("PermissionError" in said["raw"] or ("ICMP", f"{v4}:0") in kept_in, f"a raw packet was neither forbidden nor recorded: {said['raw']}, {kept_in}")


def allowed() -> None:
    """`--confine-allow` opens what it names and no more; a policy that lets nothing unknown through is asked about tunnels, too."""
    can_confine()
    v4, v6 = outside_addresses()
    with Probe(v4, v6) as probe, Sandbox(Auth.API_KEY) as some, Sandbox(Auth.API_KEY) as none, Checks() as check:
        _evade(some, probe, v4, v6, "--confine", "--confine-allow", f"{v4}:{probe.port}")
        heard = {f"evader {way}" for way in ("tcp4", "bare", "tls-named", "tls-unnamed", "http", "proxy")}
        check.equal(set(probe.heard), heard, "what was opened, by TCP")
        probe.heard.clear()
        shown = Store(none).command("policy", "show", "locked").stdout
        strict = none.folder / "strict.toml"
        strict.write_text(re.sub(r'not-intercepted( +)= "allow"', r'not-intercepted\1= "block"', shown))
        check.that(strict.read_text() != shown, "the policy is the shipped one")
        _evade(none, probe, v4, v6, "--confine", "--policy", str(strict))
        check.equal(probe.heard, [], "what a strict policy let out")
        refused = {flow["authority"] for flow in Store(none).log() if flow["outcome"] == "refused"}
        wanted = {f"{v4}:{probe.port}", f"[{v6}]:{probe.port}", f"{ways.NAME}:{probe.port}"}
        check.that(wanted <= refused, f"what it refused and did not record: {wanted - refused}")


HALF_CLOSE = """
import hashlib, resource, socket, sys, time
# Many connections at once, more than plainsight may open: what fails, fails, and all is well afterwards.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
streams, failed = [], 0
for _ in range(int(sys.argv[1])):
    try:
        streams.append(socket.create_connection(("half.example.com", 80), 5))
    except OSError:
        failed += 1
for stream in streams:
    stream.close()
time.sleep(2 if failed else 0)
for target in sys.argv[2:]:
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as stream:
        body = bytes(range(256)) * 8192
        stream.sendall(body)
        stream.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
        print(target, answer.decode() == hashlib.sha256(body).hexdigest())
print("failed" if failed else "all", len(streams) > 0)
"""


def half_close() -> None:
    """A program that has said all and waits for the answer gets it: by name, to an address, to a loopback port; also when plainsight may open few files."""
    can_confine()
    v4, _ = outside_addresses()

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(stream,), daemon=True).start()

    def answer(stream: socket.socket) -> None:
        with stream:
            digest = hashlib.sha256()
            while piece := stream.recv(65536):
                digest.update(piece)
            # Whoever takes the end of a request for the end of everything is gone by now.
            time.sleep(0.3)
            stream.sendall(digest.hexdigest().encode())

    with socket.create_server((v4, 0), backlog=256) as there, socket.create_server(("127.0.0.1", 0)) as here, Checks() as check:
        for listener in (there, here):
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
        (outside, port), loopback = there.getsockname(), here.getsockname()[1]
        for files, connections, wanted in ((None, 20, "all True"), (100, 80, "failed True")):
            with Sandbox(Auth.API_KEY) as sandbox:
                targets = ["half.example.com:80", f"{outside}:{port}", f"127.0.0.1:{loopback}"]
                command = [
                    binary(), "run", "--quiet", "--connect-to", f"half.example.com:80:{outside}:{port}", "--confine", "--confine-allow", f"{outside}:{port}",
                    "--confine-loopback", str(loopback), "--", sys.executable, "-c", HALF_CLOSE, str(connections), *targets,
                ]
                limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command] if files else command
                result = sandbox.run(limited, 120, PLAINSIGHT_DATA_DIR=sandbox.folder / "data")
                lines = [f"{target} True" for target in targets] + [wanted]
                check.equal(result.stdout.splitlines(), lines, f"with {files or 'many'} files: {result}")


def _without_variables(*command: str) -> list[str]:
    return ["env", *(word for name in PROXY_VARIABLES for word in ("-u", name)), *command]


def client(auth: Auth) -> None:
    """The real client with every proxy variable removed inside: all that the origin got is in the log, telemetry decoded."""
    can_confine()
    program = native()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(auth) as sandbox, Checks() as check:
        store = Store(sandbox)
        command = [binary(), "run", "--quiet", *to_origin(origin), "--confine", "--", *_without_variables(*client_command(program))]
        result = sandbox.run(command, PLAINSIGHT_DATA_DIR=store.folder)
        check.equal((result.code, result.stdout, result.stderr), (0, f"{answers.FINAL_TEXT}\n", ""), "exit code, stdout and stderr")
        check.equal(breaches(origin), [], "breaches of HTTP")
        sent = {truth.destination(request) for request in origin.requests()} & set(truth.TELEMETRY)
        # The client may end before its last batch is out, or its answer is read: that request is a record all the same.
        flows = store.log()
        at_origin = Counter((request.method, request.host) for request in origin.requests())
        in_log = Counter((flow["method"], flow["authority"].removesuffix(":443")) for flow in flows)
        answered = Counter((flow["method"], flow["authority"].removesuffix(":443")) for flow in flows if flow["outcome"] == "forwarded")
        check.equal(EXPECTED[program.version, auth] - sent - AT_THE_END, set(), f"telemetry that the origin did not see, of {sent}")
        check.equal(at_origin - in_log, Counter(), f"requests at the origin that are no record, of {flows}")
        check.equal(answered - at_origin, Counter(), f"requests that are said to be answered, and that the origin did not see, of {flows}")
        for flow in flows:
            if flow["destination"] in EXPECTED[program.version, auth]:
                check.that(flow["not_inspected"] is None and flow["findings"], f"telemetry that was not read: {flow['id']} {flow['destination']}")


def transfer() -> None:
    """20 MiB each way through a tunnel and through interception, two hundred connections at once, half-close; variables removed."""
    can_confine()
    large = os.urandom(LARGE_BYTES)
    wanted = hashlib.sha256(large).hexdigest()
    script = f"""
import concurrent.futures, hashlib, os, socket, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
def get(host, data=None):
    request = urllib.request.Request(f"https://{{host}}/large", data=data)
    return urllib.request.urlopen(request, context=context, timeout=60).read()
body = open(sys.argv[1], "rb").read()
for host in ("unknown.example.com", "api.anthropic.com"):
    assert hashlib.sha256(get(host)).hexdigest() == {wanted!r}, host
    assert len(get(host, body)) == len(body), host
with concurrent.futures.ThreadPoolExecutor({MANY}) as pool:
    streams = list(pool.map(lambda number: socket.create_connection(("many.example.com", 443), 30), range({MANY})))
    assert len(streams) == {MANY}
    [stream.close() for stream in streams]
try:
    socket.create_connection(("198.18.200.200", 80), 5)
    raise SystemExit("an address that nobody was given answers")
except ConnectionRefusedError:
    pass
print("fine")
"""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        origin.on("GET", path="/large", status=200, body=large)
        origin.on("POST", path="/large", status=200, body=large)
        file = sandbox.folder / "large"
        file.write_bytes(large)
        command = [binary(), "run", "--quiet", *to_origin(origin), "--confine", "--", *_without_variables(sys.executable, "-c", script, str(file))]
        result = sandbox.run(command, 180, PLAINSIGHT_DATA_DIR=sandbox.folder / "data", SSL_CERT_FILE=origin.root)
        check.equal((result.code, result.stdout), (0, "fine\n"), f"{result}")
        flows = Store(sandbox).log()
        many = [flow for flow in flows if flow["authority"] == "many.example.com:443"]
        check.equal(len(many), MANY, "records of many connections")
        check.that(any(flow["authority"] == "198.18.200.200:80" and flow["outcome"] == "refused" for flow in flows), "the address that nobody was given is no record")


def child() -> None:
    """The child's exit code, signals, output, files and standard input are its own; a program that is not there is one line."""
    can_confine()
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        data = sandbox.folder / "data"
        for script, code in {"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143}.items():
            result = sandbox.run([binary(), "run", "--quiet", "--confine", "--", "sh", "-c", f"echo out; echo err >&2; {script}"], PLAINSIGHT_DATA_DIR=data)
            check.equal((result.code, result.stdout, result.stderr), (code, "out\n", "err\n"), f"code, stdout and stderr of `{script}`")
        result = sandbox.run([binary(), "run", "--quiet", "--confine", "--", "sh", "-c", "id -u; pwd; echo text > made; ls -n made"], PLAINSIGHT_DATA_DIR=data)
        user = str(os.getuid())
        lines = result.stdout.splitlines()
        check.equal(lines[:2], [user, str(sandbox.work)], "user and folder")
        check.that(lines[2:] and lines[2].split()[2] == user, f"owner of a new file: {lines}")
        result = sandbox.run([binary(), "run", "--quiet", "--confine", "--", "no-such-program-anywhere"], PLAINSIGHT_DATA_DIR=data)
        check.that(result.code != 0 and "no-such-program-anywhere" in result.stderr, f"a program that is not there: {result}")
        check.equal(len(result.stderr.strip().splitlines()), 1, f"lines on stderr: {result.stderr!r}")
        started = time.monotonic()
        process = subprocess.Popen(
            [binary(), "run", "--quiet", "--confine", "--", "sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"],
            cwd=sandbox.work, env=sandbox.environment(PLAINSIGHT_DATA_DIR=data), stdout=subprocess.PIPE, text=True,
        )
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        check.equal((process.communicate(timeout=20)[0], process.returncode), ("caught\n", 5), f"a signal after {time.monotonic() - started:.1f} s")


def loopback() -> None:
    """Loopback inside is the namespace's own, but for the ports that were named; the proxy's URL works inside."""
    can_confine()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        with socket.create_server(("127.0.0.1", 0)) as open_port, socket.create_server(("127.0.0.1", 0)) as closed_port:
            def serve() -> None:
                stream, _ = open_port.accept()
                with stream:
                    stream.sendall(b"hello from outside\n")
            threading.Thread(target=serve, daemon=True).start()
            names = [listener.getsockname()[1] for listener in (open_port, closed_port)]
            script = f"""
import socket
print(socket.create_connection(("127.0.0.1", {names[0]}), 5).makefile().readline().strip())
try:
    socket.create_connection(("127.0.0.1", {names[1]}), 5)
except ConnectionRefusedError:
    print("refused")
"""
            curl = "curl -sS -o /dev/null -w '%{http_code}\\n' https://unknown.example.com/echo"
            command = [binary(), "run", "--quiet", *to_origin(origin), "--confine", "--confine-loopback", str(names[0]), "--"]
            both = f"{sys.executable} - <<'E'\n{script}\nE\n{curl}"
            result = sandbox.run([*command, "sh", "-c", both], PLAINSIGHT_DATA_DIR=sandbox.folder / "data", CURL_CA_BUNDLE=origin.root)
            check.equal(result.stdout, "hello from outside\nrefused\n200\n", f"{result}")
            authorities = [flow["authority"] for flow in Store(sandbox).log()]
            check.that(f"127.0.0.1:{names[0]}" in authorities, f"the opened port is no record: {authorities}")


def forbidden() -> None:
    """Where the kernel forbids it: one line that says what to do, exit code 2, and the program is not run."""
    can_confine()
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        mark = sandbox.folder / "ran"
        command = f"{binary()} run --quiet --confine -- touch {mark}"
        for what, preparation, wanted in (
            ("namespaces", "echo 0 > /proc/sys/user/max_user_namespaces", "sysctl user.max_user_namespaces"),
            ("the device", "mount -t tmpfs none /dev/net", "modprobe tun"),
        ):
            result: Result = sandbox.run(["unshare", "-Urm", "sh", "-c", f"{preparation} && {command}"], PLAINSIGHT_DATA_DIR=sandbox.folder / "data")
            check.equal((result.code, result.stdout, mark.exists()), (2, "", False), f"without {what}: {result}")
            check.equal(len(result.stderr.strip().splitlines()), 1, f"lines on stderr without {what}: {result.stderr!r}")
            check.that(wanted in result.stderr and re.match(r"plainsight: --confine: ", result.stderr), f"what to do without {what}: {result.stderr!r}")


def streaming() -> None:
    """Events arrive one by one as they are sent, through interception and confined."""
    can_confine()
    events = 6
    gap_secs = 0.2

    chunks = [(gap_secs, f"data: {number}\n\n".encode()) for number in range(events)]
    script = """
import os, ssl, time, urllib.request
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
response = urllib.request.urlopen("https://api.anthropic.com/slow-events", context=context, timeout=30)
for line in response:
    if line.strip():
        print(time.time(), flush=True)
"""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        origin.on("GET", path="/slow-events", headers=[("content-type", "text/event-stream")], chunks=chunks)
        result = sandbox.run([binary(), "run", "--quiet", *to_origin(origin), "--confine", "--", *_without_variables(sys.executable, "-c", script)], PLAINSIGHT_DATA_DIR=sandbox.folder / "data")
        times = [float(line) for line in result.stdout.split()]
        check.equal(len(times), events, f"events: {result}")
        gaps = [later - earlier for earlier, later in zip(times, times[1:])]
        check.that(all(gap > gap_secs / 2 for gap in gaps), f"events came together: {gaps}")


def tests() -> list[tuple[str, object]]:
    """Names and functions."""
    clients_ = [(f"confine.client.{auth.value}", lambda auth=auth: client(auth)) for auth in Auth]
    return [
        *clients_,
        ("confine.evader", evader),
        ("confine.allowed", allowed),
        ("confine.half-close", half_close),
        ("confine.transfer", transfer),
        ("confine.streaming", streaming),
        ("confine.child", child),
        ("confine.loopback", loopback),
        ("confine.forbidden", forbidden),
    ]
