"""Runs the peers that come as Python packages for `src/python.rs`: one command a line in, one answer a line out, both JSON.

A peer that does not import or start is left out of the answer to `versions`; nothing else is asked of it then.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import cache
from pathlib import Path

# Of processor time, as in `src/tool.rs`.
ROUND_SECONDS = 0.25

# All of relay's rules for text that name something personal or secret, besides its default scrubbing.
RELAY_ALL = ["@email", "@creditcard", "@iban", "@ip", "@mac", "@imei", "@uuid", "@bearer", "@pemkey", "@urlauth", "@userpath",
             "@password", "@usssn"]

# The program itself; what the package puts into `bin` is a script that starts it.
KINGFISHER = Path(sysconfig.get_path("purelib")) / "kingfisher" / "bin" / "kingfisher"

CACHE = Path(sys.argv[1])


def versions(_):
    from importlib.metadata import version

    found = {}
    try:
        import sentry_relay.processing  # noqa: F401

        found["sentry-relay"] = version("sentry-relay")
    except ImportError as error:
        print(error, file=sys.stderr)
    try:
        subprocess.run([KINGFISHER, "--version"], check=True, capture_output=True)
        found["kingfisher-bin"] = version("kingfisher-bin")
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
    return found


def relay_config(name):
    from sentry_relay.processing import convert_datascrubbing_config

    default = convert_datascrubbing_config(
        {"scrubData": True, "scrubDefaults": True, "scrubIpAddresses": True, "sensitiveFields": [], "excludeFields": []}
    )
    # `$string` misses nothing in `extra`, which is where the body stands.
    return json.dumps({"default": default, "all": {"applications": {"$string": RELAY_ALL}}}[name])


def scrub(config, raw):
    """One call of the library: reads the event, scrubs it and writes it. Python's own JSON is left out."""
    from sentry_relay.processing import pii_strip_event

    return pii_strip_event(config, raw, json_dumps=lambda text: text, json_loads=lambda text: text)


def as_event(body):
    return '{"extra":{"body":' + body + "}}"


def processor_seconds(run):
    """The mean of the runs that fit into a round."""
    run()
    begin, spent, runs = time.thread_time(), 0.0, 0
    while spent < ROUND_SECONDS:
        run()
        runs += 1
        spent = time.thread_time() - begin
    return spent / runs


def remarks(meta):
    """What was scrubbed, each with its rule."""
    if not isinstance(meta, dict):
        return 0
    return sum(len(value.get("rem", [])) if key == "" else remarks(value) for key, value in meta.items())


@cache
def relay_hits(config, raw):
    return remarks(json.loads(scrub(config, raw)).get("_meta"))


@cache
def relay_start(config):
    """Each call reads its configuration anew; an empty event costs only that."""
    return processor_seconds(lambda: scrub(config, as_event("{}")))


def relay(command):
    config = relay_config(command["config"])
    raw = as_event(Path(command["file"]).read_text())
    return {"seconds": processor_seconds(lambda: scrub(config, raw)) - relay_start(config), "hits": relay_hits(config, raw)}


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def relay_leaves(command):
    """For each file, which of its values can still be read, and how many places were scrubbed."""
    config = relay_config(command["config"])
    answer = []
    for file, values in command["files"]:
        scrubbed = json.loads(scrub(config, as_event(Path(file).read_text())))
        texts = list(strings(scrubbed["extra"]))
        answer.append([[any(value in text for text in texts) for value in values], remarks(scrubbed.get("_meta"))])
    return {"left": answer}


def run_kingfisher(folder, options):
    """Processor seconds and findings. It must not ask any service whether a secret is valid."""
    environment = {"HOME": str(CACHE), "KF_RULE_CACHE_DIR": str(CACHE / "kingfisher-rules"), "PATH": os.environ["PATH"]}
    with tempfile.TemporaryDirectory(dir=CACHE) as out:
        report = Path(out) / "report.json"
        arguments = [KINGFISHER, "scan", "--jobs", "1", "--no-validate", "--no-update-check", "--quiet", "--no-dedup",
                     "--git-history", "none", "--format", "json", "--output", report, *options, folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # 200 and above say that there are findings.
        if done.returncode not in (0, 200, 205) or not report.exists():
            raise RuntimeError(f"kingfisher ended with {done.returncode}: {done.stderr[-300:]}")
        text = report.read_text()
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return spent, json.loads(text) if text.strip() else {"findings": []}


@cache
def kingfisher_start(folder, options):
    """What a run costs that has next to nothing to scan. The first one may put its rules together; later ones read them."""
    starts = [run_kingfisher(folder, options)[0] for _ in range(4)]
    return statistics.median(starts[1:])


def kingfisher(command):
    empty = kingfisher_start(command["empty"], tuple(command["options"]))
    full, report = run_kingfisher(command["folder"], command["options"])
    scanned = report.get("metadata", {}).get("summary", {})
    return {
        "seconds": full - empty,
        "start": empty,
        "hits": len(report["findings"]),
        "rules": scanned.get("rules_applied", 0),
        "bytes": scanned.get("bytes_scanned", 0),
    }


def kingfisher_finds(command):
    _, report = run_kingfisher(command["folder"], command["options"])
    return {"findings": [[Path(it["finding"]["path"]).name, it["finding"]["snippet"]] for it in report["findings"]]}


COMMANDS = {
    "kingfisher": kingfisher,
    "kingfisher-finds": kingfisher_finds,
    "relay": relay,
    "relay-leaves": relay_leaves,
    "versions": versions,
}


def main():
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command["do"]](command)
        except Exception as error:  # The runner says it and goes on without.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
