"""What `private` lets out, on the real clients and on SDKs: nothing planted, in whatever encoding, and everything else as
it was sent. The origin reads every body with decoders of its own.

A client or SDK runs under both policies. What it said under `private` holds nothing planted; and to say what else was
changed, what the origin got under `observe` is sent once more, byte for byte, through `private`: then both sides of the
proxy are known, and neither from the proxy. Where they differ, the record must say so.

Every probe is first shown to see each planted value at the origin of a run that changes nothing (PITFALLS 33).
"""

import base64
import json
import re
import secrets
import subprocess
from collections import Counter
from dataclasses import replace
from typing import Iterator

import answers
import canary
import clients
import otlp
import probe
import sdk
import sdk_truth
import truth
from checks import Checks, breaches, origin_certificates
from clients import Client, javascript, native
from origin import Origin, Request
from product import Proxy, Store, binary, to_origin
from real_client import EXPECTED, store_run
from sandbox import PROMPT_EMAIL, Auth, Sandbox, client_command
from senders import Case, Way, by_hand_h1, by_hand_h2

# A field of JSON: `null` or a number or a string as it is spelled, or what holds others.
_TOKEN = re.compile(rb'\s*("(?:[^"\\]|\\.)*"|[^\s,:{}\[\]"]+|[,:{}\[\]])', re.DOTALL)
# What a decoder of theirs and ours calls a body.
HEAD = ("header", "path", "query")
# The longest name of a place in a message.
SHOWN = 4


def client(kind: Client, auth: Auth) -> None:
    """The client's own telemetry."""
    sent: list[Request] = []
    with Checks() as check:
        seen: dict[str, set[str]] = {}
        for policy in ("observe", "private"):
            with Origin(origin_certificates(), answers.answer) as origin, Sandbox(auth) as sandbox:
                store = Store(sandbox)
                flags = [*to_origin(origin), "--policy", policy, "--quiet", "--", *client_command(kind)]
                result = store_run(sandbox, store, origin, flags)
                check.equal((result.code, result.stdout), (0, f"{answers.FINAL_TEXT}\n"), f"{policy}: exit code and stdout of {result}")
                check.equal(result.stderr, "", f"{policy}: stderr")
                requests = [request for request in origin.requests() if truth.destination(request) in truth.TELEMETRY]
                # The client talks to Datadog only once flags have told it to, which a busy machine may be too slow for.
                missing = EXPECTED[kind.version, auth] - {truth.destination(request) for request in requests} - {"datadog"}
                check.that(not missing, f"{policy}: nothing arrived at {missing}")
                check.equal(breaches(origin), [], f"{policy}: breaches of HTTP at the origin")
                seen[policy] = _seen(check, policy, requests, _planted(sandbox))
                sent = requests if policy == "observe" else sent
                _check_readable(check, policy, requests)
                spooled = sorted(path.name for path in (sandbox.home / ".claude").rglob("1p_failed_events*"))
                check.equal(spooled, [], f"{policy}: spooled batches (PITFALLS 1)")
        _check_again(check, sent)
        wanted = {"device", "session"}
        if (kind.version, auth) == ("2.1.329", Auth.SIGNED_IN):
            wanted |= {"account", "organization"}
        check.that(wanted <= seen["observe"], f"the probe does not see {wanted - seen['observe']} in a run that changes nothing: it shows nothing")


def exports(way: otlp.Way) -> None:
    """The signed-in client with OpenTelemetry and all its content on, beside its own telemetry."""
    sent: list[Request] = []
    with Checks() as check:
        for policy in ("observe", "private"):
            said = otlp.Conversation()
            with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.SIGNED_IN) as sandbox:
                said.on(origin, sandbox)
                store = Store(sandbox)
                flags = ("--policy", policy, "--quiet")
                result = otlp.run(sandbox, store, origin, way, *flags, without=("DISABLE_TELEMETRY",))
                check.equal((result.code, result.stdout), (0, f"{said.text}\n"), f"{policy}: exit code and stdout of {result}")
                requests = [r for r in origin.requests() if r.host == otlp.COLLECTOR or truth.destination(r) in truth.TELEMETRY]
                signals = {sdk_truth.signal(request) for request in requests if request.host == otlp.COLLECTOR}
                check.equal(signals, otlp.SIGNALS, f"{policy}: signals at the origin")
                # The client may end while one of its own destinations is still being dialled: that is no breach of HTTP.
                faults = breaches(origin)
                check.equal(faults, [], f"{policy}: breaches of HTTP at the origin")
                planted = _planted(sandbox)
                planted |= {"prompt": {PROMPT_EMAIL}, "command": {said.command}, "output": {said.output}, "answer": {said.answer}}
                planted |= {"path": {str(sandbox.work)}} if policy == "private" else {}
                seen = _seen(check, policy, requests, planted)
                if policy == "observe":
                    missing = planted.keys() - seen - {"credential"}
                    check.that(not missing, f"the probe does not see {missing} in a run that changes nothing: it shows nothing")
                sent = requests if policy == "observe" else sent
                _check_readable(check, policy, requests)
        if way.scheme == "https":
            _check_again(check, sent, "--intercept", way.authority)


def opentelemetry(language: str, protocol: str) -> None:
    """All signals of a real SDK, compressed and not."""
    port = 4317 if protocol == "grpc" else 4318
    places = {place for places in sdk.OTLP_PLANTS.values() for place in places}
    with Checks() as check:
        for gzip in (False, True):
            job = {"sdk": "opentelemetry", "protocol": protocol, "gzip": gzip, "endpoint": f"https://{sdk.COLLECTOR}:{port}"}
            requests = _sdk(check, language, job, places, "--intercept", f"{sdk.COLLECTOR}:{port}")
            check.equal(sorted(sdk_truth.signal(request) for request in requests), sorted(sdk.OTLP_PLANTS), f"gzip {gzip}: signals at the origin")
            check.equal({r.protocol for r in requests}, {"HTTP/2" if protocol == "grpc" else "HTTP/1.1"}, "protocol")


def sentry(language: str) -> None:
    """An exception and a transaction."""
    with Checks() as check:
        job = {"sdk": "sentry", "dsn": f"https://{secrets.token_hex(16)}@o42.ingest.us.sentry.io/4242"}
        _sdk(check, language, job, set(sdk.SENTRY_PLANTS))


def statsig(language: str) -> None:
    """A user's event."""
    with Checks() as check:
        _sdk(check, language, {"sdk": "statsig", "key": f"secret-{secrets.token_hex(16)}"}, set(sdk.STATSIG_PLANTS))


def every_place() -> None:
    """The requests of `canary`, with a secret in each kind of place: none but the credential itself gets out, and none is
    in the record of what was done about it.
    """
    with Checks() as check:
        for policy in ("observe", "private"):
            planted = canary.Planted()
            with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox:
                sandbox_environment = sandbox.environment
                sandbox.environment = lambda **extra: sandbox_environment(SOME_ACCESS_TOKEN=planted.word("variable of the environment"), **extra)
                with Proxy(sandbox, origin, "--policy", policy) as proxy:
                    way = Way("plainsight", proxy.url, proxy.store.ca())
                    for send, case in planted.cases():
                        send(way, case)
                    flows = proxy.store.closed_log()
                    kept = canary.everything(proxy.store) + proxy.stderr().encode()
                    kept += "".join(proxy.store.show(flow["id"]) for flow in flows).encode()
                arrived = b"\n".join(probe.arrived(request) for request in origin.requests())
            for place, value in planted.values.items():
                # What opens the door is what the receiver needs.
                if place in ("authorization", "x-api-key", "cookie", "query"):
                    continue
                form = probe.seen(value, arrived)
                if policy == "observe":
                    check.that(form, f"the probe does not see the secret of {place} at the origin: it shows nothing")
                else:
                    check.that(form is None, f"the origin got the secret of {place} ({form})")
                check.that(probe.seen(value, kept) is None, f"{policy}: the record holds the secret of {place}")
            if policy == "private":
                blocked = {flow["path"]: flow["not_inspected"] for flow in flows if flow["action"] == "block"}
                check.that(blocked, "nothing that could not be read was kept back")
                check.that(any(flow["action"] == "redact" for flow in flows), "nothing was redacted")


def fails_open() -> None:
    """Where a policy lets go on what cannot be redacted, the record says that it went as it was, and why."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        text = sandbox.run([binary(), "policy", "show", "private"]).stdout
        policy = sandbox.folder / "policy.toml"
        policy.write_text(text.replace('telemetry     = "closed"', 'telemetry     = "open"', 1))
        fields = (("Content-Type", "application/json"), ("Signature", "sig1=:AAAA:"))
        body = json.dumps({"events": [{"event_data": {"email": "bob@corp.example.com"}}]}).encode()
        for profile, wanted in (("private", ("block", "refused", "fail.telemetry")), (str(policy), ("allow", "forwarded", "fail.telemetry"))):
            with Proxy(sandbox, origin, "--policy", profile) as proxy:
                way = Way("plainsight", proxy.url, proxy.store.ca())
                before = len(origin.requests())
                for send in (by_hand_h1, by_hand_h2):
                    send(way, Case("signed", canary.BATCH, "POST", fields, body))
            # A flow is closed a moment after its answer has arrived.
            flows = proxy.store.log()[-2:]
            arrived = [request.body for request in origin.requests()[before:]]
            check.equal(arrived, [body] * 2 if wanted[0] == "allow" else [], f"{wanted}: bodies that arrived")
            for flow in flows:
                check.equal((flow["action"], flow["outcome"], flow["policy_row"]), wanted, f"{flow['id']}: action, outcome and row")
                check.equal(flow["not_inspected"], "internal-error", f"{flow['id']}: not_inspected")
                check.that("signed" in (flow["error"] or ""), f"{flow['id']}: the record does not say why: {flow['error']!r}")


def notices_differences() -> None:
    """The harness: a field too few, one too many, another spelling, a change elsewhere are each noticed."""
    sent = b'{"mail":"a@example.com","n":1.0e0,"in":"{\\"x\\":[1,\\"b\\"]}","s":"\\u0041"}'
    cases = {
        "right": (sent.replace(b"a@example.com", b"anon"), False),
        "changed": (sent.replace(b"a@example.com", b"anon").replace(b"[1", b"[2"), True),
        "spelled anew": (sent.replace(b"a@example.com", b"anon").replace(b"1.0e0", b"1.0"), True),
        "unescaped": (sent.replace(b"a@example.com", b"anon").replace(b"\\u0041", b"A"), True),
        "missing": (sent.replace(b"a@example.com", b"anon").replace(b'"n":1.0e0,', b""), True),
        "invented": (sent.replace(b'"a@example.com"', b'"anon","m":1'), True),
    }
    with Checks() as check:
        for name, (body, is_wrong) in cases.items():
            inner = Checks()
            _check_kept(inner, name, [*_leaves(sent)], [*_leaves(body)], ["mail"])
            check.equal(inner.failed(), is_wrong, f"{name}: noticed")
        value = f"canary.{secrets.token_hex(8)}@example.com"
        twice = base64.b64encode(json.dumps({"deep": json.dumps({"t": base64.b64encode(value.encode()).decode()})}).encode())
        for name, data in {"base64 of JSON of base64": twice, "escapes": value.replace("@", "\\u0040").encode()}.items():
            check.that(probe.seen(value, probe.opened(data)), f"the probe does not see {name}")
        check.that(probe.seen(value, probe.opened(b"nothing")) is None, "the probe sees what is not there")


def _sdk(check: Checks, language: str, job: dict, places: set[str], *flags: str) -> list[Request]:
    """Runs a sender under both policies; what arrived under `private`."""
    sent: list[Request] = []
    command = [str(clients.python()), str(sdk.HERE / "sdk_sender.py")] if language == "python" else [clients.tool("node"), str(sdk.HERE / "sdk_sender.mjs")]
    for policy in ("observe", "private"):
        plants = {place: f"{place.replace(' ', '.')}.{secrets.token_hex(4)}@example.com" for place in sorted(places)}
        with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox:
            with Proxy(sandbox, origin, *flags, "--policy", policy) as proxy:
                host, port = proxy.address
                asked = job | {"plants": plants, "proxy": {"url": proxy.url, "host": host, "port": port}, "modules": str(clients.sdks())}
                done = subprocess.run(
                    command,
                    cwd=sandbox.work,
                    env=sandbox.environment(**sdk._environment(proxy)),
                    input=json.dumps(asked),
                    capture_output=True,
                    text=True,
                    timeout=sdk.SENDER_TIMEOUT_SECS,
                )
                about = f"{policy}, {job}"
                check.equal(done.returncode, 0, f"{about}: exit code of the sender: {done.stdout[-2000:]}{done.stderr[-4000:]}")
                requests = origin.requests()
                check.equal(origin.faults(), [], f"{about}: breaches of HTTP at the origin")
                seen = _seen(check, policy, requests, {place: {value} for place, value in plants.items()})
                if policy == "observe":
                    check.equal(seen, places, f"{about}: places of which the probe sees the value")
                requests = [request for request in requests if request.body]
                sent = requests if policy == "observe" else sent
                _check_readable(check, about, requests)
                # Node leaves before it has heard the answer to what it says of its own errors.
                same = [Counter(request.path for request in some if "sdk_exception" not in request.path) for some in (sent, requests)]
                if job["sdk"] == "statsig":
                    # It sends what it has by a timer and at its end, in one request or in two.
                    same = [Counter(set(paths)) for paths in same]
                check.equal(same[1], same[0], f"{about}: requests that arrived")
            held = [(flow["path"], flow.get("answered")) for flow in proxy.store.log() if flow.get("answered")]
            check.equal(held, [], f"{about}: requests that were kept here")
    _check_again(check, sent, *flags)
    return requests


def _planted(sandbox: Sandbox) -> dict[str, set[str]]:
    """What the client knows of its user; each kind with its values."""
    identity = sandbox.identity
    planted = {
        "device": {sandbox.device_id()},
        "session": sandbox.session_ids(),
        "credential": {identity.api_key, identity.access_token, identity.refresh_token},
    }
    if sandbox.auth is Auth.SIGNED_IN:
        planted |= {"account": {identity.account_uuid}, "organization": {identity.organization_uuid}, "e-mail": {identity.email}}
    return planted


def _seen(check: Checks, policy: str, requests: list[Request], planted: dict[str, set[str]]) -> set[str]:
    """Which of these arrived; under `private` each is a leak."""
    kinds = set()
    for request in requests:
        arrived = probe.arrived(request)
        for kind, values in planted.items():
            forms = {form for value in values if (form := probe.seen(value, arrived))}
            if forms:
                kinds.add(kind)
                at = arrived.find(next((value.encode() for value in values if value.encode() in arrived), b"?"))
                check.that(policy != "private", f"{request.method} {request.authority}{request.path}: holds the {kind} ({forms}): …{arrived[max(0, at - 120) : at + 60]!r}…")
    return kinds


def _check_readable(check: Checks, about: str, requests: list[Request]) -> None:
    """Their receiver can read them."""
    for request in (request for request in requests if request.body):
        check.that(request.complete, f"{about}: {request} did not arrive whole")
        check.that(_read(request, request.body), f"{about}: {request}: the origin reads nothing in it")


def _check_again(check: Checks, sent: list[Request], *flags: str) -> None:
    """The same requests once more, through `private`: what arrives is what was sent, but for what the record says."""
    sent = [request for request in sent if request.body]
    changed, known = 0, {"content-length", "host", "transfer-encoding", "connection"}
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox:
        with Proxy(sandbox, origin, *flags, "--policy", "private") as proxy:
            way = Way("plainsight", proxy.url, proxy.store.ca())
            for request in sent:
                send = by_hand_h2 if request.protocol == "HTTP/2" else by_hand_h1
                fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers if name.decode().lower() not in known)
                send(way, Case("again", f"https://{request.authority}{request.target}", request.method, fields, request.body))
        arrived = origin.requests()
        flows = [json.loads(proxy.store.show(flow["id"])) for flow in proxy.store.log() if flow["method"] == "POST"]
    check.equal(origin.faults(), [], "again: breaches of HTTP at the origin")
    kept_back = [(flow["authority"], flow["path"], flow["error"], flow["not_inspected"]) for flow in flows if flow["outcome"] != "forwarded"]
    if not check.equal((len(arrived), len(flows)), (len(sent), len(sent)), f"again: requests at the origin and in the log; not forwarded {kept_back}"):
        return
    for was, request, flow in zip(sent, arrived, sorted(flows, key=lambda flow: int(flow["id"].rsplit("-", 1)[1])), strict=True):
        what = f"again: {was.method} {was.authority}{was.path}"
        check.equal((request.method, request.authority, request.path.split("/")[1], request.protocol), (was.method, was.authority, was.path.split("/")[1], was.protocol), f"{what}: whose")
        check.that(request.complete, f"{what}: did not arrive whole")
        check.equal(request.header("content-encoding"), was.header("content-encoding"), f"{what}: content coding")
        rewriting = flow["rewriting"]
        if rewriting is None:
            check.that(request.body == was.body and request.target == was.target, f"{what}: was changed without a word of it")
            continue
        changed += 1
        check.equal(rewriting["edits_left_out"], 0, f"{what}: edits left out")
        paths = [edit["path"] for edit in rewriting["edits"]]
        heads = {path.split("/")[0].lower() for path in paths if path.startswith("header:")}
        for name, value in was.headers:
            if (field := name.decode().lower()) not in known and f"header:{field}" not in heads:
                check.that((name.lower(), value) in [(n.lower(), v) for n, v in request.headers], f"{what}: header field {field} is another")
        if not any(path.startswith(("path:", "query:")) for path in paths):
            check.equal(request.target, was.target, f"{what}: target")
        edits = [path.split(":", 1)[1] for path in paths if path.split(":", 1)[0] not in HEAD]
        if not edits:
            check.that(request.body == was.body, f"{what}: the body is another")
            continue
        before = _read(was, was.body)
        check.that(before, f"{what}: nothing to compare")
        _check_kept(check, what, before, _read(was, request.body), edits)
    check.that(changed, "again: nothing was redacted")


def _read(request: Request, body: bytes) -> list[tuple[str, object]]:
    """Path and value of each leaf, by decoders that are not ours."""
    request = replace(request, body=body)
    if "/v1/" in request.path and request.host == sdk.COLLECTOR or request.path.startswith("/opentelemetry."):
        leaves = [leaf for reading in sdk_truth.otlp(request) for leaf in reading.leaves]
        is_json = (request.header("content-type") or "").startswith("application/json")
        # Numbers keep their spelling, and members their order.
        return leaves + ([("#", [token for token in _tokens(sdk_truth.plain(request)) if not token.startswith(b'"')])] if is_json else [])
    if request.path.endswith("/envelope/"):
        return [leaf for leaf in sdk_truth.sentry(request).leaves if not leaf[0].endswith("/header/length")]
    return [*_leaves(sdk_truth.plain(request))]


def _check_kept(check: Checks, about: str, before: list, after: list, edits: list[str]) -> None:
    """What no edit names, and what holds none, is the same in both."""
    named = set(edits)
    holders = {edit[:at] for edit in edits for at in range(len(edit)) if edit[at] == "/"}

    def untouched(leaves: list) -> Counter:
        found: Counter = Counter()
        for path, value in leaves:
            above = {path[:at] for at in range(len(path)) if path[at] == "/"} | {path}
            if path not in holders and not above & named:
                found[path, repr(value)] += 1
        return found

    was, is_now = untouched(before), untouched(after)
    lost, new = was - is_now, is_now - was
    check.that(not lost, f"{about}: {lost.total()} of {was.total()} fields that no rule named are not what was sent: {[*lost][:SHOWN]}; edits {edits[:SHOWN]}")
    check.that(not new, f"{about}: {new.total()} fields are new: {[*new][:SHOWN]}")


def _tokens(body: bytes) -> list[bytes]:
    json.loads(body)
    return [match[1] for match in _TOKEN.finditer(body)]


def _leaves(body: bytes, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Every scalar of a JSON body as it is spelled, containers opened."""
    tokens = iter(_tokens(body))

    def value(token: bytes, path: str) -> Iterator[tuple[str, bytes]]:
        if token == b"{":
            yield from members(path)
        elif token == b"[":
            yield from items(path)
        else:
            yield path, token
            text = json.loads(token)
            if isinstance(text, str):
                for inner, mark in ((text, "!json"), (truth._base64(text), "!base64/!json")):
                    if truth._json(inner) is not None:
                        yield from _leaves(inner.encode(), f"{path}/{mark}")
                        break

    def members(path: str) -> Iterator[tuple[str, bytes]]:
        while (token := next(tokens)) != b"}":
            if token == b",":
                continue
            name = json.loads(token).replace("~", "~0").replace("/", "~1")
            assert next(tokens) == b":"
            yield from value(next(tokens), f"{path}/{name}" if path else name)

    def items(path: str) -> Iterator[tuple[str, bytes]]:
        index = 0
        while (token := next(tokens)) != b"]":
            if token != b",":
                yield from value(token, f"{path}/{index}" if path else str(index))
                index += 1

    yield from value(next(tokens), path)


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    listed: list[tuple[str, object]] = [("harness.private-oracle", notices_differences), ("private.every-place", every_place), ("private.fails-open", fails_open)]
    for version, kind in (("2.1.329", native), ("2.0.14", javascript)):
        for auth in Auth:
            listed.append((f"private.client.{version}.{auth.value}", lambda k=kind, a=auth: client(k(), a)))
    listed += [(f"private.otlp.{name}", lambda w=way: exports(w)) for name, way in otlp.WAYS.items()]
    # opentelemetry-python has no http/json.
    for language, protocol in [("python", "http/protobuf"), ("python", "grpc"), ("node", "http/json"), ("node", "http/protobuf"), ("node", "grpc")]:
        listed.append((f"private.otel-{language}-{protocol.replace('/', '-')}", lambda l=language, p=protocol: opentelemetry(l, p)))
    for language in ("python", "node"):
        listed.append((f"private.sentry-{language}", lambda l=language: sentry(l)))
        listed.append((f"private.statsig-{language}", lambda l=language: statsig(l)))
    return listed
