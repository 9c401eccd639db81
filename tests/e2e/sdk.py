"""Real SDKs through `plainsight proxy`: what they send arrives intact, and what was planted in it is found where it
stands, whatever protocol, encoding and compression the SDK chose.
"""

import json
import secrets
import subprocess
from itertools import product
from pathlib import Path

import answers
import clients
import sdk_truth
from checks import Checks, origin_certificates
from origin import Origin, Request
from product import Proxy
from sandbox import Auth, Sandbox
from sdk_truth import Reading

HERE = Path(__file__).resolve().parent
COLLECTOR = "otel.example.com"
SENDER_TIMEOUT_SECS = 90

# Where each signal carries which planted value.
OTLP_PLANTS = {
    "trace": ["resource", "span", "list", "json", "event", "exception", "status"],
    "logs": ["resource", "nested", "bytes", "nested list", "body", "body map", "body list"],
    "metrics": ["resource", "counter", "histogram", "gauge"],
}
SENTRY_PLANTS = ["user", "tag", "context", "breadcrumb", "breadcrumb data", "transaction", "exception"]
STATSIG_PLANTS = ["user", "custom", "value", "metadata", "json"]


def opentelemetry(language: str, protocol: str, receiver: bool = False) -> None:
    """All signals, compressed and not, over TLS and in cleartext; by the proxy, or by its receiver and no proxy at all."""
    with Checks() as check:
        for gzip, scheme in product((False, True), ("https", "http")):
            port = 4317 if protocol == "grpc" else 4318
            places = {place for places in OTLP_PLANTS.values() for place in places}
            job = {"sdk": "opentelemetry", "protocol": protocol, "gzip": gzip, "endpoint": f"{scheme}://{COLLECTOR}:{port}"}
            way = f"{scheme}, {'gzip' if gzip else 'plain'}"
            requests, flows, shown, plants = _send(check, way, language, job, places, f"{COLLECTOR}:{port}", receiver=receiver)
            check.equal(sorted(sdk_truth.signal(r) for r in requests), sorted(OTLP_PLANTS), f"{way}: signals at the origin")
            for request in requests:
                about = f"{way}, {sdk_truth.signal(request)}"
                flow = _flow_of(check, about, request, flows)
                if flow is None:
                    continue
                _check_encoding(check, about, request, protocol, scheme, gzip)
                check.equal(flow["destination"], "otlp", f"{about}: destination")
                readings = sdk_truth.otlp(request)
                check.equal(len(readings), 1, f"{about}: messages")
                wanted = {place: plants[place] for place in OTLP_PLANTS[sdk_truth.signal(request)]}
                _check_findings(check, about, readings[0], flow, wanted)
                sdk_truth.check_fields(check, about, readings[0], shown[flow["id"]])


def sentry(language: str) -> None:
    """An exception and a transaction, to Sentry's own host."""
    with Checks() as check:
        job = {"sdk": "sentry", "dsn": f"https://{secrets.token_hex(16)}@o42.ingest.us.sentry.io/4242"}
        requests, flows, shown, plants = _send(check, "sentry", language, job, set(SENTRY_PLANTS))
        envelopes = [request for request in requests if request.path.endswith("/envelope/")]
        readings = [(request, sdk_truth.sentry(request)) for request in envelopes]
        _check_all(check, "sentry", readings, flows, shown, plants)


def statsig(language: str) -> None:
    """A user's event, to Statsig's own host."""
    with Checks() as check:
        job = {"sdk": "statsig", "key": f"secret-{secrets.token_hex(16)}"}
        requests, flows, shown, plants = _send(check, "statsig", language, job, set(STATSIG_PLANTS))
        events = [request for request in requests if request.path.endswith(("/log_event", "/rgstr"))]
        readings = [(request, sdk_truth.as_json(request)) for request in events]
        _check_all(check, "statsig", readings, flows, shown, plants)


def _send(
    check: Checks, way: str, language: str, job: dict, places: set[str], *intercepted: str, receiver: bool = False
) -> tuple[list[Request], list[dict], dict[str, dict], dict[str, str]]:
    """Runs a sender behind a proxy; what the origin got, the log, each flow as shown, and what was planted."""
    plants = {place: f"{place.replace(' ', '.')}.{secrets.token_hex(4)}@example.com" for place in sorted(places)}
    flags = [flag for authority in intercepted for flag in ("--intercept", authority)]
    if receiver:
        flags = ["--otlp", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-endpoint", job["endpoint"]]
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Proxy(sandbox, origin, *flags) as proxy:
        host, port = proxy.address
        job = job | {"plants": plants, "proxy": {"url": proxy.url, "host": host, "port": port}, "modules": str(clients.sdks())}
        if receiver:
            job |= {"proxy": None, "endpoint": proxy.receivers["gRPC" if job["protocol"] == "grpc" else "HTTP"]}
        command = [str(clients.python()), str(HERE / "sdk_sender.py")] if language == "python" else [clients.tool("node"), str(HERE / "sdk_sender.mjs")]
        done = subprocess.run(
            command,
            cwd=sandbox.work,
            env=sandbox.environment(**({} if receiver else _environment(proxy))),
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=SENDER_TIMEOUT_SECS,
        )
        check.equal(done.returncode, 0, f"{way}: exit code of the sender: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        requests, flows = origin.requests(), proxy.store.closed_log()
        check.equal(origin.faults(), [], f"{way}: breaches of HTTP at the origin")
        if not check.that(requests, f"{way}: nothing arrived; the sender said {done.stdout[-2000:]}{done.stderr[-4000:]}"):
            check.that(False, f"{way}: the log has {[(f['method'], f['authority'], f['outcome'], f['error']) for f in flows]}")
        for flow in flows:
            if flow["method"] == "POST":
                check.equal(flow["not_inspected"], None, f"{way}: not_inspected of {flow['path']}")
        shown = {flow["id"]: json.loads(proxy.store.show(flow["id"])) for flow in flows}
        return requests, flows, shown, plants


def _environment(proxy: Proxy) -> dict[str, str | Path]:
    """What a user sets to bring a program to a long-running proxy."""
    ca = proxy.store.ca()
    proxies = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "grpc_proxy")
    roots = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "OTEL_EXPORTER_OTLP_CERTIFICATE")
    return {**dict.fromkeys(proxies, proxy.url), **dict.fromkeys(roots, ca)}


def _flow_of(check: Checks, about: str, request: Request, flows: list[dict]) -> dict | None:
    same = [f for f in flows if f["method"] == request.method and f["path"].split("?")[0] == request.path and f["request_bytes"] == len(request.body)]
    if check.that(same, f"{about}: {request} of {len(request.body)} bytes is not in the log: {[(f['path'], f['request_bytes']) for f in flows]}"):
        check.that(request.complete, f"{about}: {request} did not arrive whole")
        check.equal((same[0]["action"], same[0]["outcome"], same[0]["status"]), ("allow", "forwarded", request.status), f"{about}: action, outcome and status")
        return same[0]
    return None


def _check_encoding(check: Checks, about: str, request: Request, protocol: str, scheme: str, gzip: bool) -> None:
    """The SDK sent what this case is about."""
    check.equal(request.scheme, scheme, f"{about}: scheme")
    kinds = {"grpc": "application/grpc", "http/json": "application/json", "http/protobuf": "application/x-protobuf"}
    check.equal((request.header("content-type") or "").split(";")[0], kinds[protocol], f"{about}: content type")
    check.equal(request.protocol, "HTTP/2" if protocol == "grpc" else "HTTP/1.1", f"{about}: protocol")
    compressed = request.body[0] == 1 if protocol == "grpc" else request.header("content-encoding") == "gzip"
    check.equal(compressed, gzip, f"{about}: compressed")


def _check_all(check: Checks, about: str, readings: list[tuple[Request, Reading]], flows: list[dict], shown: dict[str, dict], plants: dict[str, str]) -> None:
    arrived = set()
    for request, reading in readings:
        here = {place: value for place, value in plants.items() if reading.places(value)}
        arrived |= here.keys()
        if flow := _flow_of(check, about, request, flows):
            check.equal(flow["destination"], about, f"{about}: destination of {request}")
            _check_findings(check, about, reading, flow, here)
            sdk_truth.check_fields(check, about, reading, shown[flow["id"]])
    check.equal(arrived, set(plants), f"{about}: planted places at the origin")


def _check_findings(check: Checks, about: str, reading: Reading, flow: dict, wanted: dict[str, str]) -> None:
    """Each planted address has a finding at each path where the origin's own reading sees it."""
    found = {finding["path"].split(":", 1)[1] for finding in flow["findings"]}
    for place, value in wanted.items():
        places = reading.places(value)
        check.that(places, f"{about}: the address in {place} did not reach the origin")
        missing = places - found
        near = sorted(path for path in found if any(path.startswith(p.rsplit("/", 1)[0]) for p in missing))
        check.that(not missing, f"{about}: no finding for the address in {place} at {sorted(missing)[:4]}; near it {near[:6]}")


def notices_differences() -> None:
    """The harness: a field too few, one too many, a wrong value and a missing finding are each noticed."""
    reading = Reading([("a/b", "1"), ("a/c", "to x@example.com")], {"a/d"})
    right = [("otlp:a/b", "1"), ("otlp:a/c", "to ***"), ("header:te", "trailers"), ("otlp:a/d", "0")]
    cases = {
        "right": (right, ["otlp:a/c"], False),
        "missing": (right[1:], ["otlp:a/c"], True),
        "invented": ([*right, ("otlp:a/e", "")], ["otlp:a/c"], True),
        "wrong": ([("otlp:a/b", "2"), *right[1:]], ["otlp:a/c"], True),
        "unfound": (right, ["otlp:a/b"], True),
    }
    with Checks() as check:
        for name, (fields, findings, is_wrong) in cases.items():
            inner = Checks()
            shown = {"fields_left_out": 0, "fields": [{"path": path, "value": value} for path, value in fields]}
            sdk_truth.check_fields(inner, name, reading, shown)
            _check_findings(inner, name, reading, {"findings": [{"path": path} for path in findings]}, {"place": "x@example.com"})
            check.equal(inner.failed(), is_wrong, f"{name}: noticed")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    # opentelemetry-python has no http/json.
    kinds = [("python", "http/protobuf"), ("python", "grpc"), ("node", "http/json"), ("node", "http/protobuf"), ("node", "grpc")]
    listed: list[tuple[str, object]] = [("harness.sdk-oracle", notices_differences)]
    listed += [
        (f"sdk.otel-{language}-{protocol.replace('/', '-')}", lambda l=language, p=protocol: opentelemetry(l, p)) for language, protocol in kinds
    ]
    listed += [
        (f"receiver.otel-{language}-{protocol.replace('/', '-')}", lambda l=language, p=protocol: opentelemetry(l, p, receiver=True)) for language, protocol in kinds
    ]
    for language, (name, test) in product(("python", "node"), (("sentry", sentry), ("statsig", statsig))):
        listed.append((f"sdk.{name}-{language}", lambda t=test, l=language: t(l)))
    return listed
