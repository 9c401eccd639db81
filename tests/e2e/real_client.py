"""The main job on the real client, both versions, both ways of signing in: directly, and through `plainsight run`."""

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import answers
import truth
from checks import Checks, all_strings, breaches, origin_certificates
from clients import Client, javascript, native
from forwarder import Forwarder
from origin import Answer, Origin, Request
from product import Store, binary, to_origin
from sandbox import PROMPT_EMAIL, Auth, Result, Sandbox, client_command

# What a run of each kind is known to send; FACTS, and measured again by the `baseline` tests.
EXPECTED = {
    ("2.1.329", Auth.API_KEY): {"first-party-events", "first-party-metrics", "feature-flags", "datadog"},
    ("2.1.329", Auth.SIGNED_IN): {"first-party-events", "feature-flags", "datadog"},
    ("2.0.14", Auth.API_KEY): {"statsig", "first-party-metrics"},
    ("2.0.14", Auth.SIGNED_IN): {"statsig"},
}
# What a client sends as it ends, on a connection of its own. On a loaded machine it is gone before that is out; that we
# did not lose it is for `witness.py` to show.
AT_THE_END = {"datadog"}
# The interfaces that issue 2 declares stable.
LOG_KEYS = {
    *["id", "time", "run", "destination", "method", "authority", "path", "status", "request_bytes", "response_bytes"],
    *["action", "outcome", "not_inspected", "findings"],
}
FINDING_KEYS = {"rule", "category", "severity", "path", "length", "fingerprint"}
SCREEN_COLUMNS = 80


@dataclass
class Direct:
    """What a run without plainsight said and sent."""

    result: Result
    requests: list[Request]
    faults: list[str]
    authorities: list[str]
    device_id: str
    session_ids: set[str]
    left_behind: list[str] = field(default_factory=list)


_direct_runs: dict[tuple[str, Auth], Direct] = {}
_direct_locks = {key: threading.Lock() for key in EXPECTED}


def direct(client: Client, auth: Auth) -> Direct:
    """The direct run of this kind, made once and shared by the tests that compare with it."""
    key = (client.version, auth)
    with _direct_locks[key]:
        if key not in _direct_runs:
            certificates = origin_certificates()
            with Origin(certificates, answers.answer) as origin, Forwarder(origin.port) as forwarder, Sandbox(auth) as sandbox:
                result = sandbox.run(client_command(client), **direct_environment(forwarder, origin))
                _direct_runs[key] = Direct(
                    result=result,
                    requests=origin.requests(),
                    faults=origin.faults(),
                    authorities=forwarder.authorities(),
                    device_id=sandbox.device_id(),
                    session_ids=sandbox.session_ids(),
                )
    return _direct_runs[key]


def direct_environment(forwarder: Forwarder, origin: Origin) -> dict[str, str | Path]:
    """What brings a client to the origin without plainsight."""
    return {
        "HTTPS_PROXY": forwarder.url,
        "HTTP_PROXY": forwarder.url,
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "NODE_EXTRA_CA_CERTS": origin.root,
    }


def baseline(client: Client, auth: Auth) -> None:
    """The harness itself: the real client works against the origin and sends what FACTS says."""
    run = direct(client, auth)
    with Checks() as check:
        check.equal(run.result.code, 0, f"exit code of {run.result}")
        check.equal(run.result.stdout, f"{answers.FINAL_TEXT}\n", "stdout")
        check.equal(run.result.stderr, "", "stderr")
        check.equal(run.faults, [], "breaches of HTTP")
        sent = {truth.destination(request) for request in run.requests} & set(truth.TELEMETRY)
        check.equal(sent, EXPECTED[client.version, auth], "telemetry destinations")
        check.that(all(request.complete for request in run.requests), "a request did not arrive whole")
        results = sum(count_tool_results(request) for request in _first_with_result(run.requests))
        check.equal(results, 1, "Bash commands that ran")
        planted = Counter(
            name for request in run.requests if truth.destination(request) in truth.TELEMETRY for name in _planted_in(request, run)
        )
        check.that(planted["device"], "no telemetry holds the device id that the client stored")
        check.that(planted["session"], "no telemetry holds the session id that the client's transcript is named after")


def through_plainsight(client: Client, auth: Auth) -> None:
    """`plainsight run … -- claude -p …`, then `log` and `show`."""
    plain = direct(client, auth)
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(auth) as sandbox, Checks() as check:
        store = Store(sandbox)
        summary = sandbox.folder / "summary.json"
        arguments = [*to_origin(origin), "--json", str(summary), "--", *client_command(client)]
        result = store_run(sandbox, store, origin, arguments)
        requests, faults = origin.requests(), breaches(origin)

        check.equal(faults, [], "breaches of HTTP at the origin")
        _check_output(check, result, plain.result)
        try:
            json.loads(summary.read_text())
        except (OSError, ValueError) as error:
            check.that(False, f"`--json FILE` left no JSON: {error}")

        sent = {truth.destination(request) for request in requests} & set(truth.TELEMETRY)
        check.equal(sent | AT_THE_END, EXPECTED[client.version, auth] | AT_THE_END, "telemetry destinations that the origin saw")
        _check_header_names(check, requests, plain.requests)

        flows = store.log()
        check.that(flows, "`log --json` is empty")
        for flow in flows:
            check.that(LOG_KEYS <= flow.keys(), f"flow {flow.get('id')} lacks {LOG_KEYS - flow.keys()}")
            for finding in flow["findings"]:
                check.that(FINDING_KEYS <= finding.keys(), f"a finding of {flow['id']} lacks {FINDING_KEYS - finding.keys()}")
        check.equal(len({flow["id"] for flow in flows}), len(flows), "number of different ids")
        check.equal(len({str(flow["run"]) for flow in flows}), 1, "number of runs")
        pairs = _pair(check, requests, flows)

        shown: dict[str, str] = {}
        wanted = _planted_values(sandbox)
        found_names: set[str] = set()
        for request, flow in pairs:
            name = truth.destination(request)
            about = f"{flow['id']} ({request.method} {request.host}{request.path})"
            check.equal(flow["status"], request.status, f"status of {about}")
            check.equal(flow["action"], "allow", f"action of {about}")
            check.equal(flow["outcome"], "forwarded", f"outcome of {about}")
            if name is None:
                continue
            check.equal(flow["destination"], name, f"destination of {about}")
            check.equal(flow["request_bytes"], len(request.body), f"request bytes of {about}")
            if name == "conversation":
                check.equal(flow["not_inspected"], "conversation", f"not_inspected of {about}")
                check.equal(flow["findings"], [], f"findings in the conversation {about}")
                continue
            if not check.equal(flow["not_inspected"], None, f"not_inspected of {about}"):
                continue
            paths = {finding["path"].split(":", 1)[-1] for finding in flow["findings"]}
            for kind, values in wanted.items():
                expected = truth.places(request.body, values)
                if expected:
                    found_names.add(kind)
                missing = expected - paths
                check.that(not missing, f"{about}: {len(missing)} of {len(expected)} places of the {kind} have no finding, such as {sorted(missing)[:4]}")
            shown[flow["id"]] = store.show(flow["id"])
            _check_shown(check, about, request, shown[flow["id"]])
        check.that({"device id", "session id"} <= found_names, f"planted values found at the origin: only {found_names}")
        if auth is Auth.SIGNED_IN:
            check.that({"account uuid", "organization uuid"} <= found_names, f"of the account, the origin saw only {found_names}")

        _check_nothing_leaks(check, store, sandbox, flows, shown)
        _check_nothing_left(check, sandbox)


def quiet_is_silent(client: Client) -> None:
    """With `--quiet` the child's output is all there is."""
    plain = direct(client, Auth.API_KEY)
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        arguments = [*to_origin(origin), "--quiet", "--", *client_command(client)]
        result = store_run(sandbox, Store(sandbox), origin, arguments)
        check.equal(result.stdout, plain.result.stdout, "stdout")
        check.equal(result.stderr, plain.result.stderr, "stderr")
        check.equal(result.code, plain.result.code, "exit code")


def failure_is_the_same(client: Client) -> None:
    """A refused key: the client says and returns the same as without plainsight."""
    refusal = json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}).encode()

    def refuse(_: Request) -> Answer:
        return Answer(status=401, headers=[("content-type", "application/json"), ("x-should-retry", "false")], body=refusal)

    results = []
    for way in ("direct", "plainsight"):
        with Origin(origin_certificates(), answers.answer) as origin, Forwarder(origin.port) as forwarder, Sandbox(Auth.API_KEY) as sandbox:
            origin.on("POST", path="/v1/messages", answer=refuse)
            command = client_command(client)
            if way == "direct":
                results.append(sandbox.run(command, **direct_environment(forwarder, origin)))
            else:
                results.append(store_run(sandbox, Store(sandbox), origin, [*to_origin(origin), "--quiet", "--", *command]))
    with Checks() as check:
        check.that(results[0].code != 0, f"the direct run did not fail: {results[0]}")
        check.equal(results[1].code, results[0].code, "exit code")
        check.equal(results[1].stdout, results[0].stdout, "stdout")
        check.equal(results[1].stderr, results[0].stderr, "stderr")


def store_run(sandbox: Sandbox, store: Store, origin: Origin, arguments: list[str], **extra: str | Path) -> Result:
    """`plainsight run`, in the environment of a user who has a CA of their own already: it must be merged, not lost."""
    return sandbox.run([binary(), "run", *arguments], PLAINSIGHT_DATA_DIR=store.folder, NODE_EXTRA_CA_CERTS=origin.root, **extra)


def count_tool_results(request: Request) -> int:
    """How many results of our command a request carries."""
    asked = json.loads(request.body)
    return sum(
        part.get("type") == "tool_result" and answers.TOOL_MARKER in json.dumps(part.get("content"))
        for message in asked["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    )


def _first_with_result(requests: list[Request]) -> list[Request]:
    turns = [r for r in requests if r.path == "/v1/messages" and r.method == "POST" and count_tool_results(r)]
    return turns[:1]


def _planted_values(sandbox: Sandbox) -> dict[str, set[str]]:
    values = {"device id": {sandbox.device_id()}, "session id": sandbox.session_ids()}
    if sandbox.auth is Auth.SIGNED_IN:
        values |= {
            "account uuid": {sandbox.identity.account_uuid},
            "organization uuid": {sandbox.identity.organization_uuid},
            "account e-mail": {sandbox.identity.email},
        }
    return values


def _planted_in(request: Request, run: Direct) -> list[str]:
    kinds = {"device": {run.device_id}, "session": run.session_ids}
    return [kind for kind, values in kinds.items() if truth.places(request.body, values)]


def _check_output(check: Checks, result: Result, plain: Result) -> None:
    check.equal(result.code, plain.code, f"exit code ({result})")
    check.equal(result.stdout, plain.stdout, "stdout")
    if check.that(result.stderr.startswith(plain.stderr), f"stderr does not start with the child's own: {result.stderr!r}"):
        screen = result.stderr[len(plain.stderr) :]
        check.that(screen.strip(), "there is no screen on stderr")
        wide = [line for line in screen.splitlines() if len(line) > SCREEN_COLUMNS]
        check.that(not wide, f"the screen is wider than {SCREEN_COLUMNS} columns: {wide[:3]}")
        check.that("\x1b" not in screen, "there is colour though stderr is no terminal")


def _check_header_names(check: Checks, requests: list[Request], plain: list[Request]) -> None:
    """Bodies differ from run to run, but the names of header fields, their order and spelling do not."""

    def shapes(some: list[Request]) -> dict[tuple[str, str], set[tuple[str, ...]]]:
        found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
        for request in some:
            names = tuple(name.decode("latin-1") for name, _ in request.headers if name.lower() not in (b"connection", b"keep-alive"))
            found.setdefault((request.method, truth.destination(request) or request.path), set()).add(names)
        return found

    before, after = shapes(plain), shapes(requests)
    for key, names in after.items():
        if key in before:
            check.that(names <= before[key], f"header names of {key}: {sorted(names - before[key])[:1]}, directly {sorted(before[key])[:2]}")


def _pair(check: Checks, requests: list[Request], flows: list[dict]) -> list[tuple[Request, dict]]:
    """Matches what the origin saw with what the log says, one to one; what is left on either side is an error."""
    tunnels = {_host(flow["authority"]) for flow in flows if flow["method"] == "CONNECT"}
    left = [flow for flow in flows if flow["method"] != "CONNECT"]
    pairs = []
    for request in requests:
        same = [f for f in left if (f["method"], _host(f["authority"])) == (request.method, request.host) and _is_path(f["path"], request.path)]
        exact = [f for f in same if f["request_bytes"] == len(request.body)] or same
        if exact:
            left.remove(exact[0])
            pairs.append((request, exact[0]))
        else:
            tunneled = request.host in tunnels and truth.destination(request) is None
            check.that(tunneled, f"the origin saw {request}, the log did not")
    for flow in left:
        # What a client that ended did not wait for may not have been sent; the record says so.
        check.that(flow["outcome"] == "client-gone" or "client closed" in (flow["error"] or ""), f"the log has {flow['id']} {flow['method']} {flow['authority']}{flow['path']} ({flow['outcome']}), the origin never saw it")
    return pairs


def _is_path(logged: str, path: str) -> bool:
    """Whether the log's target has this path: ids in it are masked there."""
    pattern = "[^/]+".join(map(re.escape, logged.split("?", 1)[0].split("***")))
    return re.fullmatch(pattern, path) is not None


def _host(authority: str) -> str:
    return authority.removesuffix(":443").removesuffix(":80")


def _check_shown(check: Checks, about: str, request: Request, text: str) -> None:
    """Opened containers appear in `show`."""
    try:
        shown = set(all_strings(json.loads(text)))
    except ValueError as error:
        check.that(False, f"`show --json` of {about} is no JSON: {error}")
        return
    for mark in ("!base64/!json", "!json"):
        opened = sorted(path for path, _ in truth.leaves(request.body) if f"/{mark}/" in path and (mark != "!json" or "!base64" not in path))
        if opened:
            seen = [string for string in shown if mark in string]
            check.that(any(string.split(":", 1)[-1] == opened[0] for string in seen), f"`show` of {about} has no field {opened[0]}; with {mark}: {sorted(seen)[:3]}")


def _check_nothing_leaks(check: Checks, store: Store, sandbox: Sandbox, flows: list[dict], shown: dict[str, str]) -> None:
    """Values that rules name, and credentials, stand nowhere in what is kept or printed."""
    kept = store.everything_stored() + json.dumps(flows).encode() + "".join(shown.values()).encode()
    # PITFALLS 33: the same probe must see what is there.
    check.that(b"api.anthropic.com" in kept, "the probe for leaks sees nothing at all")
    identity = sandbox.identity
    secrets = {
        "API key": identity.api_key,
        "access token": identity.access_token,
        "refresh token": identity.refresh_token,
        "device id": sandbox.device_id(),
        "account e-mail": identity.email,
        "e-mail address in the prompt": PROMPT_EMAIL,
    }
    for name, value in secrets.items():
        check.that(value.encode() not in kept, f"the {name} stands in clear in the store, the log or `show`")


def _check_nothing_left(check: Checks, sandbox: Sandbox) -> None:
    """Whatever plainsight made for the child is gone."""
    for file in sandbox.temporary.rglob("*"):
        check.that("plainsight" not in file.name, f"left behind: {file.relative_to(sandbox.temporary)}")
        if file.is_file() and not file.is_symlink():
            check.that(b"-----BEGIN" not in file.read_bytes(), f"a certificate was left behind: {file.relative_to(sandbox.temporary)}")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    listed: list[tuple[str, object]] = []
    kinds = [("2.1.329", native), ("2.0.14", javascript)]
    for version, client in kinds:
        for auth in Auth:
            listed.append((f"baseline.{version}.{auth.value}", lambda c=client, a=auth: baseline(c(), a)))
    for version, client in kinds:
        for auth in Auth:
            listed.append((f"client.{version}.{auth.value}", lambda c=client, a=auth: through_plainsight(c(), a)))
        listed.append((f"client.{version}.quiet", lambda c=client: quiet_is_silent(c())))
        listed.append((f"client.{version}.refused-key", lambda c=client: failure_is_the_same(c())))
    return listed
