"""`plainsight export otlp` in each protocol, read by the official protobuf package; and `usage` from an answer that passed by."""

import gzip
import json
import secrets
import subprocess
import time

import answers
import clients
from checks import Checks, origin_certificates
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from origin import Answer, Origin, Request
from product import Proxy, Store
from sandbox import Auth, Sandbox


def exports(protocol: str, scheme: str) -> None:
    """The records of a demo: each once, with a refusal in between, and nothing the second time."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        check.equal(store.command("demo").code, 0, "exit code of the demo")
        refused: list[Request] = []

        def once_unavailable(request: Request) -> Answer:
            if refused:
                return answers.answer(request)
            refused.append(request)
            return Answer(status=503, headers=[("retry-after", "1")])

        origin.on("POST", answer=once_unavailable)
        command = ["export", "otlp", "--endpoint", f"{scheme}://localhost:{origin.port}", "--protocol", protocol, "--upstream-ca", str(origin.root)]
        first, second = store.command(*command), store.command(*command)
        check.equal((first.code, second.code), (0, 0), f"exit codes of {first} and {second}")
        check.that("0 records delivered" in second.stderr, f"the second export says {second.stderr!r}")
        requests = [request for request in origin.requests() if request is not refused[0]]
        records = [record for request in requests for record in _records(request)]
        ids = [_attributes(record)["plainsight.flow.id"].string_value for record in records]
        flows = {flow["id"]: flow for flow in store.log()}
        check.equal(sorted(ids), sorted(flows), "flows that arrived")
        for record in records:
            attributes = _attributes(record)
            flow = flows[attributes["plainsight.flow.id"].string_value]
            check.equal(attributes["plainsight.destination"].string_value, flow["destination"], "destination")
            check.equal(attributes["plainsight.findings.count"].int_value, len(flow["findings"]), "findings")
            check.equal(record.event_name, "plainsight.flow", "event name")
        check.equal(origin.faults(), [], "breaches of HTTP at the origin")


def _records(request: Request) -> list:
    kind = (request.header("content-type") or "").split(";")[0]
    if kind == "application/json":
        message = Parse(request.body, ExportLogsServiceRequest())
    else:
        message = ExportLogsServiceRequest.FromString(request.body[5:] if kind == "application/grpc" else request.body)
    return [record for resource in message.resource_logs for scope in resource.scope_logs for record in scope.log_records]


def _attributes(record: object) -> dict:
    return {pair.key: pair.value for pair in record.attributes}


def usage() -> None:
    """An answer that passes by is learnt, compressed as it is; it arrives unchanged, and the account's part is not kept."""
    mark = secrets.token_hex(8)
    windows = {"five_hour": {"utilization": 42.4, "resets_at": "2999-01-01T00:00:00+00:00"}, "seven_day": {"utilization": 7, "resets_at": None}}
    body = gzip.compress(json.dumps(windows | {"account": {"email": f"{mark}@example.com"}}).encode())
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        headers = [("content-type", "application/json"), ("content-encoding", "gzip"), ("content-length", str(len(body)))]
        origin.on("GET", path="/api/oauth/usage", status=200, headers=headers, body=body)
        with Proxy(sandbox, origin) as proxy:
            before = proxy.store.command("usage")
            target = sandbox.folder / "answer"
            curl = [clients.tool("curl"), "--disable", "--silent", "--show-error", "--proxy", proxy.url, "--cacert", str(proxy.store.ca()), "--output", str(target)]
            subprocess.run([*curl, "https://api.anthropic.com/api/oauth/usage"], check=True, env=sandbox.environment())
            # It is written down while the answer is on its way, and waited for by nobody.
            deadline = time.monotonic() + 10
            while (after := proxy.store.command("usage")).code and time.monotonic() < deadline:
                time.sleep(0.05)
        check.equal(target.read_bytes(), body, "what the client got")
        check.equal((before.code, before.stdout), (1, ""), f"before: {before}")
        check.that(after.stdout.startswith("5h ▓▓▓░░░░░ 42% "), f"after: {after}")
        check.that("7d ▓░░░░░░░ 7% · " in after.stdout, f"after: {after}")
        check.that(mark.encode() not in proxy.store.everything_stored(), "the account's e-mail is in the store")
        check.equal(len(origin.requests()), 1, "requests at the origin: `usage` makes none")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    ways = [("http/protobuf", "http"), ("http/json", "https"), ("grpc", "http"), ("grpc", "https")]
    listed: list[tuple[str, object]] = [(f"export.{protocol.replace('/', '-')}-{scheme}", lambda p=protocol, s=scheme: exports(p, s)) for protocol, scheme in ways]
    return [*listed, ("usage", usage)]
