#!/usr/bin/env python3
"""Lists the names of events and fields in recordings, as rows for rules/events.toml. Review before committing.

    python3 tests/tools/list_names.py RECORDING.har…

Reads JSON bodies only: record OTLP as http/json. Names that are data of the person (the keys of a tool's input, say)
stand deeper than what is looked at here.
"""

import base64
import binascii
import json
import pathlib
import sys
from collections import defaultdict
from urllib.parse import urlsplit

# How a path begins, and what the payload's format is called.
FORMATS = [
    ("/api/event_logging/", "first-party-events"),
    ("/api/claude_code/metrics", "first-party-metrics"),
    ("/api/eval/", "feature-flags"),
    ("/api/v2/logs", "datadog"),
    ("/v1/initialize", "statsig"),
    ("/v1/rgstr", "statsig"),
    ("/v1/log_event", "statsig"),
    ("/v1/logs", "otlp"),
    ("/v1/metrics", "otlp"),
    ("/v1/traces", "otlp"),
]
EVENT_KEYS = {"first-party-events": {"event_name"}, "datadog": {"message"}, "statsig": {"eventName"}, "first-party-metrics": {"name"}}
# As in src/destination/events.rs.
DEEPEST = 4


def format_of(path):
    return next((name for beginning, name in FORMATS if path.startswith(beginning)), None)


def opened(value):
    """What a string holds, if it holds JSON, as it is or in base64."""
    if isinstance(value, str):
        text = value.strip()
        try:
            if text[:1] not in ("{", "["):
                text = base64.b64decode(text, validate=True).decode()
            if text[:1] in ("{", "["):
                return json.loads(text)
        except (ValueError, binascii.Error):
            pass
    return None


def walk(name, value, events, fields, depth=0, containers=0):
    if isinstance(value, dict):
        for key, member in value.items():
            if (containers == 0 and depth < DEEPEST) or (containers == 1 and depth == 0):
                fields[name].add(key)
            if containers == 0 and key in EVENT_KEYS.get(name, ()) and isinstance(member, str):
                events[name].add(member)
            walk(name, member, events, fields, depth + 1, containers)
    elif isinstance(value, list):
        for member in value:
            walk(name, member, events, fields, depth, containers)
    elif (inner := opened(value)) is not None:
        walk(name, inner, events, fields, 0, containers + 1)


def walk_otlp(value, events, fields):
    if isinstance(value, dict):
        for attribute in value.get("attributes", []):
            fields["otlp"].add(attribute["key"])
            if attribute["key"] == "event.name":
                events["otlp"].add(attribute["value"]["stringValue"])
        for key, member in value.items():
            if key in ("metrics", "spans", "events"):
                events["otlp"] |= {one["name"] for one in member}
            walk_otlp(member, events, fields)
    elif isinstance(value, list):
        for member in value:
            walk_otlp(member, events, fields)


def names(paths):
    events, fields = defaultdict(set), defaultdict(set)
    for path in paths:
        for entry in json.loads(pathlib.Path(path).read_text())["log"]["entries"]:
            name = format_of(urlsplit(entry["request"]["url"]).path)
            data = entry["request"].get("postData") or {}
            if name and data.get("text") and "encoding" not in data:
                body = json.loads(data["text"])
                walk_otlp(body, events, fields) if name == "otlp" else walk(name, body, events, fields)
    return events, fields


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    events, fields = names(sys.argv[1:])
    for title, found in (("event", events), ("fields", fields)):
        for name in sorted(found):
            print(f"# {title} of {name}")
            print(" ".join(sorted(found[name])))


if __name__ == "__main__":
    main()
