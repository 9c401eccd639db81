"""Planted secrets, and every place to which plainsight writes: none of them may turn up there, in any encoding.

Each place of a request gets a secret of its own, so that a leak says where it came from. The same probe is first shown to
see each of them where it must be: in what the origin received, and in the store when bodies are kept whole.
"""

import base64
import gzip
import json
import re
import secrets
import sqlite3
import string
import urllib.parse
from contextlib import closing
from pathlib import Path

import zstandard

import answers
from checks import Checks, origin_certificates
from origin import Origin
from probe import gunzipped, seen
from product import Proxy, Store, binary, to_origin
from sandbox import Auth, Sandbox
from senders import Case, Way, by_hand_h1, by_hand_h2

HOST = "api.anthropic.com"
BATCH = f"https://{HOST}/api/event_logging/v2/batch"
METRICS = f"https://{HOST}/api/claude_code/metrics"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def _random(count: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count))


def _token() -> str:
    """Looks like a token of a kind that rules know."""
    return "gh" + "p_" + _random(36)


def everything(store: Store) -> bytes:
    """Every file of the data folder, and what is compressed in the database."""
    found = [store.everything_stored()]
    # `with` alone ends a transaction, and keeps the file open.
    with closing(sqlite3.connect(store.folder / "audit.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    found.append(data)
                    if data.startswith(ZSTD_MAGIC):
                        found.append(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    plain = b"\n".join(found)
    # Bodies that were kept whole may be compressed by the client as well.
    return plain + b"".join(gunzipped(data) for data in found)


class Planted:
    """The secrets of one session, each with its place."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def token(self, place: str) -> str:
        return self.values.setdefault(place, _token())

    def word(self, place: str) -> str:
        """Looks like nothing: only a rule that knows it finds it."""
        return self.values.setdefault(place, _random(9) + "-" + _random(9))

    def cases(self) -> list[tuple[object, Case]]:
        """Requests with a secret in every kind of place."""
        token = self.token
        inner = json.dumps({"deep": json.dumps({"t": token("JSON in a string in base64")})}).encode()
        events = {
            "events": [
                {
                    "event_type": "ClaudeCodeInternalEvent",
                    "event_data": {
                        "event_name": "tengu_init",
                        "message": f"failed with {token('body field')} at",
                        f"k {token('field name')}": 1,
                        "escaped": "a \"quote\" " + token("body field behind escapes"),
                        "additional_metadata": base64.b64encode(inner).decode(),
                        "percent": "x%3D" + urllib.parse.quote(token("percent")) + "%26",
                        "environment": f"{self.word('variable of the environment')} x",
                    },
                }
            ]
        }
        body = json.dumps(events).encode()
        head = (
            ("Content-Type", "application/json"),
            ("Authorization", f"Bearer {token('authorization')}"),
            ("X-Api-Key", token("x-api-key")),
            ("X-Debug", f"seen {token('header')}"),
            ("Cookie", f"session={token('cookie')}; theme=dark"),
            ("User-Agent", f"client/1 ({token('user agent')})"),
        )
        json_type = (("Content-Type", "application/json"),)
        target = f"{METRICS}/{token('path')}?token={token('query')}&note={token('second query field')}"
        cut = b'{"events":[{"event_data":{"message":"' + token("malformed body").encode() + b'", "x":'
        not_gzip = b"\x1f\x8b\x08\x00" + token("broken gzip").encode()
        huge = b'{"a":"' + token("oversized body").encode() + b'","b":"' + b"x" * (9 * 1024 * 1024) + b'"}'
        grpc = (
            ("Content-Type", "application/grpc"),
            ("TE", "trailers"),
            ("x-note", f"by {token('gRPC metadata')}"),
            ("x-blob-bin", base64.b64encode(token("binary gRPC metadata").encode()).decode().rstrip("=")),
        )
        message = b"\x0a\x30" + token("unknown protobuf").encode().ljust(48)
        frame = b"\0" + len(message).to_bytes(4, "big") + message
        return [
            (by_hand_h1, Case("head", target, "POST", head, body)),
            (by_hand_h1, Case("batch", BATCH, "POST", json_type, body)),
            (by_hand_h1, Case("gzip", BATCH, "POST", (*json_type, ("Content-Encoding", "gzip")), gzip.compress(body))),
            (by_hand_h2, Case("h2", BATCH, "POST", json_type, body)),
            (by_hand_h1, Case("cut", BATCH, "POST", json_type, cut)),
            (by_hand_h1, Case("no gzip", BATCH, "POST", (*json_type, ("Content-Encoding", "gzip")), not_gzip)),
            (by_hand_h1, Case("huge", BATCH, "POST", json_type, huge)),
            (by_hand_h1, Case("text", BATCH, "POST", (("Content-Type", "text/plain"),), f"no JSON {token('text')}".encode())),
            (by_hand_h2, Case("grpc", f"https://{HOST}/opentelemetry.proto.collector.logs.v1.LogsService/Export", "POST", grpc, frame)),
        ]


def _arrived(origin: Origin) -> bytes:
    """Everything that the origin got."""
    found = []
    for request in origin.requests():
        found += [request.target.encode(), request.body, gunzipped(request.body)]
        found += [name + b": " + value for name, value in [*request.headers, *request.trailers]]
    # Opened once more, because the probe knows one layer of base64 and the client has JSON below it.
    found += [base64.b64decode(match) for data in list(found) for match in re.findall(rb"[A-Za-z0-9+/]{80,}={0,2}", data[:100_000]) if len(match) % 4 == 0]
    return b"\n".join(found)


def _session(capture: str, planted: Planted, sandbox: Sandbox, origin: Origin) -> tuple[Store, str]:
    """Sends everything through the proxy at its most talkative, and returns what it said on stderr."""
    store = Store(sandbox)
    sandbox_environment = sandbox.environment
    sandbox.environment = lambda **extra: sandbox_environment(
        SOME_ACCESS_TOKEN=planted.word("variable of the environment"), RUST_BACKTRACE="full", RUST_LOG="trace", **extra
    )
    proxy = Proxy(sandbox, origin, "-vvv", "--capture", capture)
    with proxy:
        way = Way("plainsight", proxy.url, store.ca())
        for send, case in planted.cases():
            send(way, case)
    return store, proxy.stderr()


def every_sink() -> None:
    """With the default capture no planted secret is in the store, in what is printed, in reports or recordings."""
    planted = Planted()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store, stderr = _session("masked", planted, sandbox, origin)
        arrived = _arrived(origin)
        for place, value in planted.values.items():
            check.that(seen(value, arrived), f"the probe does not see the secret of {place} at the origin: it shows nothing")
        ids = [flow["id"] for flow in store.log()]
        check.that(len(ids) >= 9, f"only {len(ids)} records")
        recording = store.folder.parent / "out.har"
        sinks: dict[str, bytes] = {"stderr at -vvv": stderr.encode(), "data folder": everything(store)}
        commands = {
            "log": ["log"],
            "log --json": ["log", "--json"],
            "log -vvv": ["log", "-vvv"],
            "log --har": ["log", "--har", str(recording)],
            "log verify": ["log", "verify", "--json"],
            "rules list": ["rules", "list", "--json"],
            "rules explain": ["rules", "explain", "local.secret"],
        }
        commands |= {f"show {flow}": ["show", flow] for flow in ids} | {f"show {flow} --json": ["show", flow, "--json"] for flow in ids}
        commands |= {f"show --reveal {flow}": ["show", flow, "--reveal"] for flow in ids}
        for name, command in commands.items():
            result = store.command(*command)
            sinks[name] = f"{result.stdout}\n{result.stderr}".encode()
        sinks["HAR"] = recording.read_bytes()
        result = store.command("scan", "--json", str(recording))
        sinks["scan of the HAR"] = f"{result.stdout}\n{result.stderr}".encode()
        _scan_raw(planted, store, sinks)
        for sink, data in sinks.items():
            for place, value in planted.values.items():
                form = seen(value, data)
                check.that(form is None, f"{sink}: holds the secret of {place} ({form})")
                # Half of it is too much as well.
                half = seen(value[4:24], data) if len(value) >= 36 else None
                check.that(half is None, f"{sink}: holds half of the secret of {place} ({half})")


def _scan_raw(planted: Planted, store: Store, sinks: dict[str, bytes]) -> None:
    """What `scan` says of the same bodies, which are then in a file."""
    for _, case in planted.cases():
        file = store.folder.parent / f"body-{case.name.replace(' ', '-')}"
        file.write_bytes(case.body)
        for json_flag in ([], ["--json"]):
            result = store.command("scan", "--known", "--as", "json", "-vvv", *json_flag, str(file))
            sinks[f"scan {case.name} {json_flag}"] = f"{result.stdout}\n{result.stderr}".encode()


def the_probe_sees_a_full_capture() -> None:
    """With bodies kept whole the same probe finds what was planted in a body: it can see into the store."""
    planted = Planted()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store, stderr = _session("full", planted, sandbox, origin)
        opened = everything(store)
        for place in ("body field", "body field behind escapes", "malformed body", "text"):
            check.that(seen(planted.values[place], opened), f"the probe does not see the secret of {place} in a full capture")
        for place in ("authorization", "x-api-key", "cookie"):
            check.that(not seen(planted.values[place], opened), f"the secret of {place} is in the store, whatever is captured")
        for place, value in planted.values.items():
            check.that(not seen(value, stderr.encode()), f"stderr holds the secret of {place}")


def a_run_says_nothing() -> None:
    """`run` with a child that sends: screen, summary and stderr hold no secret of the child's environment or requests."""
    planted = Planted()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        word, token = planted.word("variable of the environment"), planted.token("body of curl")
        summary = Path(sandbox.folder) / "run.json"
        script = f"curl -sS -o /dev/null -d '{{\"a\":\"{token}\",\"b\":\"say '$SOME_ACCESS_TOKEN'\"}}' {BATCH}"
        result = sandbox.run(
            [binary(), "run", "-vvv", "--json", str(summary), *to_origin(origin), "--", "sh", "-c", script],
            60, PLAINSIGHT_DATA_DIR=store.folder, SOME_ACCESS_TOKEN=word, RUST_BACKTRACE="full",
        )
        check.equal(result.code, 0, f"exit code of run: {result.stderr}")
        arrived = _arrived(origin)
        check.that(word.encode() in arrived and token.encode() in arrived, "the probe does not see the secrets at the origin")
        check.that("local.secret" in json.dumps(store.log()), "the variable's value was not found")
        sinks = {"stderr": result.stderr.encode(), "stdout": result.stdout.encode(), "summary": summary.read_bytes(), "store": everything(store)}
        for sink, data in sinks.items():
            for place, value in planted.values.items():
                check.that(not seen(value, data), f"{sink}: holds the secret of {place}")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    named = [every_sink, the_probe_sees_a_full_capture, a_run_says_nothing]
    return [(f"canary.{test.__name__.replace('_', '-')}", test) for test in named]
