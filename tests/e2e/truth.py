"""An independent reading of telemetry bodies: where do values that we planted stand? Written from DESIGN's notation of
paths, in another language than the decoders under test, on the body that the origin got.
"""

import base64
import binascii
import json
from typing import Iterator

from origin import Request

# (host glob, path) of what each destination of this decoders looks like on the wire.
DESTINATIONS = {
    "first-party-events": ("api.anthropic.com", "/api/event_logging/"),
    "first-party-metrics": ("api.anthropic.com", "/api/claude_code/metrics"),
    "feature-flags": ("api.anthropic.com", "/api/eval/"),
    "statsig": ("statsig.anthropic.com", "/v1/"),
    "datadog": ("datadoghq.com", "/api/v2/logs"),
    "conversation": ("api.anthropic.com", "/v1/messages"),
}
TELEMETRY = tuple(name for name in DESTINATIONS if name != "conversation")


def destination(request: Request) -> str | None:
    """Whom a request is for, among those that this issue decodes."""
    for name, (host, path) in DESTINATIONS.items():
        if request.host.endswith(host) and request.path.startswith(path):
            return name
    return None


def leaves(body: bytes) -> Iterator[tuple[str, str]]:
    """Path (without its prefix) and value of every string in a JSON body, containers opened."""
    yield from _walk(json.loads(body), [])


def places(body: bytes, wanted: set[str]) -> set[str]:
    """The paths at which one of the wanted values is the whole string."""
    return {path for path, value in leaves(body) if value in wanted}


def _walk(value: object, path: list[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, [*path, key.replace("~", "~0").replace("/", "~1")])
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, [*path, str(index)])
    elif isinstance(value, str):
        yield "/".join(path), value
        if (inner := _json(value)) is not None:
            yield from _walk(inner, [*path, "!json"])
        elif (inner := _json(_base64(value))) is not None:
            yield from _walk(inner, [*path, "!base64", "!json"])


def _json(text: str | None) -> object | None:
    if not text or text[0] not in "{[":
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _base64(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
