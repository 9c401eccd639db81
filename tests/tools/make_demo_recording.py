#!/usr/bin/env python3
"""Makes src/cli/demo/recording.json, the small recording that `plainsight demo` replays, out of HAR files.

    python3 tests/tools/make_demo_recording.py FOLDER_OF_RECORDINGS > src/cli/demo/recording.json

Batches are shortened, conversation bodies stay empty, and no credential is kept: `demo` invents its own.
"""

import json
import pathlib
import sys
from urllib.parse import parse_qsl, urlencode, urlsplit

# (file, how a target begins, how often, HTTP version to replay it with)
WANTED = [
    ("2.1.329-signed-in.har", "/api/oauth/profile", 1, "1.1"),
    ("2.1.329-signed-in.har", "/api/eval/", 1, "2"),
    ("2.1.329-signed-in.har", "/v1/messages", 2, "1.1"),
    ("2.1.329-signed-in.har", "/api/event_logging/", 2, "1.1"),
    ("2.1.329-signed-in.har", "/api/v2/logs", 1, "1.1"),
    ("2.1.329-api-key.har", "/api/claude_code/metrics", 1, "1.1"),
    ("2.0.14-signed-in.har", "/v1/initialize", 1, "1.1"),
    ("2.0.14-signed-in.har", "/v1/rgstr", 2, "1.1"),
    ("2.1.329-otlp-http-json.har", "/v1/logs", 1, "1.1"),
]
EVENTS_KEPT = 6
CREDENTIAL_HEADERS = {"authorization", "x-api-key", "dd-api-key"}
DROPPED_HEADERS = {"content-length", "host", "connection", "transfer-encoding"}


def shorten(path, text):
    """Keeps a few events of a batch, the most telling first: those whose nested payload says most."""
    if not text:
        return text
    body = json.loads(text)
    batch = body.get("events") if isinstance(body, dict) else body
    if isinstance(batch, list) and len(batch) > EVENTS_KEPT and "resourceLogs" not in body:
        batch.sort(key=lambda event: -len(event.get("event_data", {}).get("additional_metadata", "")))
        del batch[EVENTS_KEPT:]
        return json.dumps(body, separators=(",", ":"))
    return text


def entry(har_entry, version):
    request = har_entry["request"]
    url = urlsplit(request["url"])
    query = urlencode([(name, "{{token}}" if name == "k" else value) for name, value in parse_qsl(url.query)], safe="{}")
    headers = [
        [header["name"], "{{token}}" if header["name"].lower() in CREDENTIAL_HEADERS else header["value"]]
        for header in request["headers"]
        if header["name"].lower() not in DROPPED_HEADERS
    ]
    return {
        "method": request["method"],
        "authority": url.netloc if url.port else f"{url.netloc}:443",
        "target": url.path + (f"?{query}" if query else ""),
        "version": version,
        "headers": headers,
        "body": shorten(url.path, (request.get("postData") or {}).get("text", "")),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    recording = []
    for name, beginning, count, version in WANTED:
        entries = json.loads((folder / name).read_text())["log"]["entries"]
        matching = [e for e in entries if urlsplit(e["request"]["url"]).path.startswith(beginning)]
        if len(matching) < count:
            sys.exit(f"{name} holds {len(matching)} requests for {beginning}, {count} are wanted")
        recording += [entry(e, version) for e in matching[:count]]
    # What is not intercepted: a host that a real session asks for new versions.
    recording.append({"method": "GET", "authority": "downloads.claude.ai:443", "target": "/claude-code-releases/latest",
                      "version": "1.1", "headers": [["Accept", "*/*"]], "body": ""})
    json.dump(recording, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
