"""What goes wrong around plainsight while it redacts: it is killed at any moment, its store cannot be written to, a peer goes
away in the middle, the clock jumps. Each time nothing of telemetry is at the origin without its record, nothing that was
planted is there, the store opens, and its chain holds.

The probe is first shown to see every planted value where nothing is redacted (PITFALLS 33).
"""

import base64
import gzip
import json
import os
import random
import re
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import answers
import canary
import probe
from checks import Checks, origin_certificates, scratch
from durability import _verified
from origin import Answer, Origin, Request
from product import Proxy, Store, binary, to_origin
from sandbox import Auth, Sandbox
from senders import Way, secured

HOST = "api.anthropic.com"
BATCH = "/api/event_logging/v2/batch"
METRICS = "/api/claude_code/metrics"
CONVERSATION = "/v1/messages/count_tokens"
TELEMETRY = (BATCH, METRICS)
# How often the proxy is killed; hundreds take minutes with a debug build.
KILLS = int(os.environ.get("PLAINSIGHT_E2E_KILLS", "60"))
# When, after the load began.
KILL_DELAY_SECS = 0.08
# Of so many turns one is killed while it starts.
STARTING_EVERY = 10
CLIENTS = 4
# Most of a request that cannot be written in one go.
LARGE_BYTES = 4 * 1024 * 1024
SEEN_TIMEOUT_SECS = 10


class Traffic:
    """Requests with planted values, each known by a number of its own in its query."""

    def __init__(self) -> None:
        self.values = {
            "e-mail": f"canary.{secrets.token_hex(6)}@example.com",
            "token": canary._token(),
            "nested e-mail": f"nested.{secrets.token_hex(6)}@example.com",
            "e-mail in a query": f"query.{secrets.token_hex(6)}@example.com",
        }
        # The conversation goes through untouched, with whatever is in it.
        self.conversation = json.dumps({"messages": [{"role": "user", "content": f"I am said.{secrets.token_hex(6)}@example.com"}]}).encode()
        inner = json.dumps({"deep": json.dumps({"who": self.values["nested e-mail"]})}).encode()
        event = {
            "event_type": "ClaudeCodeInternalEvent",
            "event_data": {
                "event_name": "tengu_init",
                "email": self.values["e-mail"],
                "message": f"failed with {self.values['token']} at",
                "additional_metadata": base64.b64encode(inner).decode(),
            },
        }
        self.events = json.dumps({"events": [event] * 5}).encode()
        self.large = json.dumps({"events": [event | {"padding": "x " * (LARGE_BYTES // 2)}]}).encode()

    def request(self, name: str, kind: int) -> bytes:
        """One request of the mix."""
        packed = gzip.compress(self.events) if kind == 1 else self.events
        target, coding, body = {
            0: (BATCH, "", self.events),
            1: (BATCH, "Content-Encoding: gzip\r\n", packed),
            2: (METRICS, "", self.events),
            3: (CONVERSATION, "", self.conversation),
        }[kind]
        who = "" if kind == 3 else f"&who={self.values['e-mail in a query'].replace('@', '%40')}"
        return _head(f"{target}?n={name}{who}", len(body), coding) + body


def _head(target: str, length: int, more: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n"
    return head.encode()


def _ask(stream: socket.socket, request: bytes) -> int:
    """Sends one request on a connection that is kept, and returns the status."""
    stream.sendall(request)
    return _answer(stream)[0]


def _answer(stream: socket.socket) -> tuple[int, bytes]:
    """The answer's status and its body, which has a length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = stream.recv(4096)
        if not chunk:
            raise ConnectionError(f"the proxy closed after {answer!r}")
        answer += chunk
    head, body = answer.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        chunk = stream.recv(4096)
        if not chunk:
            raise ConnectionError("the proxy closed within an answer")
        body += chunk
    return int(head.split()[1]), body


def _number(target: str) -> str:
    """Which request this is."""
    return re.search(r"[?&]n=([a-z0-9]+)", target)[1]


def _is_telemetry(target: str) -> bool:
    return target.startswith(TELEMETRY)


def _leaks(check: Checks, traffic: Traffic, requests: list[Request], about: str) -> set[str]:
    """Which planted values are at the origin, in whatever form, be it in a part of a body."""
    # Redacted, the same few bodies come again and again.
    different = {(re.sub(r"n=[a-z0-9]+", "", r.target), r.body, r.header("content-encoding")): r for r in requests if _is_telemetry(r.target)}
    leaked = set()
    for request in different.values():
        arrived = probe.arrived(request)
        for place, value in traffic.values.items():
            if form := probe.seen(value, arrived):
                leaked.add(place)
                if about:
                    check.that(False, f"{about}: {request.method} {request.path} at the origin holds the {place} ({form})")
    return leaked


def _check_probe(check: Checks, traffic: Traffic) -> None:
    """Where nothing is redacted, the probe sees everything."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox:
        with Proxy(sandbox, origin, "--policy", "observe") as proxy:
            way = Way("plainsight", proxy.url, proxy.store.ca())
            for kind in range(3):
                with secured(way, HOST, 443, ["http/1.1"]) as stream:
                    _ask(stream, traffic.request(f"probe{kind}", kind))
                origin_requests = origin.requests()
                seen = _leaks(check, traffic, [origin_requests[-1]], "")
                check.equal(seen, set(traffic.values), f"values that the probe sees in request {kind} of a run that changes nothing")


class _Client(threading.Thread):
    """Sends the mix until the proxy is gone."""

    def __init__(self, way: Way, traffic: Traffic, turn: int, client: int):
        super().__init__(daemon=True)
        self._way, self._traffic, self._prefix, self._first = way, traffic, f"t{turn}c{client}r", client
        self.waits = False
        self.answered: list[str] = []

    def run(self) -> None:
        number = 0
        try:
            with secured(self._way, HOST, 443, ["http/1.1"]) as stream:
                while True:
                    name = f"{self._prefix}{number}"
                    request = self._traffic.request(name, (self._first + number) % 4)
                    self.waits = True
                    _ask(stream, request)
                    self.waits = False
                    self.answered.append(name)
                    number += 1
        except OSError:
            pass  # Killed, as it should be.


def kill_9() -> None:
    """Killed at random moments under load, `private` in force: what arrived is redacted and recorded, the chain holds."""
    traffic = Traffic()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        _check_probe(check, traffic)
        store = Store(sandbox)
        in_flight, starting, answered, ca = 0, 0, 0, None
        for turn in range(KILLS):
            proxy = Proxy(sandbox, origin, "--policy", "private")
            if turn % STARTING_EVERY == STARTING_EVERY - 1:
                starting += 1
                _kill_while_it_starts(proxy)
            else:
                proxy.__enter__()
                ca = ca or store.ca()
                way = Way("plainsight", proxy.url, ca)
                clients = [_Client(way, traffic, turn, client) for client in range(CLIENTS)]
                for client in clients:
                    client.start()
                _wait_for_load(origin, clients)
                time.sleep(random.uniform(0, KILL_DELAY_SECS))
                in_flight += any(client.waits for client in clients)
                proxy._process.kill()
                proxy._process.wait()
                for client in clients:
                    client.join(20)
                    check.that(not client.is_alive(), f"turn {turn}: a client hangs")
                answered += sum(len(client.answered) for client in clients)
            _verified(check, store)
            if check.failed():
                break
        requests = origin.requests()
        arrived = {_number(request.target): request for request in requests if _is_telemetry(request.target)}
        flows = store.log()
        recorded = {_number(flow["path"]): flow for flow in flows if _is_telemetry(flow["path"])}
        lacking = sorted(arrived.keys() - recorded.keys())
        check.equal(lacking[:5], [], f"of {len(arrived)} that arrived, without a record")
        check.equal({recorded[name]["action"] for name in arrived.keys() & recorded.keys()}, {"redact"}, "what the records of those that arrived say")
        _leaks(check, traffic, requests, "killed")
        said = [request for request in requests if request.target.startswith(CONVERSATION) and request.complete]
        check.that(said and all(request.body == traffic.conversation for request in said), f"the conversation ({len(said)} requests) is not what was sent")
        # Or the test shows nothing.
        turns = KILLS - starting
        check.that(in_flight > turns * 0.7, f"a request was under way at {in_flight} of {turns} kills only")
        check.that(len(arrived) > turns and len(said) > turns / 4, f"{len(arrived)} of telemetry and {len(said)} of the conversation arrived only")
        found = _verified(check, store)
        check.equal(found["flows"], len(flows), "flows in the chain")
        kept = canary.everything(store)
        for place, value in traffic.values.items():
            check.that(probe.seen(value, kept) is None, f"the store holds the {place}")
        print(
            f"     {KILLS} kills, {starting} of them during start, {in_flight} with a request under way; {len(arrived)} requests of telemetry and "
            f"{len(said)} of the conversation arrived, {answered} were answered, {len(recorded.keys() - arrived.keys())} were recorded and never left",
            flush=True,
        )


def _wait_for_load(origin: Origin, clients: list[_Client]) -> None:
    """Until somebody was answered: before that no request was under way."""
    deadline = time.monotonic() + SEEN_TIMEOUT_SECS
    while not any(client.answered for client in clients) and time.monotonic() < deadline:
        time.sleep(0.001)


def _kill_while_it_starts(proxy: Proxy) -> None:
    process = subprocess.Popen(
        proxy._command, cwd=proxy._work, env=proxy._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    time.sleep(random.uniform(0, KILL_DELAY_SECS))
    process.kill()
    process.wait()


@contextmanager
def _faulty(proxy: Proxy) -> Iterator[Path]:
    """Has faults preloaded into a proxy that is not started yet; the folder says which are there."""
    with scratch() as folder:
        library = folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        proxy._environment |= {"LD_PRELOAD": str(library), "E2E_FAULTS": str(folder)}
        yield folder


def read_only_while_it_runs() -> None:
    """A store that becomes read-only: telemetry stays here, the conversation passes, and it heals."""
    traffic = Traffic()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        proxy = Proxy(sandbox, origin, "--policy", "private")
        store = proxy.store
        with _faulty(proxy) as faults, proxy:
            way = Way("plainsight", proxy.url, store.ca())
            with secured(way, HOST, 443, ["http/1.1"]) as stream:
                before = _ask(stream, traffic.request("before", 0))
                (faults / "read-only").touch()
                statuses = {_ask(stream, traffic.request(f"during{number}", 0)) for number in range(20)}
                conversation = _ask(stream, traffic.request("said", 3))
                during = [request.target for request in origin.requests() if "during" in request.target]
                (faults / "read-only").unlink()
                time.sleep(0.7)
                after = _ask(stream, traffic.request("after", 0))
        # `private` answers what it cannot record as the service would, so that it is not sent later (PITFALLS 1).
        check.equal((before, statuses, conversation, after), (200, {200}, 200, 200), "before, during, conversation, after")
        check.equal(during, [], "telemetry that left while nothing could be recorded")
        _check_store(check, store, origin, traffic, {"before", "after"})
        flows = {_number(flow["path"]): flow for flow in store.log() if "n=" in flow["path"]}
        check.that("said" in flows, "the conversation's record was not written when it could be")
        for name, flow in flows.items():
            if name.startswith("during"):
                check.equal((flow["action"], flow["outcome"], flow["answered"]), ("block", "refused", "sink"), f"{name}: action, outcome, answered")


def read_only_before_it_starts() -> None:
    """On a read-only file system nothing starts, and no child; what is there can be read and checked."""
    if os.geteuid() != 0:
        again = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, str(Path(__file__).with_name("run.py"))]
        assert subprocess.run([*again, "--only", "faults.read-only-before"]).returncode == 0, "it failed in a user namespace"
        return
    traffic = Traffic()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        store.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", str(store.folder)], check=True)
        try:
            with Proxy(sandbox, origin, "--policy", "private") as proxy:
                way = Way("plainsight", proxy.url, store.ca())
                with secured(way, HOST, 443, ["http/1.1"]) as stream:
                    _ask(stream, traffic.request("before", 0))
            subprocess.run(["mount", "-o", "remount,ro", str(store.folder)], check=True)
            marker = sandbox.folder / "child-ran"
            for command in (["proxy", "--listen", "127.0.0.1:0"], ["run", "--", "touch", str(marker)]):
                result = store.command(*command, *to_origin(origin)) if command[0] == "proxy" else store.command("run", *to_origin(origin), *command[1:])
                check.equal(result.code, 2 if command[0] == "proxy" else result.code, f"exit code of `{command[0]}`: {result}")
                check.that(result.code != 0, f"`{command[0]}` started on a read-only store")
                check.equal(len(result.stderr.strip().splitlines()), 1, f"lines on stderr of `{command[0]}`: {result.stderr!r}")
            check.that(not marker.exists(), "the child ran without a record")
            flows = store.log()
            check.equal([_number(flow["path"]) for flow in flows if "n=" in flow["path"]], ["before"], "`log` on a read-only store")
            _verified(check, store)
            subprocess.run(["mount", "-o", "remount,rw", str(store.folder)], check=True)
            with Proxy(sandbox, origin, "--policy", "private") as proxy:
                way = Way("plainsight", proxy.url, store.ca())
                with secured(way, HOST, 443, ["http/1.1"]) as stream:
                    _ask(stream, traffic.request("after", 0))
            _check_store(check, store, origin, traffic, {"before", "after"})
        finally:
            subprocess.run(["umount", str(store.folder)], check=True)


def _check_store(check: Checks, store: Store, origin: Origin, traffic: Traffic, wanted: set[str]) -> None:
    """Telemetry at the origin is what is wanted there, redacted and recorded; the store opens, and its chain holds."""
    requests = origin.requests()
    arrived = {_number(request.target) for request in requests if _is_telemetry(request.target)}
    check.equal(arrived, wanted, "telemetry at the origin")
    recorded = {_number(flow["path"]) for flow in store.log() if _is_telemetry(flow["path"])}
    check.that(arrived <= recorded, f"without a record: {arrived - recorded}")
    _leaks(check, traffic, requests, "at the end")
    kept = canary.everything(store)
    for place, value in traffic.values.items():
        check.that(probe.seen(value, kept) is None, f"the store holds the {place}")
    _verified(check, store)


def peers_go_away() -> None:
    """Either side cut in the middle of a body: one record each, closed with what happened, and the next request works."""
    traffic = Traffic()
    large = traffic.large

    def cut_answer(_: Request) -> Answer:
        def chunks() -> Iterator[tuple[float, bytes]]:
            yield 0.0, b"half of"
            raise OSError("cut on purpose")

        return Answer(chunks=chunks())

    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        with Proxy(sandbox, origin, "--policy", "private") as proxy:
            store = proxy.store
            way = Way("plainsight", proxy.url, store.ca())

            def connected():
                return secured(way, HOST, 443, ["http/1.1"])

            # The answer breaks off: the client must not take it for a whole one.
            origin.on("POST", path="/api/event_logging/v2/batch", answer=cut_answer)
            origin.on("POST", path="/v1/messages", answer=cut_answer)
            for name, target, body in (("cutanswer", BATCH, traffic.events), ("cuttalk", "/v1/messages", traffic.conversation)):
                with connected() as stream:
                    stream.sendall(_head(f"{target}?n={name}", len(body)) + body)
                    got = _read_to_end(stream)
                check.that(b"half of" in got and not got.endswith(b"0\r\n\r\n"), f"{name}: the client got {got[-200:]!r}")

            # The other side goes away within a body that is on its way. It is not sent twice.
            origin.cuts[METRICS] = 100_000
            with connected() as stream:
                status = _ask(stream, _head(f"{METRICS}?n=cutbody", len(large)) + large)
            check.equal(status, 502, "status when the other side went away within the body")
            del origin.cuts[METRICS]

            # The client goes away within its body: by a close, and by a reset.
            for name, target, body in (
                ("goneclose", METRICS, traffic.events), ("gonereset", METRICS, traffic.events), ("gonelarge", METRICS, large), ("gonetalk", CONVERSATION, traffic.conversation),
            ):
                with connected() as stream:
                    stream.sendall(_head(f"{target}?n={name}", len(body)) + body[: len(body) // 2])
                    time.sleep(0.1)
                    if "close" not in name:
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            # And within the answer.
            origin.on("POST", path=CONVERSATION, answer=lambda _: Answer(chunks=((0.05, b"x" * 1000) for _ in range(40))))
            with connected() as stream:
                stream.sendall(_head(f"{CONVERSATION}?n=goneanswer", 2) + b"{}")
                stream.recv(4096)
            wanted = {
                "cutanswer": "upstream-failed",
                "cuttalk": "upstream-failed",
                "cutbody": "upstream-failed",
                "goneclose": "client-gone",
                "gonereset": "client-gone",
                "gonelarge": "client-gone",
                "gonetalk": "client-gone",
                "goneanswer": "client-gone",
                "alive": "forwarded",
            }
            with connected() as stream:
                check.equal(_ask(stream, traffic.request("alive", 2)), 200, "status of a request after all that")
            flows = _closed(store, len(wanted))
        found = {_number(flow["path"]): flow["outcome"] for flow in flows}
        check.equal(found, wanted, "outcomes")
        check.equal(len(flows), len(wanted), "one record for each request")
        arrived = [_number(request.target) for request in origin.requests() if _is_telemetry(request.target)]
        check.equal(sorted(arrived), ["alive", "cutanswer", "cutbody"], "telemetry of which something arrived, each once")
        cut = next(request for request in origin.requests() if "cutbody" in request.target)
        check.that(not cut.complete and len(cut.body) == 100_000, f"{len(cut.body)} bytes of the body that was cut arrived, whole {cut.complete}")
        _check_store(check, store, origin, traffic, {"alive", "cutanswer", "cutbody"})


def _read_to_end(stream: ssl.SSLSocket) -> bytes:
    got = b""
    try:
        while chunk := stream.recv(4096):
            got += chunk
    except OSError:
        pass  # However the proxy says that it is over.
    return got


def _closed(store: Store, count: int) -> list[dict]:
    """The records with a number once there are `count` that are closed; or what there is."""
    deadline = time.monotonic() + SEEN_TIMEOUT_SECS
    while True:
        flows = [flow for flow in store.log() if "n=" in flow["path"]]
        if sum(flow["outcome"] is not None for flow in flows) >= count or time.monotonic() > deadline:
            return flows
        time.sleep(0.05)


def clock_jumps() -> None:
    """A clock that goes back and forth by hours: ids stay in order, records are whole, the chain holds."""
    traffic = Traffic()
    # Within what the origin's certificate is valid for, and a leaf of ours is backdated for.
    jumps = [0, 20 * 3600, -20 * 3600, 3600, -1, -20 * 3600, 0]
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        proxy = Proxy(sandbox, origin, "--policy", "private")
        store = proxy.store
        with _faulty(proxy) as faults, proxy:
            way = Way("plainsight", proxy.url, store.ca())
            with secured(way, HOST, 443, ["http/1.1"]) as kept:
                for number, jump in enumerate(jumps):
                    # Moved into place whole: it is read at any moment.
                    (faults / "aside").write_text(str(jump))
                    (faults / "aside").rename(faults / "clock")
                    status = [_ask(kept, traffic.request(f"kept{number}", 0))]
                    with secured(way, HOST, 443, ["http/1.1"]) as stream:
                        status.append(_ask(stream, traffic.request(f"new{number}", 2)))
                        status.append(_ask(stream, traffic.request(f"said{number}", 3)))
                    check.equal(status, [200] * 3, f"after a jump by {jump} s: statuses")
        flows = [flow for flow in store.log() if "n=" in flow["path"]]
        check.equal(len(flows), 3 * len(jumps), "records")
        names = {_number(flow["path"]): flow for flow in flows}
        in_order = [int(names[f"{kind}{number}"]["id"].split("-")[1]) for number in range(len(jumps)) for kind in ("kept", "new", "said")]
        check.equal(in_order, sorted(in_order), "ids in the order of the requests")
        times = [names[f"kept{number}"]["time"] for number in range(len(jumps))]
        # PITFALLS 33: the clock did jump.
        check.that(times != sorted(times), f"times never went back: {times}")
        check.that(all(flow["outcome"] == "forwarded" and 0 <= flow["duration_ms"] < 60_000 for flow in flows), "a record is not closed, or its duration follows the clock")
        wanted = {f"{kind}{number}" for number in range(len(jumps)) for kind in ("kept", "new")}
        _check_store(check, store, origin, traffic, wanted)


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    named = [kill_9, read_only_while_it_runs, read_only_before_it_starts, peers_go_away, clock_jumps]
    return [(f"faults.{test.__name__.replace('_', '-')}", test) for test in named]
