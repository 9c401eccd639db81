#!/usr/bin/env python3
"""Makes tests/fixtures/recordings/*.har, small recordings for tests, out of real ones.

    python3 tests/tools/make_recordings.py FOLDER_OF_RECORDINGS tests/fixtures/recordings

Batches are shortened, answers and most requests without a body are left out, credentials are replaced by words that no
rule takes for one. Accounts and people in the recordings are invented.
"""

import base64
import json
import pathlib
import re
import sys

# (file, how a target begins, how often)
WANTED = {
    "2.0.14-signed-in.har": [("/v1/initialize", 1), ("/v1/rgstr", 2), ("/api/claude_code_grove", 1)],
    "2.1.329-api-key.har": [("/api/eval/", 1), ("/v1/messages", 1), ("/api/claude_code/metrics", 1), ("/api/event_logging/", 2)],
    "2.1.329-otlp-grpc.har": [("/opentelemetry.proto.collector.logs", 1)],
    "2.1.329-otlp-http-json.har": [("/v1/logs", 1)],
    "2.1.329-otlp-http-protobuf.har": [("/v1/logs", 1)],
    "2.1.329-signed-in.har": [("/api/oauth/organizations", 1), ("/api/eval/", 1), ("/api/event_logging/", 2), ("/api/v2/logs", 1)],
}
EVENTS_KEPT = 4
ENTRIES_KEPT = 3
CREDENTIALS = re.compile(r"AKIA[A-Z0-9]{16}|sk-ant-[A-Za-z0-9_-]+|(?<=[?&]k=)client-[A-Za-z0-9]+|(?<=/api/eval/)sdk-[A-Za-z0-9]+")
# What was planted in a tool's input, and a word of the same length for it: lengths in protobuf must stay.
PLANTED, WORD = b"AKIAIOSFODNN7EXAMPLE", b"replaced-aws-key-id-"
CREDENTIAL_HEADERS = {"authorization", "x-api-key", "dd-api-key"}


def shorten(text):
    """Keeps a few events of a batch: the most telling."""
    body = json.loads(text)
    batch, kept = (body.get("events"), EVENTS_KEPT) if isinstance(body, dict) else (body, ENTRIES_KEPT)
    if not isinstance(batch, list) or len(batch) <= kept:
        return text
    batch.sort(key=lambda event: -len(json.dumps(event)))
    # The longest are a list of everything that is on; what says who it is stands in each.
    del batch[: len(batch) // 4]
    del batch[kept:]
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def entry(recorded):
    request = recorded["request"]
    request["url"] = CREDENTIALS.sub("replaced", request["url"])
    for header in request["headers"]:
        if header["name"].lower() in CREDENTIAL_HEADERS:
            header["value"] = "replaced"
    for parameter in request["queryString"]:
        parameter["value"] = CREDENTIALS.sub("replaced", "?k=" + parameter["value"])[3:]
    data = request.get("postData")
    if data and "encoding" not in data and data["text"].lstrip()[:1] in ("{", "["):
        data["text"] = shorten(data["text"])
    if data and data.get("encoding") == "base64":
        data["text"] = base64.b64encode(base64.b64decode(data["text"]).replace(PLANTED, WORD)).decode()
    elif data:
        data["text"] = data["text"].replace(PLANTED.decode(), WORD.decode())
    bodies = [data["text"] if "encoding" not in data else base64.b64decode(data["text"]).decode("latin-1")] if data else []
    assert not any(CREDENTIALS.search(body) for body in bodies), f"a credential in the body of {request['url']}"
    recorded["response"]["content"] = {"size": 0, "mimeType": "text/plain"}
    recorded["response"]["headers"] = []
    return recorded


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(pathlib.Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    for name, wanted in WANTED.items():
        har = json.loads((source / name).read_text())
        entries = []
        for beginning, count in wanted:
            path = [e for e in har["log"]["entries"] if e["request"]["url"].split("/", 3)[3:] and ("/" + e["request"]["url"].split("/", 3)[3]).startswith(beginning)]
            if len(path) < count:
                sys.exit(f"{name} holds {len(path)} requests for {beginning}, {count} are wanted")
            entries += [entry(e) for e in path[:count]]
        har["log"]["entries"] = sorted(entries, key=lambda e: e["startedDateTime"])
        (target / name).write_text(json.dumps(har, separators=(",", ":"), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
