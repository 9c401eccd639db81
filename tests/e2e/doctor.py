"""`plainsight doctor` proves the way to the proxy: programs of each runtime are started, and each fault has its name and fix."""

import json
import os
import re
import subprocess
from pathlib import Path

import answers
from checks import Checks, origin_certificates
from clients import native, tool
from origin import Origin
from product import Proxy, binary
from sandbox import Auth, Result, Sandbox

PROXIES = ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "grpc_proxy"]
ROOTS = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]
# Port 1 of a machine is nobody's.
STALE = {name: "http://127.0.0.1:1" for name in PROXIES}


def _node_asks_proxies() -> bool:
    """Whether the installed Node knows `NODE_USE_ENV_PROXY`."""
    said = subprocess.run([tool("node"), "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
    return version >= (24, 5) or (22, 21) <= version < (23, 0)


def _verdicts(result: Result) -> tuple[dict, dict[str, str]]:
    said = json.loads(result.stdout)
    return said, {trial["runtime"]: trial["verdict"] for trial in said["probing"]["trials"]}


def _expected(verdict: str) -> dict[str, str]:
    """What each runtime comes to; a Node that knows no proxy goes around whatever is set."""
    node = verdict if _node_asks_proxies() else "around"
    return {"curl": verdict, "Node: fetch": node, "Node: https": node, "Python: urllib": verdict, "the client": verdict}


def faults() -> None:
    """A sound set-up and four broken ones: who would be seen, and what to do. Nobody outside is asked."""
    program = native().command[0]
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"
        with Proxy(sandbox, origin) as proxy:
            printed = proxy.store.command("env", "--format", "json", "--listen", proxy.url.removeprefix("http://"))
            sound = json.loads(printed.stdout)
            cases = {
                "sound": ({}, _expected("seen"), {}),
                "NO_PROXY=*": ({"NO_PROXY": "*", "no_proxy": "*"}, _expected("around"), {"NO_PROXY": "holds `*`", "curl": "out of NO_PROXY"}),
                "upper case only": ({name: "" for name in PROXIES if name.islower()}, _expected("seen"), {"HTTPS_PROXY": "set https_proxy=http://"}),
                "CA not trusted": ({name: "" for name in ROOTS}, _expected("untrusted"), {"curl": "CURL_CA_BUNDLE", "Python: urllib": "SSL_CERT_FILE", "the client": "NODE_EXTRA_CA_CERTS"}),
                "stale port": (STALE, {}, {"proxy": "nothing listens at 127.0.0.1:1: every connection fails; start `plainsight proxy --listen"}),
            }
            for case, (changes, expected, warnings) in cases.items():
                variables = {name: value for name, value in (sound | changes).items() if value}
                result = sandbox.run([binary(), "doctor", "--json"], 120, PLAINSIGHT_DATA_DIR=proxy.store.folder, PATH=path, **variables)
                said, verdicts = _verdicts(result)
                verdicts.pop("Python: requests", None)
                check.equal(verdicts, expected, f"{case}: {said['probing']}")
                about = {warning["about"]: warning["what"] for warning in said["warnings"]}
                for name, part in warnings.items():
                    check.that(part in about.get(name, ""), f"{case}: nothing like `{part}` about {name}: {about}")
                is_sound = not about and set(verdicts.values()) <= {"seen"} and bool(verdicts)
                check.equal(result.code, 0 if is_sound else 1, f"{case}: exit code")
                secret = sandbox.identity.api_key
                check.that(secret not in result.stdout + result.stderr, f"{case}: the user's key is printed")
            check.equal([str(request) for request in origin.requests()], [], "requests that reached an origin")
            check.equal(proxy.store.log(), [], "records of probes")
            looked = sandbox.run([binary(), "doctor", "--json", "--no-probe"], PLAINSIGHT_DATA_DIR=proxy.store.folder, PATH=path, **sound)
            check.equal(json.loads(looked.stdout)["probing"]["trials"], [], "what --no-probe tried")


def under_run() -> None:
    """Where no proxy is set, what `plainsight run` would do is tried, and leaves nothing behind."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        data = sandbox.folder / "data"
        result = sandbox.run([binary(), "doctor", "--json"], 120, PLAINSIGHT_DATA_DIR=data)
        said, verdicts = _verdicts(result)
        check.equal(said["probing"]["way"], "as `plainsight run` starts them", "the way")
        check.equal((verdicts["curl"], verdicts["Python: urllib"]), ("seen", "seen"), f"{said['probing']}")
        check.equal(result.code, 0, f"exit code of {result}")
        check.that(not data.exists() or not list(data.rglob("*.db*")), "the probe left a log behind")
        check.equal([file.name for file in sandbox.temporary.iterdir() if "plainsight" in file.name], [], "left behind")


def stranger() -> None:
    """What listens there is somebody else: it is told apart, and nothing is sent through it."""
    with Origin(origin_certificates(), answers.answer) as origin, Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        url = f"http://127.0.0.1:{origin.port}"
        result = sandbox.run([binary(), "doctor", "--json"], 120, HTTPS_PROXY=url, https_proxy=url)
        said, verdicts = _verdicts(result)
        check.equal(verdicts, {}, "what was tried")
        check.that("is not plainsight" in (said["probing"]["untried"] or ""), f"why not: {said['probing']}")
        asked = [request for request in origin.requests() if request.method == "CONNECT" or "anthropic" in (request.host or "")]
        check.equal([str(request) for request in asked], [], "what was sent through it")


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    return [("doctor.faults", faults), ("doctor.under-run", under_run), ("doctor.stranger", stranger)]
