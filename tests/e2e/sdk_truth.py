"""An independent reading of what SDKs send: OTLP by the `opentelemetry-proto` package, Sentry's envelopes by their own
rules, JSON by `json`. Says the path and the text of every leaf in DESIGN's notation, so that the decoders under test
can be compared with it: no field missing, no field invented.
"""

import base64
import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Iterator

import brotli
import zstandard
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import truth
from checks import Checks
from origin import Request

Path = tuple[str, ...]
_SIGNALS = {"logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest, "trace": ExportTraceServiceRequest}
# What the JSON of OTLP writes as a list of pairs.
_PAIR_LISTS = ("attributes", "filteredAttributes", "metadata")
# Ids are hex in OTLP, base64 in what protobuf's own JSON makes of them.
_IDS = ("traceId", "spanId", "parentSpanId")


@dataclass
class Reading:
    """What stands in a body."""

    # Path without its prefix, and text.
    leaves: list[tuple[str, str]]
    # Paths of members that were not on the wire but have a default: an encoder may write them or not.
    defaults: set[str]

    def paths(self) -> set[str]:
        """Every path."""
        return {path for path, _ in self.leaves}

    def places(self, wanted: str) -> set[str]:
        """Paths of the innermost texts that hold this value."""
        found = set()
        for path, text in self.leaves:
            if wanted in text:
                found.add(path)
        return found


def signal(request: Request) -> str:
    """`logs`, `metrics` or `trace`."""
    return next(name for name in _SIGNALS if name in request.path.replace("traces", "trace"))


def plain(request: Request) -> bytes:
    """The body without its content coding."""
    coding = request.header("content-encoding") or "identity"
    decoders = {
        "identity": lambda data: data,
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "br": brotli.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    return decoders[coding](request.body)


def otlp(request: Request) -> list[Reading]:
    """Each message of a request, whatever its encoding."""
    kind = (request.header("content-type") or "").split(";")[0]
    if kind == "application/json":
        # In JSON the bytes stand in base64: a container.
        leaves = (((*path, "!base64") if isinstance(value, bytes) else path, value) for path, value in _flat(json.loads(plain(request)), ()))
        return [Reading([*_opened(leaves)], set())]
    messages = grpc_messages(request) if kind.startswith("application/grpc") else [plain(request)]
    return [_protobuf(_SIGNALS[signal(request)], message) for message in messages]


def grpc_messages(request: Request) -> list[bytes]:
    """The messages of a gRPC stream, decompressed."""
    at, messages = 0, []
    while at < len(request.body):
        flag, size = request.body[at], int.from_bytes(request.body[at + 1 : at + 5], "big")
        message = request.body[at + 5 : at + 5 + size]
        assert len(message) == size, "a gRPC message is cut off"
        messages.append(gzip.decompress(message) if flag else message)
        at += 5 + size
    return messages


def sentry(request: Request) -> Reading:
    """An envelope: a line of JSON, then for each item a line of JSON and a payload."""
    body = plain(request)
    line, _, rest = body.partition(b"\n")
    leaves = [*_opened(_walk(json.loads(line), ("header",)))]
    index = 0
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        if "length" in header:
            payload, rest = rest[: header["length"]], rest[header["length"] + 1 :]
        else:
            payload, _, rest = rest.partition(b"\n")
        leaves += _opened(_walk(header, ("items", str(index), "header")))
        leaves += _opened(_walk(json.loads(payload), ("items", str(index), header["type"])))
        index += 1
    return Reading(leaves, set())


def as_json(request: Request) -> Reading:
    """A body of JSON."""
    return Reading([*_opened(_walk(json.loads(plain(request)), ()))], set())


def check_fields(check: Checks, about: str, reading: Reading, shown: dict) -> None:
    """The decoded fields are those that the oracle names: none missing, none invented."""
    check.equal(shown["fields_left_out"], 0, f"{about}: fields left out")
    # A container that was opened holds its text, too; and the head's fields are no part of the body.
    paths = {field["path"].split(":", 1)[1] for field in shown["fields"] if not field["path"].startswith(("header:", "query:", "trailer:", "path:"))}
    wanted = reading.paths()
    missing = {path for path in wanted - paths}
    invented = {path for path in paths - wanted - reading.defaults if not any(inner.startswith(f"{path}/") for inner in wanted) and "/!" not in path}
    check.that(not missing, f"{about}: {len(missing)} of {len(wanted)} fields are missing: {sorted(missing)[:6]}")
    check.that(not invented, f"{about}: {len(invented)} of {len(paths)} fields are invented: {sorted(invented)[:6]}")


def _protobuf(kind: type, message: bytes) -> Reading:
    parsed = kind.FromString(message)
    # The same bytes again, but for the members that an encoder may leave out: nothing was lost in reading.
    assert kind.FromString(parsed.SerializeToString()) == parsed, "protobuf does not survive its own encoder"
    leaves = [*_opened(_flat(MessageToDict(parsed), ()))]
    full = _flat(MessageToDict(parsed, always_print_fields_with_no_presence=True), ())
    return Reading(leaves, {_written(path) for path, _ in full} - {path for path, _ in leaves})


def _flat(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    """OTLP: lists of pairs as maps, and values in them without their kind."""
    if isinstance(value, dict):
        for name, inner in value.items():
            below = (*path, name)
            if name in _PAIR_LISTS:
                yield from _pairs(inner, below)
            elif name == "arrayValue":
                yield from _values(inner.get("values", []), below)
            elif name == "kvlistValue":
                yield from _pairs(inner.get("values", []), below)
            elif name == "bytesValue":
                yield below, base64.b64decode(inner)
            elif name in _IDS:
                yield below, inner
            else:
                yield from _flat(inner, below)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(inner, (*path, str(index)))
    else:
        yield path, value


def _pairs(pairs: list[dict], path: Path) -> Iterator[tuple[Path, object]]:
    for pair in pairs:
        yield from _any(pair.get("value", {}), (*path, pair["key"]))


def _values(values: list[dict], path: Path) -> Iterator[tuple[Path, object]]:
    for index, value in enumerate(values):
        yield from _any(value, (*path, str(index)))


def _any(value: dict, path: Path) -> Iterator[tuple[Path, object]]:
    for kind, inner in value.items():
        if kind == "arrayValue":
            yield from _values(inner.get("values", []), path)
        elif kind == "kvlistValue":
            yield from _pairs(inner.get("values", []), path)
        elif kind == "bytesValue":
            yield path, base64.b64decode(inner)
        else:
            yield path, inner


def _walk(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, (*path, str(index)))
    else:
        yield path, value


def _opened(leaves: Iterator[tuple[Path, object]]) -> Iterator[tuple[str, str]]:
    """The leaves, with JSON in strings opened as the plan writes it: what is inside replaces the string."""
    for path, value in leaves:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if isinstance(value, str) and text[:1] in ("{", "["):
            try:
                json.loads(text)
            except ValueError:
                pass
            else:
                yield from ((f"{_written(path)}/!json/{inner}", found) for inner, found in truth.leaves(text.encode()))
                continue
        yield _written(path), text


def _written(path: Path) -> str:
    return "/".join(name.replace("~", "~0").replace("/", "~1") for name in path)
