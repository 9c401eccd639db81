"""What the audit log holds after the worst: a kill in the middle, a full disk, a stop. Its chain holds after each."""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import answers
from checks import Checks, origin_certificates
from origin import Origin
from product import Proxy, Store, binary, to_origin
from sandbox import Auth, Sandbox
from senders import Way, secured

HOST = "api.anthropic.com"
TELEMETRY = "/api/claude_code/metrics"
CONVERSATION = "/v1/messages"
BODY = b'{"resource_attributes":{"user.id":"0123456789abcdef"},"metrics":[]}'
ROUNDS = 8
CLIENTS = 4


def _post(stream, target: str) -> int:
    """Sends one request on a connection that is kept, and returns the status."""
    head = f"POST {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    stream.sendall(head.encode() + BODY)
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = stream.recv(4096)
        if not chunk:
            raise ConnectionError("the proxy closed")
        answer += chunk
    head, body = answer.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += stream.recv(4096)
    return int(head.split()[1])


def _hammer(way: Way, name: str, stop: threading.Event) -> None:
    """Posts numbered telemetry until the proxy is gone."""
    number = 0
    try:
        with secured(way, HOST, 443, ["http/1.1"]) as stream:
            while not stop.is_set():
                _post(stream, f"{TELEMETRY}?n={name}-{number}")
                number += 1
    except OSError:
        pass  # Killed, as it should be.


def _verified(check: Checks, store: Store, *heads: str) -> dict:
    """`plainsight log verify --json`, which must say that everything holds."""
    named = [argument for head in heads for argument in ("--head", head)]
    result = store.command("log", "verify", "--json", *named)
    found = json.loads(result.stdout)
    check.equal((result.code, found["faults"]), (0, []), "exit code and faults of `log verify`")
    return found


def _telemetry(targets) -> set[str]:
    return {target for target in targets if target.startswith(TELEMETRY)}


def kill_9() -> None:
    """Killed at random moments under load: everything that arrived has its record, the chain holds, the store opens again."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        for turn in range(ROUNDS):
            proxy = Proxy(sandbox, origin)
            proxy.__enter__()
            way = Way("plainsight", proxy.url, store.ca())
            stop = threading.Event()
            clients = [
                threading.Thread(target=_hammer, args=(way, f"{turn}-{client}", stop), daemon=True)
                for client in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.1, 0.8))
            proxy._process.kill()
            proxy._process.wait()
            stop.set()
            for client in clients:
                client.join(20)
            _verified(check, store)
        arrived = _telemetry(request.target for request in origin.requests())
        recorded = _telemetry(flow["path"] for flow in store.log())
        check.that(len(arrived) > ROUNDS * CLIENTS, f"only {len(arrived)} requests arrived: the test shows nothing")
        check.equal(sorted(arrived - recorded)[:5], [], f"of {len(arrived)} that arrived, without a record")
        found = _verified(check, store)
        check.equal((found["flows"], found["runs"]), (len(store.log()), ROUNDS), "flows and runs in the chain")
        _tamper(store, "UPDATE flow SET request_bytes = request_bytes + 1 WHERE key = (SELECT max(key) FROM flow)")
        result = store.command("log", "verify")
        check.equal(result.code, 1, "exit code of `log verify` after a change")


def full_disk() -> None:
    """A full disk refuses telemetry, lets the conversation pass, and heals when there is room again."""
    if os.geteuid() != 0:
        # Mounting a small disk wants root; a user namespace has one of its own.
        again = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, str(Path(__file__).with_name("run.py"))]
        assert subprocess.run([*again, "--only", "durability.full-disk"]).returncode == 0, "it failed in a user namespace"
        return
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        store.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(store.folder)], check=True)
        try:
            with Proxy(sandbox, origin) as proxy:
                way = Way("plainsight", proxy.url, store.ca())
                with secured(way, HOST, 443, ["http/1.1"]) as stream:
                    before = _post(stream, f"{TELEMETRY}?n=before")
                    filler = Path(store.folder) / "filler"
                    _fill(filler)
                    refused = next(
                        (status for number in range(2000) if (status := _post(stream, f"{TELEMETRY}?n=full-{number}")) != 200), None,
                    )
                    conversation = _post(stream, f"{CONVERSATION}/count_tokens")
                    filler.unlink()
                    time.sleep(0.5)
                    after = _post(stream, f"{TELEMETRY}?n=after")
            # `[fail] store` of the policy `observe`: kept here, and answered by `reject`, which no SDK tries again.
            check.equal((before, refused, conversation, after), (200, 403, 200, 200), "before, refused, conversation, after")
            arrived = _telemetry(request.target for request in origin.requests())
            recorded = _telemetry(flow["path"] for flow in store.log())
            check.equal(sorted(arrived - recorded)[:5], [], "arrived without a record")
            check.that(f"{TELEMETRY}?n=after" in recorded, "nothing is recorded after there is room again")
            _verified(check, store)
        finally:
            subprocess.run(["umount", str(store.folder)], check=True)


def _tamper(store: Store, sql: str) -> None:
    with sqlite3.connect(store.folder / "audit.db") as database:
        check_count = database.execute(sql).rowcount
    assert check_count == 1, f"{sql} changed {check_count} rows"


def _fill(file: Path) -> None:
    with file.open("wb") as out:
        try:
            while True:
                out.write(b"\0" * 65536)
                out.flush()
        except OSError:
            pass


def two_at_once() -> None:
    """Two runs share a store, and each tells its own records apart. Their records are one chain, sealed by each at its end."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        script = f"for i in 1 2 3 4 5; do curl -sS -o /dev/null -d '{{}}' https://{HOST}{TELEMETRY}?n=$0-$i; done"
        command = [binary(), "run", *to_origin(origin), "--", "sh", "-c", script]
        environment = sandbox.environment(PLAINSIGHT_DATA_DIR=store.folder)
        children = [
            subprocess.Popen(
                [*command, name], env=environment, cwd=sandbox.work, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for name in ("a", "b")
        ]
        screens = [child.communicate(timeout=60)[1] for child in children]
        check.equal([child.returncode for child in children], [0, 0], "exit codes")
        heads = [head for screen in screens for head in re.findall(r"sealed: ([0-9a-f]{64})", screen)]
        check.equal(len(heads), 2, "heads on the two screens")
        _verified(check, store, *heads)
        by_run: dict[int, set[str]] = {}
        for flow in store.log():
            if flow["path"].startswith(TELEMETRY):
                by_run.setdefault(flow["run"], set()).add(flow["path"].split("n=")[1][0])
        check.equal(sorted(map(sorted, by_run.values())), [["a"], ["b"]], "whose records stand in each run")


def interrupted() -> None:
    """Ctrl-C reaches the child, which decides; its files are gone and its records closed."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        script = f"trap 'exit 7' INT; curl -sS -o /dev/null https://{HOST}/api/hello; echo $NODE_EXTRA_CA_CERTS; sleep 30 & wait"
        environment = sandbox.environment(PLAINSIGHT_DATA_DIR=store.folder)
        child = subprocess.Popen(
            [binary(), "run", "--quiet", *to_origin(origin), "--", "sh", "-c", script],
            env=environment, cwd=sandbox.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )
        certificates = Path(child.stdout.readline().strip())
        check.that(certificates.is_file(), f"the child was given {certificates}, which is no file")
        os.killpg(child.pid, 2)
        check.equal(child.wait(20), 7, "exit code")
        check.that(not certificates.exists(), f"{certificates} was left behind")
        check.that(all(flow["outcome"] for flow in store.log()), "a record is not closed")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    named = [kill_9, full_disk, two_at_once, interrupted]
    return [(f"durability.{test.__name__.replace('_', '-')}", test) for test in named]
