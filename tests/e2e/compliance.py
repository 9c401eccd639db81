"""`plainsight check` on the real client: both versions, each switch, each way to say it. Verdicts are exactly what was
measured, and every pass is shown to be one that could have failed.
"""

import copy
import json
import xml.etree.ElementTree as ET

import answers
import clients
from checks import Checks, origin_certificates
from clients import REPOSITORY, Client
from origin import Origin
from product import Store, binary, to_origin
from sandbox import Auth, Result, Sandbox, client_command

COLUMNS = ["first-party-metrics", "first-party-events", "feature-flags", "statsig"]

# The table of what the switches do, as it was measured: whom a client sends something all the same.
MASTER = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"
CONTROL = {"DISABLE_TELEMETRY": "disable-telemetry", "DO_NOT_TRACK": "do-not-track", MASTER: "nonessential-traffic"}
EXPECTED = {
    "2.1.329": {"DISABLE_TELEMETRY": set(), "DO_NOT_TRACK": set(), MASTER: set()},
    "2.0.14": {
        "DISABLE_TELEMETRY": {"first-party-metrics"},
        "DO_NOT_TRACK": {"first-party-metrics", "statsig"},
        MASTER: {"first-party-metrics"},
    },
}
DEFAULTS = {"2.1.329": {"first-party-metrics", "first-party-events", "feature-flags"}, "2.0.14": {"first-party-metrics", "statsig"}}

# How a switch is said: the environment, the same with a value that looks off, or a settings file.
CASES = {
    "nothing": (None, {}, None),
    "disable-telemetry": ("DISABLE_TELEMETRY", {"DISABLE_TELEMETRY": "1"}, None),
    "do-not-track": ("DO_NOT_TRACK", {"DO_NOT_TRACK": "1"}, None),
    "nonessential": (MASTER, {MASTER: "1"}, None),
    "looks-off": ("DISABLE_TELEMETRY", {"DISABLE_TELEMETRY": "0"}, None),
    "settings-file": ("DISABLE_TELEMETRY", {}, {"env": {"DISABLE_TELEMETRY": "1"}}),
}


def matrix(client: Client, case: str) -> None:
    """One cell row of the table, and each of its passes taken away and broken."""
    switch, environment, settings = CASES[case]
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        if settings:
            (sandbox.home / ".claude" / "settings.json").write_text(json.dumps(settings))
        verdicts = sandbox.folder / "verdicts.json"
        arguments = ["--quiet", "--check", "--format", "json", "--output", str(verdicts), *to_origin(origin), "--", *client_command(client)]
        run = sandbox.run([binary(), "run", *arguments], PLAINSIGHT_DATA_DIR=store.folder, NODE_EXTRA_CA_CERTS=origin.root, **environment)
        check.equal(run.stdout, f"{answers.FINAL_TEXT}\n", f"stdout of {run}")
        report = json.loads(verdicts.read_text())
        subject = report["subjects"][0]
        check.equal(subject["client_version"], client.version, "client version")
        check.equal(subject["coverage"]["ended"], "by-itself", "how the run ended")
        results = {result["id"]: result for result in subject["results"]}

        if switch is None:
            told = {told["destination"] for told in subject["unpromised"]}
            check.equal(told & set(COLUMNS), DEFAULTS[client.version], "destinations that were sent something without any promise")
            check.equal([name for name in results if not name.startswith("otel-opt-in")], [], "promises in force without any switch")
            check.equal(results["otel-opt-in/otlp"]["verdict"], "pass", "OpenTelemetry, which is opt-in")
            check.equal(run.code, 0, f"exit code of {run}")
            return

        control, sent = CONTROL[switch], EXPECTED[client.version][switch]
        for destination in COLUMNS:
            result = results[f"{control}/{destination}"]
            check.equal(result["verdict"], "fail" if destination in sent else "pass", f"{client.version} {case} {destination}: {result}")
            if destination in sent:
                flows = {evidence["flow"] for evidence in result["evidence"]}
                logged = {flow["id"] for flow in store.log() if flow["destination"] == destination}
                # A connection that broke before it could be read is contact, too, and has no destination in the log.
                check.that(flows & logged, f"records that {destination} fails by: {flows} of {logged}")
                check.that(result["evidence_total"] >= len(logged) > 0, f"number of records that {destination} fails by: {result['evidence_total']} of {len(logged)}")
        failed = {name for name, result in results.items() if result["verdict"] == "fail" and result["is_binding"]}
        check.equal(run.code, 1 if failed else 0, f"exit code of {run}")
        source = next(told for told in subject["told"]["switches"] if told["name"] == switch)
        check.equal(source["state"], "on", f"state of {source}")
        check.equal(source["setting"]["layer"], "user" if settings else "process", f"layer of {source}")
        check.equal(bool(source.get("misreading")), case == "looks-off", f"misreading of {source}")

        passed = [destination for destination in COLUMNS if destination not in sent]
        _flips(check, sandbox, store, switch, control, passed)


def _flips(check: Checks, sandbox: Sandbox, store: Store, switch: str, control: str, passed: list[str]) -> None:
    """Each pass becomes `inconclusive` without its positive control, and `fail` with one forged request."""
    har = sandbox.folder / "run.har"
    written = store.command("log", "--har", str(har))
    check.equal(written.code, 0, f"exit code of {written}")
    recording = json.loads(har.read_text())

    as_it_was = _verdicts(store, sandbox, recording, switch)
    for destination in passed:
        check.equal(as_it_was[f"{control}/{destination}"], "pass", f"{destination}, from the run's own recording")

    silenced = copy.deepcopy(recording)
    silenced["log"]["entries"] = [entry for entry in recording["log"]["entries"] if "/v1/messages" not in entry["request"]["url"]]
    check.that(len(silenced["log"]["entries"]) < len(recording["log"]["entries"]), "the run's recording holds no conversation")
    without = _verdicts(store, sandbox, silenced, switch)
    for destination in passed:
        check.equal(without[f"{control}/{destination}"], "inconclusive", f"{destination}, without a conversation")

    for destination in passed:
        forged = copy.deepcopy(recording)
        forged["log"]["entries"].append(_forged(FORGED[destination]))
        verdict = _verdicts(store, sandbox, forged, switch)[f"{control}/{destination}"]
        check.equal(verdict, "fail", f"{destination}, with one request to {FORGED[destination]}")


FORGED = {
    "first-party-metrics": "https://api.anthropic.com/api/claude_code/metrics",
    "first-party-events": "https://api.anthropic.com/api/event_logging/v2/batch",
    "feature-flags": "https://api.anthropic.com/api/eval/x",
    "statsig": "https://statsig.anthropic.com/v1/rgstr",
}


def _forged(url: str) -> dict:
    return {
        "startedDateTime": "2026-11-21T09:00:00.000Z",
        "time": 1,
        "request": {
            "method": "POST",
            "url": url,
            "httpVersion": "HTTP/1.1",
            "headers": [{"name": "content-type", "value": "application/json"}],
            "queryString": [],
            "cookies": [],
            "headersSize": -1,
            "bodySize": 2,
            "postData": {"mimeType": "application/json", "text": "{}"},
        },
        "response": {
            "status": 200,
            "statusText": "",
            "httpVersion": "HTTP/1.1",
            "headers": [],
            "cookies": [],
            "content": {"size": 0, "mimeType": ""},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": 0,
        },
        "cache": {},
        "timings": {"send": 0, "wait": 1, "receive": 0},
    }


def _verdicts(store: Store, sandbox: Sandbox, recording: dict, switch: str) -> dict[str, str]:
    file = sandbox.folder / "checked.har"
    file.write_text(json.dumps(recording))
    result = store.command("check", str(file), "--assume", f"{switch}=1", "--complete", "--json")
    assert result.stdout, f"nothing from {result}"
    return {result["id"]: result["verdict"] for result in json.loads(result.stdout)["subjects"][0]["results"]}


def live_forgery(client: Client) -> None:
    """One request that a child sends beside the client is seen in the run itself; a client that fails ends the run with its own code."""
    script = '"$@" && curl -sS -X POST -H "content-type: application/json" -d "{}" https://api.anthropic.com/api/claude_code/metrics'
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        extra = {"PLAINSIGHT_DATA_DIR": store.folder, "NODE_EXTRA_CA_CERTS": origin.root, "DISABLE_TELEMETRY": "1"}
        command = [binary(), "run", "--quiet", "--check", *to_origin(origin), "--"]
        forged = sandbox.run([*command, "sh", "-c", script, "sh", *client_command(client)], **extra)
        check.equal(forged.code, 1, f"exit code of {forged}")
        check.that("fail" in forged.stderr and "/api/claude_code/metrics" in forged.stderr, f"the table: {forged}")
        nothing = sandbox.run([*command, "true"], **extra)
        check.equal(nothing.code, 2, f"exit code of {nothing}")
        own = sandbox.run([*command, "sh", "-c", "exit 7"], **extra)
        check.equal(own.code, 7, f"exit code of {own}")
        signalled = sandbox.run([*command, "sh", "-c", "kill -9 $$"], **extra)
        check.equal(signalled.code, 137, f"exit code of {signalled}")


def claims_live(client: Client) -> None:
    """The published statements against a run that uses a tool."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        run = sandbox.run(
            [binary(), "run", "--quiet", *to_origin(origin), "--", *client_command(client)],
            PLAINSIGHT_DATA_DIR=store.folder,
            NODE_EXTRA_CA_CERTS=origin.root,
        )
        check.equal(run.code, 0, f"exit code of {run}")
        report = json.loads(store.command("check", "--json").stdout)
        verdicts = {claim["id"]: claim["verdict"] for claim in report["subjects"][0]["claims"]}
        # The client may end before its last batch is out. Then a statement about prompts is untested, and has to say so.
        events = "".join(store.show(flow["id"]) for flow in store.log() if flow["destination"] == "first-party-events")
        prompts = "upheld" if '"tengu_input_prompt"' in events else "untested"
        tools = "upheld" if '"tengu_tool_use_success"' in events or '"tengu_bash_tool_command_executed"' in events else "untested"
        expected = {
            "no-personal-identifier": "refuted",
            "no-prompt": prompts,
            "no-file-contents": "upheld",
            "no-command-output": tools,
            "one-endpoint": "refuted",
            "never-code-prompts-paths": "upheld",
            "disable-telemetry-stops-metrics": "untested",
        }
        why = {claim["id"]: claim["because"] for claim in report["subjects"][0]["claims"]}
        check.equal(verdicts, expected, f"claims ({why})")
        refuted = next(claim for claim in report["subjects"][0]["claims"] if claim["id"] == "no-personal-identifier")
        check.that(any("device_id" in (evidence.get("path") or "") for evidence in refuted["evidence"]), f"no device id among {refuted['evidence'][:3]}")
        counted = store.command("check", "--claims", "--json")
        check.equal(counted.code, 1, f"exit code with --claims: {counted.stderr}")


def formats() -> None:
    """JUnit loads in a parser, SARIF validates against its schema, both say what the table says."""
    import jsonschema
    import junitparser

    recording = REPOSITORY / "tests" / "fixtures" / "recordings" / "2.1.329-signed-in.har"
    schema = json.loads((REPOSITORY / "tests" / "fixtures" / "sarif" / "sarif-2.1.0.schema.json").read_text())
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        asked = ["check", str(recording), "--assume", "DISABLE_TELEMETRY=1", "--complete", "--deny", "category:content", "--claims"]
        tally = json.loads(store.command(*asked, "--json").stdout)["tally"]
        check.that(tally["fail"] > 0 and tally["inconclusive"] > 0, f"the recording should give failures and open verdicts: {tally}")

        sarif = json.loads(store.command(*asked, "--format", "sarif").stdout)
        problems = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(sarif)]
        check.equal(problems, [], "breaches of the SARIF schema")
        broken = copy.deepcopy(sarif)
        broken["runs"][0]["results"][0]["level"] = "terrible"
        check.that(list(jsonschema.Draft7Validator(schema).iter_errors(broken)), "the schema takes anything")
        rules = {rule["id"] for rule in sarif["runs"][0]["tool"]["driver"]["rules"]}
        check.equal({result["ruleId"] for result in sarif["runs"][0]["results"]} - rules, set(), "results without a rule")

        text = store.command(*asked, "--format", "junit").stdout
        suites = junitparser.JUnitXml.fromstring(text.encode())
        ET.fromstring(text)
        cases = [case for suite in suites for case in suite]
        failed = [case for case in cases if any(isinstance(result, junitparser.Failure) for result in case.result)]
        check.equal(suites.tests, len(cases), "number of cases")
        check.equal(suites.failures, len(failed), "number of failures")
        check.that(len(failed) >= tally["fail"], f"{len(failed)} failures in JUnit, {tally} in JSON")

        table = store.command(*asked)
        check.equal(table.code, 1, f"exit code of {table}")
        wide = [line for line in table.stdout.splitlines() if len(line) > 80]
        check.equal(wide, [], "lines of more than 80 columns")
        markdown = store.command(*asked, "--format", "markdown").stdout
        check.that("| **fail** | disable-telemetry |" in markdown, f"no failure in {markdown[:400]}")


def baseline_and_diff(client: Client) -> None:
    """An accepted failure ends a check with 0 until its day; `diff` names what a switch took away."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        command = [binary(), "run", "--quiet", *to_origin(origin), "--", *client_command(client)]
        extra = {"PLAINSIGHT_DATA_DIR": store.folder, "NODE_EXTRA_CA_CERTS": origin.root}
        for environment in ({}, {"DISABLE_TELEMETRY": "1"}):
            run = sandbox.run(command, **extra, **environment)
            check.equal(run.code, 0, f"exit code of {run}")
        baseline = sandbox.folder / "baseline.toml"
        row = '[[accept]]\nresult = "disable-telemetry/first-party-metrics"\nreason = "an old client, until it is replaced"\nexpires = "{}"\n'
        baseline.write_text("schema = 1\n" + row.format("2999-12-31"))
        check.equal(store.command("check").code, 1, "exit code without a baseline")
        accepted = store.command("check", "--baseline", str(baseline))
        check.equal(accepted.code, 0, f"exit code with it: {accepted}")
        check.that("accepted until 2999-12-31" in accepted.stdout, f"the table: {accepted.stdout}")
        baseline.write_text("schema = 1\n" + row.format("2020-01-01"))
        expired = store.command("check", "--baseline", str(baseline))
        check.equal(expired.code, 1, f"exit code when it has expired: {expired}")

        drift = json.loads(store.command("diff", "1", "2", "--json").stdout)
        went = {(thing["kind"], thing["name"]) for thing in drift["went"]}
        check.that(("destination", "statsig") in went, f"statsig is not among what went: {sorted(went)[:10]}")
        check.that(any(kind == "event" for kind, _ in went), f"no event is among what went: {sorted(went)[:10]}")
        check.equal(json.loads(store.command("diff", "2", "1", "--json").stdout)["came"], drift["went"], "the other way round")
        check.equal(store.command("diff", "1", "1", "--exit-code").code, 0, "exit code of a run against itself")


def doctor() -> None:
    """Values that do not mean what they look like, names that are none, what waits to be sent."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        settings = {"env": {"DO_NOT_TRACK": "0", "DISABLE_BUG_COMMAND": "1"}}
        (sandbox.home / ".claude" / "settings.json").write_text(json.dumps(settings))
        spool = sandbox.home / ".claude" / "telemetry"
        spool.mkdir()
        (spool / "1p_failed_events.a.b.json").write_text("x" * 2048)
        secret = "not-to-be-printed-" * 3
        said = sandbox.run([binary(), "doctor", "--json"], DISABLE_TELEMETRY="false", DO_NOT_TRACK="1", DISABLE_TELEMTRY="1", CLAUDE_CODE_DISABLE_TELEMETRY=secret)
        check.equal(said.code, 1, f"exit code of {said}")
        check.that(secret not in said.stdout, "a value that may be a secret is printed")
        found = json.loads(said.stdout)
        switches = {switch["name"]: switch for switch in found["told"]["switches"]}
        check.equal(switches["DISABLE_TELEMETRY"]["state"], "on", "DISABLE_TELEMETRY=false")
        check.equal(switches["DO_NOT_TRACK"]["state"], "off", "DO_NOT_TRACK, which the file sets")
        check.equal(switches["DO_NOT_TRACK"]["setting"]["file"], "~/.claude/settings.json", "where DO_NOT_TRACK comes from")
        check.equal(found["spool"], {"files": 1, "bytes": 2048}, "what waits to be sent")
        about = {warning["about"]: warning["what"] for warning in found["warnings"]}
        for name, expected in {
            "DISABLE_TELEMETRY": "looks off, and is on",
            "DO_NOT_TRACK": "does not count",
            "DISABLE_BUG_COMMAND": "was renamed",
            "CLAUDE_CODE_DISABLE_TELEMETRY": "does nothing",
            "DISABLE_TELEMTRY": "did you mean DISABLE_TELEMETRY",
            "spool": "will be sent later",
        }.items():
            check.that(expected in about.get(name, ""), f"nothing like `{expected}` about {name}: {about}")
        quiet = sandbox.run([binary(), "doctor"], HOME=sandbox.temporary)
        check.equal(quiet.code, 0, f"exit code of {quiet}")


def service() -> None:
    """What is assumed of the clients of `proxy` is kept with its run, and its end is not the client's."""
    from product import Proxy

    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        with Proxy(sandbox, origin, "--assume", "DISABLE_TELEMETRY=1") as proxy:
            send = ["curl", "-sS", "--proxy", proxy.url, "--cacert", str(proxy.store.ca()), "-H", "user-agent: claude-cli/2.1.329 (external, cli)"]
            sent = sandbox.run([*send, "-d", '{"model":"x","messages":[]}', "https://api.anthropic.com/v1/messages"])
            check.equal(sent.code, 0, f"exit code of {sent}")
        result: Result = proxy.store.command("check", "--json")
        check.equal(result.code, 2, f"exit code of {result}")
        metrics = next(it for it in json.loads(result.stdout)["subjects"][0]["results"] if it["id"] == "disable-telemetry/first-party-metrics")
        check.equal([missing["what"] for missing in metrics["missing"]], ["time"], f"what is missing of {proxy.store.log()}")
        complete = proxy.store.command("check", "--complete")
        check.equal(complete.code, 0, f"exit code of {complete}")


def tests() -> list[tuple[str, object]]:
    """The tests of this file by name."""
    listed: list[tuple[str, object]] = []
    for make in (clients.native, clients.javascript):
        version = {clients.native: "2.1.329", clients.javascript: "2.0.14"}[make]
        for case in CASES:
            listed.append((f"compliance.{version}.{case}", lambda make=make, case=case: matrix(make(), case)))
    listed += [
        ("compliance.live-forgery", lambda: live_forgery(clients.native())),
        ("compliance.claims", lambda: claims_live(clients.native())),
        ("compliance.formats", formats),
        ("compliance.baseline-and-diff", lambda: baseline_and_diff(clients.javascript())),
        ("compliance.doctor", doctor),
        ("compliance.service", service),
    ]
    return listed
