"""What needs no audited client: what `run` does for and to its child, the demo, and failures said aloud."""

import json
import re
from pathlib import Path

import answers
from checks import Checks, origin_certificates
from origin import Origin
from product import Store, binary, to_origin
from sandbox import Auth, Result, Sandbox

# PITFALLS 17: both cases, and what gRPC reads.
PROXY_VARIABLES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "grpc_proxy"]
# PITFALLS 15: each names a file with certificates.
REPLACING_VARIABLES = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT"]
ADDING_VARIABLES = ["NODE_EXTRA_CA_CERTS", "OTEL_EXPORTER_OTLP_CERTIFICATE"]
# Prints the environment, then how many certificates each file holds.
LOOK_AROUND = 'env; for name in %s; do eval "file=\\$$name"; echo "count:$name:$(grep -c "BEGIN CERTIFICATE" "$file")"; done' % " ".join(
    [*REPLACING_VARIABLES, *ADDING_VARIABLES]
)


def _run(sandbox: Sandbox, *arguments: str, **extra: str | Path) -> Result:
    return sandbox.run([binary(), "run", *arguments], PLAINSIGHT_DATA_DIR=sandbox.folder / "data", **extra)


def child_environment() -> None:
    """Everything of PITFALLS 15 and 17 is set, what the user had is merged, and the files are gone afterwards."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        result = _run(sandbox, *to_origin(origin), "--", "sh", "-c", LOOK_AROUND, NODE_EXTRA_CA_CERTS=origin.root)
        check.equal(result.code, 0, f"exit code of {result}")
        said = dict(line.split("=", 1) for line in result.stdout.splitlines() if re.match(r"[A-Za-z_]+=", line))
        counts = {line.split(":")[1]: int(line.split(":")[2] or 0) for line in result.stdout.splitlines() if line.startswith("count:")}
        proxies = {said.get(name) for name in PROXY_VARIABLES}
        check.equal(len(proxies), 1, f"different values of {PROXY_VARIABLES}: {proxies}")
        check.that(re.fullmatch(r"http://[^@/]+@127\.0\.0\.1:\d+/?", str(next(iter(proxies)))), f"the proxy has no credential of this run (PITFALLS 30): {proxies}")
        for name in ("NO_PROXY", "no_proxy"):
            entries = set(re.split(r"[, ]+", said.get(name, "")))
            check.that({"localhost", "127.0.0.1", "::1", "[::1]"} <= entries, f"{name} is {said.get(name)}")
        check.equal(said.get("NODE_USE_ENV_PROXY"), "1", "NODE_USE_ENV_PROXY")
        for name in [*REPLACING_VARIABLES, *ADDING_VARIABLES]:
            check.that(name in said, f"{name} is not set")
        check.equal(counts.get("NODE_EXTRA_CA_CERTS"), 2, "certificates in NODE_EXTRA_CA_CERTS: our CA and the one that the user had")
        for name in REPLACING_VARIABLES:
            check.that(counts.get(name, 0) > 2, f"{name} holds {counts.get(name)} certificates: where are the roots?")
        for name in [*REPLACING_VARIABLES, *ADDING_VARIABLES]:
            file = said.get(name)
            check.that(file and not Path(file).exists(), f"{name}={file} is still there after the run")


def children_get_through() -> None:
    """curl in the child: a telemetry host is decrypted, an unknown one is tunnelled blindly, and both simply work."""
    command = "curl -sS -o /dev/null -w '%{http_code}\\n' https://statsig.anthropic.com/echo && curl -sS -o /dev/null -w '%{http_code}\\n' https://unknown.example.com/echo"
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        # A user with a CA of their own: curl's variable replaces the roots, so it must come along.
        result = _run(sandbox, *to_origin(origin), "--quiet", "--", "sh", "-c", command, CURL_CA_BUNDLE=origin.root, SSL_CERT_FILE=origin.root)
        check.equal((result.code, result.stdout, result.stderr), (0, "200\n200\n", ""), "exit code, stdout and stderr")
        requests = {request.host: request for request in origin.requests()}
        check.equal(set(requests), {"statsig.anthropic.com", "unknown.example.com"}, "hosts at the origin")
        for request in requests.values():
            names = {name.decode().lower() for name, _ in request.headers}
            check.that(not names & {"proxy-authorization", "proxy-connection", "via", "x-forwarded-for", "forwarded"}, f"{request.host} got {names} (PITFALLS 28)")
        flows = {flow["authority"].removesuffix(":443"): flow for flow in Store(sandbox).log()}
        unknown = flows.get("unknown.example.com", {})
        check.equal((unknown.get("outcome"), unknown.get("not_inspected"), unknown.get("method")), ("tunneled", "not-intercepted", "CONNECT"), "the unknown host in the log")
        check.that(unknown.get("request_bytes", 0) > 0 and unknown.get("response_bytes", 0) > 0, f"bytes of the tunnel: {unknown}")
        check.equal(flows.get("statsig.anthropic.com", {}).get("outcome"), "forwarded", "outcome of the telemetry host")


def exit_code() -> None:
    """The child's exit code is ours, a signal's included, and so is its output."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        for script, code in {"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143}.items():
            result = _run(sandbox, "--quiet", "--", "sh", "-c", f"echo out; echo err >&2; {script}")
            check.equal((result.code, result.stdout, result.stderr), (code, "out\n", "err\n"), f"code, stdout and stderr of `{script}`")


def missing_program() -> None:
    """A program that is not there: one line, and not a code that a child could mean."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        result = _run(sandbox, "--quiet", "--", "no-such-program-anywhere")
        check.that(result.code != 0, f"exit code of {result}")
        check.equal(len(result.stderr.strip().splitlines()), 1, f"lines on stderr: {result.stderr!r}")
        check.that("no-such-program-anywhere" in result.stderr, f"stderr does not name the program: {result.stderr!r}")


def no_proxy_no_child() -> None:
    """If the proxy cannot start, the child is not started."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        blocked, mark = sandbox.folder / "a-file", sandbox.work / "started"
        blocked.write_text("no folder")
        result = sandbox.run([binary(), "run", "--data-dir", str(blocked), "--", "touch", str(mark)])
        check.equal(result.code, 2, f"exit code of {result}")
        check.that(not mark.exists(), "the child was started")
        check.equal(len(result.stderr.strip().splitlines()), 1, f"lines on stderr: {result.stderr!r}")


def demo() -> None:
    """`plainsight demo`, from nothing: the screen, and a store that `log` and `show` read."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        result = store.command("demo")
        check.equal(result.code, 0, f"exit code of {result}")
        printed = result.stdout + result.stderr
        for name in ("first-party-events", "first-party-metrics", "feature-flags", "statsig", "datadog"):
            check.that(name in printed, f"the screen does not name {name}")
        for command in ("plainsight log", "plainsight show"):
            check.that(command in printed, f"`{command}` is not offered")
        wide = [line for line in printed.splitlines() if len(line) > 80]
        check.that(not wide, f"wider than 80 columns: {wide[:3]}")
        flows = store.log()
        check.that(any(flow["findings"] for flow in flows), f"no findings in {len(flows)} flows")
        if flows:
            json.loads(store.show(flows[0]["id"]))


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    named = [child_environment, children_get_through, exit_code, missing_program, no_proxy_no_child, demo]
    return [(f"run.{test.__name__.replace('_', '-')}" if test is not demo else "demo", test) for test in named]
