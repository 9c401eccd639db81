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
        return [Reading([*_opened(_flat(json.loads(plain(request)), ()))], set())]
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
    """The decoded fields are those that the oracle names: none missing, none invented, and each that is not masked has
    its value.
    """
    check.equal(shown["fields_left_out"], 0, f"{about}: fields left out")
    fields = [field for field in shown["fields"] if not field["path"].startswith(("header:", "query:", "path:"))]
    values: dict[str, list[str]] = {}
    for field in fields:
        values.setdefault(field["path"].split(":", 1)[1], []).append(field["value"])
    wanted = reading.paths()
    missing = wanted - values.keys()
    # What was opened may show its text, too, and more than text may stand in it.
    opened = {path for path in values if "/!" in path or any(inner.startswith(f"{path}/!") for inner in wanted)}
    invented = values.keys() - wanted - reading.defaults - opened
    check.that(not missing, f"{about}: {len(missing)} of {len(wanted)} fields are missing: {sorted(missing)[:6]}")
    check.that(not invented, f"{about}: {len(invented)} of {len(values)} fields are invented: {sorted(invented)[:6]}")
    wrong = [(path, text, values[path]) for path, text in reading.leaves if path in values and not any(_same(text, value) for value in values[path])]
    check.that(not wrong, f"{about}: {len(wrong)} values differ: {wrong[:4]}")


def _same(text: str, value: str) -> bool:
    """Whether a value is shown as it is. What is masked or cut is for the findings to judge."""
    if text == value or "***" in value or "…" in value:
        return True
    try:
        # 0.5 and 5e-1; an integer keeps every digit.
        return "." in text + value and float(text) == float(value)
    except ValueError:
        return False


def _protobuf(kind: type, message: bytes) -> Reading:
    parsed = kind.FromString(message)
    # The same bytes again, but for the members that an encoder may leave out: nothing was lost in reading.
    assert kind.FromString(parsed.SerializeToString()) == parsed, "protobuf does not survive its own encoder"
    leaves = [*_opened(_flat(_hex_ids(MessageToDict(parsed, use_integers_for_enums=True)), ()))]
    full = _flat(MessageToDict(parsed, always_print_fields_with_no_presence=True), ())
    return Reading(leaves, {_written(path) for path, _ in full} - {path for path, _ in leaves})


def _hex_ids(value: object) -> object:
    """OTLP writes ids in hex, protobuf's own JSON in base64."""
    if isinstance(value, dict):
        return {name: base64.b64decode(inner).hex() if name in _IDS else _hex_ids(inner) for name, inner in value.items()}
    return [_hex_ids(inner) for inner in value] if isinstance(value, list) else value


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
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else json.dumps(value)
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
