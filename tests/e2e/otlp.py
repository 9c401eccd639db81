"""OpenTelemetry as the real client exports it, with all that it says of content switched on: each protocol under
`plainsight run`, told of no host but by the client's own variables.
"""

import json
import secrets
from dataclasses import dataclass, field

import answers
import sdk_truth
from checks import Checks, origin_certificates
from clients import native
from forwarder import Forwarder
from origin import Answer, Origin, Request
from product import Store, to_origin
from real_client import direct_environment, store_run
from sandbox import Auth, Result, Sandbox, client_command

COLLECTOR = "otel.example.com"
# What must be found, by the last name of its path: issue 3, "What must be shown", 2.
WANTED = {"prompt", "tool_input", "tool_parameters", "response", "full_command", "output", "user.email"}
SIGNALS = {"logs", "metrics", "trace"}


@dataclass(frozen=True)
class Way:
    """How the client exports."""

    protocol: str
    scheme: str

    @property
    def authority(self) -> str:
        """The collector's."""
        return f"{COLLECTOR}:{4317 if self.protocol == 'grpc' else 4318}"

    def environment(self) -> dict[str, str]:
        """The client's own variables: every signal, all content, soon."""
        contents = ("USER_PROMPTS", "TOOL_DETAILS", "TOOL_CONTENT", "ASSISTANT_RESPONSES")
        return {
            "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
            "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
            **{f"OTEL_{signal}_EXPORTER": "otlp" for signal in ("METRICS", "LOGS", "TRACES")},
            **{f"OTEL_LOG_{content}": "1" for content in contents},
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_LOGS_EXPORT_INTERVAL": "1000",
            "OTEL_TRACES_EXPORT_INTERVAL": "1000",
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{self.scheme}://{self.authority}",
            "DISABLE_TELEMETRY": "1",
        }


WAYS = {
    "http-json": Way("http/json", "https"),
    "http-protobuf": Way("http/protobuf", "https"),
    "grpc-tls": Way("grpc", "https"),
    "grpc-h2c": Way("grpc", "http"),
}


def _address(name: str) -> str:
    return f"{name}.{secrets.token_hex(4)}@example.com"


@dataclass
class Conversation:
    """What is planted in the model's part: the command, what it prints, the last answer."""

    command: str = field(default_factory=lambda: _address("carol"))
    output: str = field(default_factory=lambda: _address("dave"))
    answer: str = field(default_factory=lambda: _address("erin"))

    @property
    def text(self) -> str:
        """The last answer."""
        return f"Ask {self.answer} for more."

    def on(self, origin: Origin, sandbox: Sandbox) -> None:
        """Makes the origin say it, and the command print what it must."""
        (sandbox.work / "note.txt").write_text(f"written by {self.output}\n")
        origin.on("POST", path="/v1/messages", answer=self._answer)

    def _answer(self, request: Request) -> Answer:
        return answers.messages(request, f"cat note.txt; : {self.command}", self.text)


def exports(way: Way) -> None:
    """The signed-in client: decoded, found, and its output as without plainsight."""
    plain = _direct(way)
    said = Conversation()
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.SIGNED_IN) as sandbox, Checks() as check:
        said.on(origin, sandbox)
        store = Store(sandbox)
        result = run(sandbox, store, origin, way, "--quiet")
        requests = [request for request in origin.requests() if request.host == COLLECTOR]
        check.equal(origin.faults(), [], "breaches of HTTP at the origin")
        check.equal(result.code, plain.code, f"exit code of {result}")
        check.equal(result.stdout, f"{said.text}\n", "stdout")
        check.equal((len(result.stdout.splitlines()), result.stderr), (len(plain.stdout.splitlines()), plain.stderr), "lines on stdout, and stderr")

        check.equal({sdk_truth.signal(request) for request in requests}, SIGNALS, "signals at the origin")
        flows = [flow for flow in store.log() if flow["authority"] == way.authority]
        check.equal(sorted((f["path"], f["request_bytes"]) for f in flows), sorted((r.target, len(r.body)) for r in requests), "requests in the log")
        planted = {said.command, said.output, said.answer, sandbox.identity.email, "bob@example.com"}
        found_names: set[str] = set()
        for request in requests:
            about = f"{sdk_truth.signal(request)} of {len(request.body)} bytes"
            check.equal(request.scheme, way.scheme, f"{about}: scheme")
            check.equal(request.protocol, "HTTP/2" if way.protocol == "grpc" else "HTTP/1.1", f"{about}: protocol")
            flow = next((f for f in flows if (f["path"], f["request_bytes"]) == (request.target, len(request.body))), None)
            if flow is None:
                continue
            # Two exports of one signal can be of one length: each flow counts once, in order of arrival.
            flows.remove(flow)
            check.equal((flow["destination"], flow["not_inspected"], flow["outcome"]), ("otlp", None, "forwarded"), f"{about}: destination, not_inspected, outcome")
            found_names |= _check_found(check, about, request, flow, planted)
            for reading in sdk_truth.otlp(request):
                sdk_truth.check_fields(check, about, reading, json.loads(store.show(flow["id"])))
        missing = WANTED - found_names
        check.that(not missing, f"found nowhere: {sorted(missing)}; found {sorted(found_names)}")
        kept = store.everything_stored()
        # PITFALLS 33: the same probe must see what is there.
        check.that(COLLECTOR.encode() in kept, "the probe for leaks sees nothing at all")
        for value in planted:
            check.that(value.encode() not in kept, f"{value} stands in clear in the store")


def settings(way: Way, how: str) -> None:
    """The variables stand in settings of the client: `run` sets its own by `--settings`, and says so."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        Conversation().on(origin, sandbox)
        store = Store(sandbox)
        files = {"user": sandbox.home / ".claude" / "settings.json", "local": sandbox.work / ".claude" / "settings.local.json", "flag": sandbox.folder / "own.json"}
        files[how].parent.mkdir(exist_ok=True)
        # A project's own files may not switch telemetry on, and may say where it goes.
        named = {name: value for name, value in way.environment().items() if how != "local" or name.endswith("_ENDPOINT")}
        others = {name: value for name, value in way.environment().items() if name not in named}
        files[how].write_text(json.dumps({"env": named, "includeCoAuthoredBy": False}))
        flags = ["--settings", str(files[how])] if how == "flag" else []
        result = store_run(sandbox, store, origin, [*to_origin(origin), "--", *client_command(native()), *flags], **others)
        requests = [request for request in origin.requests() if request.host == COLLECTOR]
        flows = [flow for flow in store.log() if flow["authority"] == way.authority and flow["method"] == "POST"]
        check.equal(result.code, 0, f"exit code of {result}")
        check.that(f"OTLP for {way.scheme}://{way.authority} is received at http://127.0.0.1:" in result.stderr, f"stderr does not say so: {result.stderr}")
        check.that("sets OTEL_EXPORTER_OTLP_ENDPOINT; --settings sets it to ours" in result.stderr, f"stderr does not say how: {result.stderr}")
        check.equal({sdk_truth.signal(request) for request in requests}, SIGNALS, "signals at the origin")
        check.equal(sorted((f["path"], f["request_bytes"]) for f in flows), sorted((r.target, len(r.body)) for r in requests), "requests in the log")
        check.that(all(request.header("user-agent") for request in requests), "an export without a user agent")
        check.equal(origin.faults(), [], "breaches of HTTP at the origin")


def straight_to_this_machine(way: Way) -> None:
    """A collector on this machine, which no proxy variable reaches: it is recorded all the same."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        Conversation().on(origin, sandbox)
        store = Store(sandbox)
        variables = way.environment() | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{origin.port}"}
        result = store_run(sandbox, store, origin, [*to_origin(origin), "--", *client_command(native())], **variables)
        authority = f"127.0.0.1:{origin.port}"
        requests = [request for request in origin.requests() if request.authority == authority]
        flows = [flow for flow in store.log() if flow["authority"] == authority and flow["destination"] == "otlp"]
        check.equal(result.code, 0, f"exit code of {result}")
        check.equal({sdk_truth.signal(request) for request in requests}, SIGNALS, "signals at the origin")
        check.equal(sorted((f["path"], f["request_bytes"]) for f in flows), sorted((r.target, len(r.body)) for r in requests), "requests in the log")


def run(sandbox: Sandbox, store: Store, origin: Origin, way: Way, *flags: str, without: tuple[str, ...] = ()) -> Result:
    """The client under `plainsight run`, with its own variables and no flag that names the collector."""
    extra = {name: value for name, value in way.environment().items() if name not in without}
    return store_run(sandbox, store, origin, [*to_origin(origin), *flags, "--", *client_command(native())], **extra)


def _direct(way: Way) -> Result:
    with Origin(origin_certificates(), answers.answer) as origin, Forwarder(origin.port) as forwarder, Sandbox(Auth.SIGNED_IN) as sandbox:
        Conversation().on(origin, sandbox)
        environment = direct_environment(forwarder, origin) | way.environment() | {"grpc_proxy": forwarder.url}
        result = sandbox.run(client_command(native()), **environment)
        sent = {sdk_truth.signal(request) for request in origin.requests() if request.host == COLLECTOR}
    with Checks() as check:
        check.equal(sent, SIGNALS, "signals of the direct run")
    return result


def _check_found(check: Checks, about: str, request: Request, flow: dict, planted: set[str]) -> set[str]:
    """Each planted value has a finding wherever the origin's own reading sees it. The attributes that were found."""
    found = {finding["path"].split(":", 1)[1] for finding in flow["findings"]}
    names = set()
    for reading in sdk_truth.otlp(request):
        for value in planted:
            places = reading.places(value)
            missing = places - found
            check.that(not missing, f"{about}: no finding for {value} at {sorted(missing)[:4]}")
            names |= {_attribute(path) for path in places & found}
    return names


def _attribute(path: str) -> str:
    """The attribute that a path leads into."""
    return path.rsplit("/attributes/", 1)[-1].split("/", 1)[0]


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    listed: list[tuple[str, object]] = [(f"otlp.{name}", lambda w=way: exports(w)) for name, way in WAYS.items()]
    listed += [(f"otlp.settings.{name}", lambda w=way: settings(w, "user")) for name, way in WAYS.items()]
    listed += [(f"otlp.settings.{how}", lambda h=how: settings(WAYS["grpc-tls"], h)) for how in ("local", "flag")]
    return listed + [(f"otlp.this-machine.{name}", lambda n=name: straight_to_this_machine(WAYS[n])) for name in ("grpc-h2c", "http-json")]
