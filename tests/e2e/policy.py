"""What a policy lets out, on the real client and on SDKs: `silent` keeps telemetry here and nobody notices; a policy
that changes while the proxy runs is in force a moment later, and a broken one changes nothing.
"""

import json
import subprocess
import time

import answers
import clients
import truth
from checks import Checks, origin_certificates
from clients import Client, javascript, native
from forwarder import Forwarder
from origin import Origin
from product import Proxy, Store, binary, to_origin
from real_client import EXPECTED, direct, direct_environment, store_run
from sandbox import Auth, Sandbox, client_command
from sdk import COLLECTOR, HERE, SENDER_TIMEOUT_SECS, _environment

# A run through plainsight may take twice as long as a direct one and this much more: other tests want the machine too.
SLACK_SECS = 5
# The files are looked at every second.
CHANGE_TIMEOUT_SECS = 10
# These are let through without identity, so that features keep working.
KEPT = {"feature-flags"}


def silent(client: Client, auth: Auth) -> None:
    """No telemetry leaves, flags go without identity, and the client says, returns and keeps what it would anyway."""
    plain = direct(client, auth)
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(auth) as sandbox, Checks() as check:
        store = Store(sandbox)
        # PITFALLS 33: the same probe sees the telemetry of a run that changes nothing.
        seen = {truth.destination(request) for request in plain.requests} & set(truth.TELEMETRY)
        check.equal(seen, EXPECTED[client.version, auth], "telemetry that the probe sees in a direct run")

        result = store_run(sandbox, store, origin, [*to_origin(origin), "--policy", "silent", "--quiet", "--", *client_command(client)])

        check.equal(result.code, plain.result.code, f"exit code of {result}")
        check.equal(result.stdout, plain.result.stdout, "stdout")
        check.equal(result.stderr, plain.result.stderr, "stderr")
        check.that(result.seconds < 2 * plain.result.seconds + SLACK_SECS, f"it took {result.seconds:.1f} s, directly {plain.result.seconds:.1f} s")
        requests = origin.requests()
        check.equal(origin.faults(), [], "breaches of HTTP at the origin")
        left = {truth.destination(request) for request in requests} & set(truth.TELEMETRY)
        check.equal(left, EXPECTED[client.version, auth] & KEPT, "telemetry that reached the origin")
        identity = sandbox.identity
        wanted = {sandbox.device_id(), identity.account_uuid, identity.organization_uuid, identity.email, *sandbox.session_ids()}
        for request in requests:
            if truth.destination(request) == "feature-flags":
                check.that(b'"attributes"' in request.body, f"the flags were asked for without attributes: {request.body[:200]!r}")
                there = [value for value in wanted if value.encode() in request.body]
                check.that(not there, f"identity in the request for flags: {len(there)} values")
        for kind in ("/v1/messages",):
            count = [sum(r.path == kind for r in some) for some in (requests, plain.requests)]
            check.equal(count[0], count[1], f"requests of the conversation to {kind}")
        spooled = sorted(path.name for path in (sandbox.home / ".claude").rglob("1p_failed_events*"))
        check.equal(spooled, [], "spooled batches (PITFALLS 1)")

        flows = [flow for flow in store.log() if flow["destination"] in EXPECTED[client.version, auth] - KEPT]
        # The client talks to Datadog only once flags have told it to, which a busy machine may be too slow for.
        missing = EXPECTED[client.version, auth] - KEPT - {"datadog"} - {flow["destination"] for flow in flows}
        check.that(not missing, f"not in the log: {missing}")
        for flow in flows:
            about = (flow["action"], flow["answered"], flow["outcome"], flow["policy_row"])
            check.equal(about, ("block", "sink", "refused", "telemetry"), f"action, answer, outcome and row of {flow['id']}")


def refused_is_spooled(client: Client) -> None:
    """The probe for spooled batches sees one when the service refuses it (PITFALLS 33)."""
    with Origin(origin_certificates(), answers.answer) as origin, Forwarder(origin.port) as forwarder, Sandbox(Auth.SIGNED_IN) as sandbox, Checks() as check:
        origin.on("POST", path="/api/event_logging/v2/batch", answer=lambda _: answers.as_json({"error": "no"}, status=500))
        result = sandbox.run(client_command(client), **direct_environment(forwarder, origin))
        check.equal((result.code, result.stdout), (0, f"{answers.FINAL_TEXT}\n"), "exit code and stdout")
        spooled = list((sandbox.home / ".claude").rglob("1p_failed_events*"))
        check.that(spooled, "nothing was spooled: the probe would not see it")


def sdk(language: str, protocol: str) -> None:
    """An OpenTelemetry SDK is told that everything arrived, at once, and nothing does."""
    port = 4317 if protocol == "grpc" else 4318
    plants = {place: f"{place.replace(' ', '.')}@example.com" for place in ("resource", "span", "list", "json", "event", "exception", "status")}
    places = ("nested", "bytes", "nested list", "body", "body map", "body list", "counter", "histogram", "gauge")
    plants |= {place: f"{place.replace(' ', '.')}@example.com" for place in places}
    flags = ["--intercept", f"{COLLECTOR}:{port}"]
    command = [str(clients.python()), str(HERE / "sdk_sender.py")] if language == "python" else [clients.tool("node"), str(HERE / "sdk_sender.mjs")]
    arrived = {}
    with Checks() as check:
        for policy in ("observe", "silent"):
            with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Proxy(sandbox, origin, *flags, "--policy", policy) as proxy:
                host, listening = proxy.address
                job = {"sdk": "opentelemetry", "protocol": protocol, "gzip": True, "endpoint": f"https://{COLLECTOR}:{port}", "plants": plants}
                job |= {"proxy": {"url": proxy.url, "host": host, "port": listening}, "modules": str(clients.sdks())}
                start = time.monotonic()
                done = subprocess.run(
                    command,
                    cwd=sandbox.work,
                    env=sandbox.environment(**_environment(proxy)),
                    input=json.dumps(job),
                    capture_output=True,
                    text=True,
                    timeout=SENDER_TIMEOUT_SECS,
                )
                seconds = time.monotonic() - start
                check.equal(done.returncode, 0, f"{policy}: exit code: {done.stdout[-2000:]}{done.stderr[-4000:]}")
                check.that("rror" not in done.stderr, f"{policy}: the SDK complains: {done.stderr[-2000:]}")
                arrived[policy] = len(origin.requests())
                flows = [flow for flow in proxy.store.closed_log() if flow["destination"] == "otlp"]
                check.equal(len(flows), 3, f"{policy}: flows in {seconds:.1f} s, so that nothing was tried again")
                wanted = None if policy == "observe" else "sink"
                check.equal({flow["answered"] for flow in flows}, {wanted}, f"{policy}: answered")
        check.equal(arrived, {"observe": 3, "silent": 0}, "requests at the origin")


def live_change() -> None:
    """A policy edited while the proxy runs holds a moment later; a broken edit is said and changes nothing."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        policy = sandbox.folder / "policy.toml"
        show = [binary(), "policy", "show"]
        texts = {name: sandbox.run([*show, name]).stdout for name in ("observe", "silent")}
        policy.write_text(texts["observe"])
        with Proxy(sandbox, origin, "--policy", str(policy)) as proxy:
            ca = proxy.store.ca()

            def send() -> str:
                command = ["curl", "-sS", "-x", proxy.url, "--cacert", str(ca), "-H", "content-type: application/json"]
                command += ["-d", '{"events":[{},{}]}', "https://api.anthropic.com/api/event_logging/v2/batch"]
                return sandbox.run(command).stdout

            def change(text: str, said: str) -> None:
                policy.write_text(text)
                deadline = time.monotonic() + CHANGE_TIMEOUT_SECS
                while said not in proxy.stderr() and time.monotonic() < deadline:
                    time.sleep(0.05)
                check.that(said in proxy.stderr(), f"stderr does not say {said!r}: {proxy.stderr()!r}")

            send()
            check.equal(len(origin.requests()), 1, "requests at the origin under `observe`")
            change(texts["silent"], "the policy changed: `silent` is in force")
            answer = send()
            check.equal(json.loads(answer), {"accepted_count": 2, "rejected_count": 0}, "the answer under `silent`")
            change(texts["silent"].replace('= "block"', '= "blokc"', 1), "the one before stays in force")
            send()
            check.equal(len(origin.requests()), 1, "requests at the origin after the changes")
            flows = proxy.store.closed_log()
        hashes = [flow["policy_hash"] for flow in flows]
        check.equal([flow["action"] for flow in flows], ["allow", "block", "block"], "actions in the log")
        check.that(hashes[0] and hashes[0] != hashes[1] == hashes[2], f"hashes of policies in the log: {hashes}")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    listed: list[tuple[str, object]] = [("policy.live-change", live_change)]
    for version, client in (("2.1.329", native), ("2.0.14", javascript)):
        for auth in Auth:
            listed.append((f"policy.silent.{version}.{auth.value}", lambda c=client, a=auth: silent(c(), a)))
    listed.append(("policy.spool-is-seen", lambda: refused_is_spooled(native())))
    for language, protocol in (("python", "http/protobuf"), ("python", "grpc"), ("node", "http/json"), ("node", "grpc")):
        name = f"policy.silent.otel-{language}-{protocol.replace('/', '-')}"
        listed.append((name, lambda l=language, p=protocol: sdk(l, p)))
    return listed
