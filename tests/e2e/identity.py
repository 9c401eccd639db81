"""Byte identity: with nothing redacted, the origin gets from plainsight what it gets without it.

Each test sends its cases twice, through the blind forwarder and through `plainsight proxy --intercept '*'`, and
compares what the origin recorded: method, target, header fields (names, spelling, order, values, but for hop-by-hop
ones), body, framing and trailers; and what the program got back.
"""

import dataclasses
import gzip
import random
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import brotli
import zstandard

import answers
import senders
from checks import Checks, origin_certificates, scratch
from forwarder import Forwarder
from origin import Origin, Request
from product import Proxy
from sandbox import Auth, Sandbox
from senders import CASE_HEADER, Case, Outcome, Way

LARGE_BYTES = 20 * 1024 * 1024
# RFC 9110, 7.6.1: these are for one connection only. `Content-Length` and `Host` are not among them.
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}

HOST = "https://origin.example.com"
EVENTS = "https://api.anthropic.com/api/event_logging/v2/batch"
# What a parse and a new serialisation would change: spaces, escapes, number formats, repeated keys, a lone surrogate.
TRICKY = (
    b' {"events" :[ {"event_data":{"device_id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",'
    b'"email":"canary\\u0040example.com","path":"\\/home\\/canary","n":1.0e0,"big":9007199254740993,"x":1E400,'
    b'"dup":1,"dup":2,"lone":"\\ud800","caf\xc3\xa9":"\xe2\x82\xac","empty":{} , "additional_metadata":'
    b'"eyJhIjoiYkBleGFtcGxlLmNvbSIsIm4iOjEuMH0="}}]}\n\n'
)


def _codings() -> dict[str, bytes]:
    plain = TRICKY
    raw_deflate = zlib.compressobj(wbits=-15)
    return {
        # Levels and settings that a second compression would not reproduce.
        "gzip": gzip.compress(plain, compresslevel=1, mtime=1_700_000_000),
        "deflate": zlib.compress(plain, 1),
        "deflate-raw": raw_deflate.compress(plain) + raw_deflate.flush(),
        "br": brotli.compress(plain, quality=1),
        "zstd": zstandard.ZstdCompressor(level=1, write_checksum=True).compress(plain),
    }


def common_cases() -> list[Case]:
    """What every program sends."""
    json_type = ("Content-Type", "application/json")
    cases = [
        Case("get", f"{HOST}/echo/get?b=2&a=1&a=&empty"),
        Case("odd-path", f"{HOST}/echo/a%2Fb/%7e/;v=1,2/(x)!$&'*+=:@/?q=%20+%C3%A9&url=https://x/?y&&"),
        Case("head", f"{HOST}/echo/head", "HEAD"),
        Case("options", f"{HOST}/echo/options", "OPTIONS"),
        Case("delete", f"{HOST}/echo/delete", "DELETE"),
        Case("204", f"{HOST}/echo/204"),
        Case("304", f"{HOST}/echo/304", headers=(("If-None-Match", '"e2e"'),)),
        Case("stream", f"{HOST}/echo/stream"),
        Case("put-empty", f"{HOST}/echo/put", "PUT", (json_type,), b""),
        Case("patch", f"{HOST}/echo/patch", "PATCH", (json_type,), TRICKY),
        Case("headers", f"{HOST}/echo/headers", headers=(("X-Zulu", "1"), ("x-alpha", "two  words"), ("X-Mixed-CASE", "e; q=0.5, *"), ("Accept", "a/b"), ("Cookie", "a=1; b=2"))),
        Case("tricky-json", EVENTS, "POST", (json_type,), TRICKY),
        Case("broken-json", EVENTS, "POST", (json_type,), TRICKY[:200]),
        Case("broken-gzip", EVENTS, "POST", (json_type, ("Content-Encoding", "gzip")), _codings()["gzip"][:60] + b"\xff" * 40),
        Case("unknown-coding", EVENTS, "POST", (json_type, ("Content-Encoding", "x-nobody")), TRICKY),
        Case("chunked", EVENTS, "POST", (json_type,), TRICKY * 200, streamed=True),
        Case("chunked-elsewhere", f"{HOST}/echo/chunked", "POST", (json_type,), TRICKY * 500, streamed=True),
        Case("conversation", "https://api.anthropic.com/v1/messages/count_tokens?beta=true", "POST", (json_type,), TRICKY * 300),
        Case("statsig", "https://statsig.anthropic.com/v1/rgstr?k=client-key&st=js&t=1&ec=2", "POST", (("Content-Type", "text/plain;charset=UTF-8"),), TRICKY),
    ]
    for name, body in _codings().items():
        headers = (json_type, ("Content-Encoding", name.removesuffix("-raw")))
        cases.append(Case(f"coding-{name}", EVENTS, "POST", headers, body))
    cases.append(Case("coding-two", EVENTS, "POST", (json_type, ("Content-Encoding", "gzip, br")), brotli.compress(_codings()["gzip"], quality=1)))
    return cases


def large_cases(names: tuple[str, ...] | None = None) -> list[Case]:
    """20 MiB each: telemetry, telemetry compressed, and noise to a host that nobody knows. All, or those named."""
    noise = random.Random(20).randbytes(LARGE_BYTES)
    json_type = ("Content-Type", "application/json")
    events = b'{"events":[' + b",".join(TRICKY.strip() for _ in range(LARGE_BYTES // len(TRICKY))) + b"]}"
    cases = [
        Case("large-events", EVENTS, "POST", (json_type,), events),
        Case("large-events-gzip", EVENTS, "POST", (json_type, ("Content-Encoding", "gzip")), gzip.compress(events, 1, mtime=7)),
        Case("large-events-chunked", EVENTS, "POST", (json_type,), events, streamed=True),
        Case("large-noise", f"{HOST}/echo/noise", "POST", (("Content-Type", "application/octet-stream"),), noise),
        Case("large-noise-chunked", f"{HOST}/echo/noise", "PUT", (("Content-Type", "application/octet-stream"),), noise, streamed=True),
        Case("large-conversation", "https://api.anthropic.com/v1/messages/count_tokens", "POST", (json_type,), events, streamed=True),
        Case("large-answer", f"{HOST}/echo/large"),
    ]
    return [case for case in cases if names is None or case.name in names]


def hand_cases() -> list[Case]:
    """What only bytes written by hand show."""
    return [
        # Fields of one name stand together: their own order is kept, but not what stood between them (docs/ARCHITECTURE.md).
        Case("repeated", f"{HOST}/echo/repeated", headers=(("X-B", "2"), ("X-A", "1"), ("x-a", "3"), ("X-a", "1"), ("X-C", ""))),
        Case("spelling", f"{HOST}/echo/spelling", headers=(("aCCEPT", "*/*"), ("user-AGENT", "hand"), ("X_Under", "1"), ("DNT", "1"))),
        Case("path-characters", f"{HOST}/echo//double/./dot/../up/%zz/[x]{{y}}|\"\\?q=[]{{}}|^`\\%"),
        Case("latin-1", f"{HOST}/echo/latin", headers=(("X-Name", "Jos\xe9"),)),
        Case("trailers", EVENTS, "POST", (("Content-Type", "application/json"),), TRICKY, streamed=True, trailers=(("x-checksum", "abc"), ("x-after", "1"))),
        Case("trailers-elsewhere", f"{HOST}/echo/trailers", "POST", (("TE", "trailers"),), TRICKY * 300, streamed=True, trailers=(("x-checksum", "abc"),)),
        Case("odd-method", f"{HOST}/echo/method", "PROPFIND", (("Depth", "1"),), b"<x/>"),
        Case("many-headers", f"{HOST}/echo/many", headers=tuple((f"X-Field-{number % 40}-{number}", "v" * number) for number in range(80))),
    ]


def hand_cases_h2() -> list[Case]:
    """The same for HTTP/2, where names are lower case and the path is plain text."""
    grpc = b"\0\0\0\0\x03abc"
    return [
        *(case for case in hand_cases() if case.name not in ("spelling", "latin-1")),
        Case(
            "grpc",
            "https://otel.example.com/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            "POST",
            (("te", "trailers"), ("Content-Type", "application/grpc"), ("grpc-timeout", "10S")),
            grpc,
            streamed=True,
        ),
        Case("grpc-trailers", "https://otel.example.com/opentelemetry.proto.collector.trace.v1.TraceService/Export", "POST",
             (("te", "trailers"), ("Content-Type", "application/grpc")), grpc * 9000, streamed=True, trailers=(("x-end", "1"),)),
    ]


def differences(direct: Request, via: Request) -> list[str]:
    """Everything in which two recorded requests differ and should not."""
    found = []
    for name in ("protocol", "scheme", "method", "target", "authority", "chunked", "complete", "sni"):
        if getattr(direct, name) != getattr(via, name):
            found.append(f"{name}: directly {getattr(direct, name)!r}, through plainsight {getattr(via, name)!r}")
    if direct.request_line != via.request_line:
        found.append(f"request line: directly {direct.request_line!r}, through plainsight {via.request_line!r}")
    if sorted(direct.pseudo) != sorted(via.pseudo):
        found.append(f"pseudo header fields: directly {direct.pseudo}, through plainsight {via.pseudo}")
    before, after = _end_to_end(direct), _end_to_end(via)
    if before != after:
        lower = [[(name.lower(), value) for name, value in side] for side in (before, after)]
        kind = "values or names"
        if sorted(lower[0]) == sorted(lower[1]):
            kind = "order" if lower[0] != lower[1] else "spelling"
        gone = [pair for pair in before if pair not in after]
        new = [pair for pair in after if pair not in before]
        found.append(f"header {kind}: gone {gone[:4]}, new {new[:4]}; directly {[n for n, _ in before]}, through plainsight {[n for n, _ in after]}")
    if [(n.lower(), v) for n, v in direct.trailers] != [(n.lower(), v) for n, v in via.trailers]:
        found.append(f"trailers: directly {direct.trailers}, through plainsight {via.trailers}")
    if direct.body != via.body:
        at = next((i for i, (a, b) in enumerate(zip(direct.body, via.body)) if a != b), min(len(direct.body), len(via.body)))
        found.append(f"body: {len(direct.body)} and {len(via.body)} bytes, different from {at} on: {direct.body[at:at + 40]!r}, {via.body[at:at + 40]!r}")
    return found


def _end_to_end(request: Request) -> list[tuple[bytes, bytes]]:
    named = {name.strip().lower() for key, value in request.headers if key.lower() == b"connection" for name in value.decode("latin-1").split(",")}
    # gRPC needs `te: trailers` to arrive, so over HTTP/2 it counts.
    dropped = (HOP_BY_HOP | named) - ({"te"} if request.protocol == "HTTP/2" else set())
    return [(name, value) for name, value in request.headers if name.decode("latin-1").lower() not in dropped]


def answer_differences(direct: Outcome, via: Outcome) -> list[str]:
    """Everything in which two answers differ and should not. Spelling of names is not compared here."""
    if direct.error or via.error:
        return [f"errors: directly {direct.error}, through plainsight {via.error}"] if direct.error != via.error or direct.error else []
    found = []
    if direct.status != via.status:
        found.append(f"status: directly {direct.status}, through plainsight {via.status}")
    lists = [[(n.lower(), v) for n, v in side.headers if n.lower() not in HOP_BY_HOP] for side in (direct, via)]
    if lists[0] != lists[1]:
        found.append(f"header fields of the answer: directly {lists[0]}, through plainsight {lists[1]}")
    if direct.body != via.body:
        found.append("body of the answer")
    return found


@contextmanager
def two_ways(folder: Path) -> Iterator[tuple[Origin, Way, Way, Proxy]]:
    """An origin, the direct way to it, and the way through plainsight."""
    with (
        Origin(origin_certificates(), answers.answer) as origin,
        Forwarder(origin.port) as forwarder,
        Sandbox(Auth.API_KEY) as sandbox,
        Proxy(sandbox, origin, "--intercept", "*") as proxy,
    ):
        yield origin, Way("direct", forwarder.url, origin.root), Way("plainsight", proxy.url, proxy.store.ca()), proxy


Sender = Callable[[Way, list[Case], Path], list[Outcome]]


def compare(send: Sender, cases: list[Case], protocol: str) -> None:
    """Sends all cases both ways and compares."""
    with scratch() as folder, two_ways(folder) as (origin, direct, through, proxy), Checks() as check:
        sides = []
        for way in (direct, through):
            outcomes = send(way, cases, folder)
            sides.append((_by_case(origin.requests()), outcomes, origin.faults()))
            origin.forget()
        _judge(check, cases, sides, protocol)
        logged = proxy.store.closed_log()
        check.equal(len([f for f in logged if f["method"] != "CONNECT"]), sum(map(len, sides[1][0].values())), "requests in the log")


def harness_sees_differences(send: Sender, cases: list[Case], protocol: str) -> None:
    """The harness itself (PITFALLS 33): direct twice is the same, and one changed byte or field is noticed."""
    with scratch() as folder, Origin(origin_certificates(), answers.answer) as origin, Forwarder(origin.port) as forwarder, Checks() as check:
        way, sides = Way("direct", forwarder.url, origin.root), []
        for _ in range(2):
            outcomes = send(way, cases, folder)
            sides.append((_by_case(origin.requests()), outcomes, origin.faults()))
            origin.forget()
        _judge(check, cases, sides, protocol)
        for case in cases:
            for request in sides[0][0].get(case.name, [])[:1]:
                changed = {
                    "a header's value": dataclasses.replace(request, headers=[(n, v + b"x") for n, v in request.headers]),
                    "a new header": dataclasses.replace(request, headers=[*request.headers, (b"via", b"1.1 x")]),
                    "a byte of the body": dataclasses.replace(request, body=request.body + b"\n"),
                    "the target": dataclasses.replace(request, target=request.target + "/"),
                    "the framing": dataclasses.replace(request, chunked=not request.chunked),
                }
                if len(request.headers) > 1:
                    changed["the headers' order"] = dataclasses.replace(request, headers=request.headers[::-1])
                for what, other in changed.items():
                    check.that(differences(request, other), f"{case.name}: {what} changed and nobody noticed")


def _judge(check: Checks, cases: list[Case], sides: list, protocol: str) -> None:
    (before, sent, faults_before), (after, got, faults_after) = sides
    check.equal(faults_before, [], "breaches of HTTP on the direct way")
    check.equal(faults_after, [], "breaches of HTTP through plainsight")
    for case, outcome, other in zip(cases, sent, got, strict=True):
        check.equal(outcome.error, None, f"{case.name}: error on the direct way")
        for problem in answer_differences(outcome, other):
            check.that(False, f"{case.name}: {problem}")
        requests = before.get(case.name, []), after.get(case.name, [])
        if not check.equal((len(requests[0]), len(requests[1])), (1, 1), f"{case.name}: requests at the origin, directly and through plainsight"):
            continue
        check.equal(requests[0][0].protocol, protocol, f"{case.name}: protocol of the direct request")
        check.equal(requests[0][0].body, case.body or b"", f"{case.name}: body of the direct request")
        for problem in differences(requests[0][0], requests[1][0]):
            check.that(False, f"{case.name}: {problem}")


def _by_case(requests: list[Request]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for request in requests:
        found.setdefault(request.header(CASE_HEADER) or "", []).append(request)
    return found


def plain_http() -> None:
    """Cleartext HTTP: absolute-form to the proxy, and HTTP/1.1 and h2c inside a CONNECT tunnel, as curl sends them."""
    cases = [
        Case("get", "http://origin.example.com/echo/get?x=%2F&y"),
        Case("post", "http://origin.example.com/echo/post", "POST", (("Content-Type", "application/json"),), TRICKY),
        Case("chunked", "http://otel.example.com:4318/v1/logs", "POST", (("Content-Type", "application/json"),), TRICKY * 50, streamed=True),
        Case("head", "http://origin.example.com:8080/echo/head", "HEAD"),
    ]
    with scratch() as folder, two_ways(folder) as (origin, _, through, _), Checks() as check:
        for how, flags in {"absolute-form": [], "tunnel": ["--proxytunnel"], "h2c": ["--proxytunnel", "--http2-prior-knowledge"]}.items():
            named = [dataclasses.replace(case, name=f"{how}-{case.name}") for case in cases]
            sides = []
            for route in (["--connect-to", f"::127.0.0.1:{origin.port}", *flags[1:]], ["--proxy", through.proxy, *flags]):
                outcomes = [_curl_plain(case, folder, route) for case in named]
                sides.append((_by_case(origin.requests()), outcomes, origin.faults()))
                origin.forget()
            _judge(check, named, sides, "HTTP/2" if how == "h2c" else "HTTP/1.1")


def _curl_plain(case: Case, folder: Path, route: list[str]) -> Outcome:
    """curl without TLS; `route` says how it gets there."""
    way = Way("plain", "", Path("/dev/null"))
    return senders.curl(way, case, folder, route=route)


def _each(send: Callable[[Way, Case], Outcome]) -> Sender:
    return lambda way, cases, _: [send(way, case) for case in cases]


def _curl(version: str) -> Sender:
    return lambda way, cases, folder: [senders.curl(way, case, folder, version) for case in cases]


def _node(how: str) -> Sender:
    def send(way: Way, cases: list[Case], folder: Path) -> list[Outcome]:
        found = senders.node(way, cases, folder, how)
        return [
            Outcome(o.get("status", 0), [tuple(pair) for pair in o.get("headers", [])], o.get("body", ""), o.get("error")) for o in found
        ]

    return send


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    common = common_cases()
    table: list[tuple[str, Sender, list[Case], str]] = [
        ("curl-h1", _curl("--http1.1"), common, "HTTP/1.1"),
        ("curl-h2", _curl("--http2"), common, "HTTP/2"),
        ("requests", _each(senders.by_requests), common, "HTTP/1.1"),
        ("httpx-h1", _each(lambda way, case: senders.by_httpx(way, case, False)), common, "HTTP/1.1"),
        ("httpx-h2", _each(lambda way, case: senders.by_httpx(way, case, True)), common, "HTTP/2"),
        ("fetch-h1", _node("fetch-h1"), common, "HTTP/1.1"),
        ("fetch-h2", _node("fetch-h2"), common, "HTTP/2"),
        ("node-http2", _node("http2"), common, "HTTP/2"),
        ("by-hand-h1", _each(senders.by_hand_h1), hand_cases(), "HTTP/1.1"),
        ("by-hand-h2", _each(senders.by_hand_h2), hand_cases_h2(), "HTTP/2"),
    ]
    some = ("large-events-chunked", "large-noise", "large-answer")
    large = [
        ("curl-h1", _curl("--http1.1"), None, "HTTP/1.1"),
        ("curl-h2", _curl("--http2"), some, "HTTP/2"),
        ("requests", _each(senders.by_requests), some, "HTTP/1.1"),
        ("fetch-h1", _node("fetch-h1"), some, "HTTP/1.1"),
    ]
    listed: list[tuple[str, object]] = [
        (f"harness.{name}", lambda s=send, c=cases, p=protocol: harness_sees_differences(s, c, p)) for name, send, cases, protocol in table
    ]
    listed += [(f"identity.{name}", lambda s=send, c=cases, p=protocol: compare(s, c, p)) for name, send, cases, protocol in table]
    for name, send, names, protocol in large:
        listed.append((f"identity.large-{name}", lambda s=send, n=names, p=protocol: compare(s, large_cases(n), p)))
    listed.append(("identity.plain-http", plain_http))
    return listed
