"""`plainsight scan` says of a recording what the live run said: the recording is `log --har` of a run whose bodies
were kept whole.
"""

import json
from collections import Counter

import answers
import otlp
from checks import Checks, json_lines, origin_certificates
from clients import javascript
from origin import Origin
from product import Store, to_origin
from real_client import store_run
from sandbox import Auth, Sandbox, client_command


def live_equals_scan(name: str) -> None:
    """The same findings, request by request."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.SIGNED_IN) as sandbox, Checks() as check:
        store = Store(sandbox)
        if name == "2.0.14":
            command = [*to_origin(origin), "--quiet", "--capture", "full", "--", *client_command(javascript())]
            result = store_run(sandbox, store, origin, command)
        else:
            otlp.Conversation().on(origin, sandbox)
            # With the vendor's own telemetry on, too.
            way = otlp.WAYS[name]
            result = otlp.run(sandbox, store, origin, way, "--quiet", "--capture", "full", without=("DISABLE_TELEMETRY",))
        check.equal(result.code, 0, f"exit code of {result}")

        file = sandbox.folder / "recording.har"
        written = store.command("log", "--har", str(file))
        check.equal(written.code, 0, f"`log --har`: {written}")
        masked = _masked_in_targets(json.loads(file.read_text()))
        scanned = store.command("scan", "--json", str(file))
        check.equal(scanned.code, 0, f"`scan --json`: {scanned}")

        live = store.log()
        again = json_lines(scanned.stdout)
        check.equal(sum(map(len, (f["findings"] for f in live))) > 50, True, "there is enough to compare")
        check.equal(len(again), len(live), "requests")
        before, after = Counter(map(_facts, live)), Counter(map(_facts, again))
        for facts in before - after:
            twin = next((other for other in after - before if other[:3] == facts[:3]), None)
            check.that(twin, f"scan has no {facts[:4]}")
            if twin:
                check.equal(twin[3], facts[3], f"not_inspected of {facts[:3]}")
                lost, new = Counter(dict(facts[4])) - Counter(dict(twin[4])), Counter(dict(twin[4])) - Counter(dict(facts[4]))
                # The store keeps a target only with its identifiers masked: the recording tells of those itself.
                lost = +Counter({found: count for found, count in lost.items() if (facts[1], *found) not in masked})
                check.that(not lost, f"{facts[:3]}: {lost.total()} findings of the live run are lost: {list(lost.items())[:5]}")
                check.that(not new, f"{facts[:3]}: {new.total()} findings are new: {list(new.items())[:5]}")


def _masked_in_targets(har: dict) -> set[tuple[str, str, str]]:
    """Target, rule and path of each finding whose value is masked in the target itself."""
    found = set()
    for entry in har["log"]["entries"]:
        target = "/" + entry["request"]["url"].split("/", 3)[3]
        if "***" in target:
            places = (f for f in entry["_plainsight"]["findings"] if f["path"].startswith(("path:", "query:")))
            found |= {(target, finding["rule"], finding["path"]) for finding in places}
    return found


def _facts(flow: dict) -> tuple:
    """What must be the same: who was told, what was not read, and which rule found how much where."""
    findings = Counter((finding["rule"], finding["path"]) for finding in flow["findings"])
    return (flow["method"], flow["path"], flow["destination"], flow["not_inspected"], tuple(sorted(findings.items())), flow["authority"])


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    names = ["2.0.14", "http-json", "http-protobuf", "grpc-tls"]
    return [(f"scan.live-equals-scan.{name}", lambda n=name: live_equals_scan(n)) for name in names]
