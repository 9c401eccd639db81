"""`plainsight report` as a reviewer opens it: in a real Chromium, wide and narrow, light and dark, and printed."""

import json
import os
import subprocess
from pathlib import Path

import clients
from checks import Checks
from clients import HERE, REPOSITORY
from product import Store
from sandbox import Auth, Result, Sandbox

CAPTURES = REPOSITORY / "tests" / "fixtures" / "captures"
OPENED = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
# A debug build reads a recording in seconds; a browser that starts cold takes some more.
REPORT_TIMEOUT_SECS, BROWSER_TIMEOUT_SECS = 120, 120


def opens(name: str, prepare: object) -> None:
    """No horizontal scroll, no console error, nothing that axe-core calls serious, and it prints."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        page = sandbox.folder / "report.html"
        result: Result = prepare(Store(sandbox), ["--out", str(page)])
        check.equal(result.code, 0, f"exit code of {result}")
        views = _open(page, sandbox, name)
        check.equal([(view["width"], view["scheme"]) for view in views], OPENED, "how it was opened")
        for view in views:
            at = f"{name} at {view['width']} pixels, {view['scheme']}"
            check.that(view["scroll_width"] <= view["inner_width"], f"{at}: scrolls sideways to {view['scroll_width']}, by {view['too_wide']}")
            check.equal(view["background_is_dark"], view["scheme"] == "dark", f"{at}: dark background")
            check.equal(view["console"], [], f"{at}: console")
            check.equal(view["requests"], [], f"{at}: asked for besides the page")
            check.that(view["axe_passes"] > 10, f"{at}: axe-core looked at only {view['axe_passes']} rules")
            check.equal(view["violations"], [], f"{at}: axe-core")
            check.that(view["headings"][0] == "What left this machine", f"{at}: headings {view['headings']}")
            check.that(view["pdf_bytes"] > 5_000 and view["pdf_starts"] == "%PDF-", f"{at}: printed {view['pdf_bytes']} bytes")


def notices_faults() -> None:
    """The harness: a page that scrolls, asks elsewhere, and cannot be read is noticed."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        page = sandbox.folder / "report.html"
        check.equal(_of_demo(Store(sandbox), ["--out", str(page)]).code, 0, "exit code of the report")
        faults = '<p style="color:#999;background:#aaa">Nobody can read this sentence.</p><div style="width:3000px">x</div><img src="http://127.0.0.1:9/x">'
        page.write_text(page.read_text().replace("</main>", f"{faults}</main>"))
        for view in _open(page, sandbox, "faults"):
            check.that(view["scroll_width"] > view["inner_width"], "a page that scrolls sideways is not noticed")
            check.equal(view["requests"], ["http://127.0.0.1:9/x"], "requests of a page that asks for a picture")
            check.that(view["console"], "a picture that is not there is not noticed")
            named = {violation.split(":")[0] for violation in view["violations"]}
            check.that({"color-contrast", "image-alt"} <= named, f"axe-core names only {named}")


def says_the_same() -> None:
    """Each form holds the verdicts of `check` on the same recording, with their records."""
    with Sandbox(Auth.API_KEY) as sandbox, Checks() as check:
        store = Store(sandbox)
        recording = [str(CAPTURES / "2.1.329-signed-in.har"), "--complete", "--assume", "DISABLE_TELEMETRY=1"]
        judged = json.loads(store.command("check", *recording, "--json", timeout_secs=REPORT_TIMEOUT_SECS).stdout)["subjects"][0]
        forms = {}
        for form in ("html", "json", "markdown"):
            result = store.command("report", *recording, "--format", form, "--out", "-", timeout_secs=REPORT_TIMEOUT_SECS)
            check.equal(result.code, 0, f"exit code of {result.command}: {result.stderr}")
            forms[form] = result.stdout
        expected = {line["id"]: (line["verdict"], [record["flow"] for record in line["evidence"]]) for line in judged["results"] + judged["claims"]}
        got = {line["id"]: (line["verdict"], [record["flow"] for record in line["evidence"]]) for line in json.loads(forms["json"])["verdicts"]}
        check.equal(got, expected, "verdicts with their records")
        check.that(any(verdict == "fail" and records for verdict, records in expected.values()), f"no verdict fails: {expected}")
        for form in ("html", "markdown"):
            missing = [name for name in expected if name not in forms[form]]
            check.equal(missing, [], f"verdicts that are not in the report as {form}")


def _open(page: Path, sandbox: Sandbox, name: str) -> list[dict]:
    """What the browser saw, for each view. Screenshots stay where `PLAINSIGHT_E2E_SCREENSHOTS` says, if it does."""
    screenshots = os.environ.get("PLAINSIGHT_E2E_SCREENSHOTS") or str(sandbox.folder)
    packages = clients.browser_tools()
    views = [{"width": width, "scheme": scheme, "screenshot": f"{screenshots}/{name}-{width}-{scheme}.png"} for width, scheme in OPENED]
    order = {"chromium": clients.chromium(), "modules": str(packages), "page": page.as_uri(), "views": views}
    done = subprocess.run(
        [clients.tool("node"), str(HERE / "page_opener.mjs"), json.dumps(order)],
        env=sandbox.environment(),
        cwd=sandbox.work,
        capture_output=True,
        text=True,
        timeout=BROWSER_TIMEOUT_SECS,
    )
    if done.returncode != 0:
        raise AssertionError(f"the browser ended with {done.returncode}: {done.stderr[-4000:]}")
    return json.loads(done.stdout)


def _of_demo(store: Store, out: list[str]) -> Result:
    demo = store.command("demo")
    assert demo.code == 0, f"the demo: {demo}"
    return store.command("report", *out, timeout_secs=REPORT_TIMEOUT_SECS)


def _of_recording(capture: str, *arguments: str) -> object:
    def prepare(store: Store, out: list[str]) -> Result:
        return store.command("report", str(CAPTURES / f"{capture}.har"), *arguments, *out, timeout_secs=REPORT_TIMEOUT_SECS)

    return prepare


PAGES = {
    "demo": _of_demo,
    "recording": _of_recording("2.1.329-signed-in", "--complete", "--assume", "DISABLE_TELEMETRY=1"),
    "old-recording": _of_recording("2.0.14-signed-in"),
    "otlp": _of_recording("2.1.329-otlp-http-json", "--complete", "--assume", "CLAUDE_CODE_ENABLE_TELEMETRY=1"),
}


def tests() -> list[tuple[str, object]]:
    """Every test of this file, with its name."""
    opened = [(f"page.{name}", lambda name=name, prepare=prepare: opens(name, prepare)) for name, prepare in PAGES.items()]
    return [*opened, ("page.harness", notices_faults), ("page.forms", says_the_same)]
