"""Whether a value stands in some bytes, in whatever form: as it is, escaped, percent-encoded, in hex, in base64 at any
alignment, inside what is compressed or encoded itself.
"""

import base64
import binascii
import gzip
import json
import re
import urllib.parse
import zlib

import sdk_truth
from origin import Request

# Base64 in base64 in a string is what clients were seen to do; a layer more costs nothing.
LAYERS = 4


def pieces(value: str) -> dict[str, bytes]:
    """Every form in which a value may turn up; of base64, what does not depend on its neighbours."""
    raw = value.encode()
    forms = {
        "raw": raw,
        "json": json.dumps(value)[1:-1].encode(),
        "percent": "".join(f"%{byte:02X}" for byte in raw).encode(),
        "quoted": urllib.parse.quote(value, safe="").encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "reversed": raw[::-1],
    }
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        end = (before + len(raw)) * 8 // 6
        piece = encoded[(before * 8 + 5) // 6 : end]
        forms[f"base64 at {before}"] = piece
        forms[f"base64url at {before}"] = piece.translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def seen(value: str, haystack: bytes) -> str | None:
    """In which form a value stands there."""
    return next((form for form, piece in pieces(value).items() if piece in haystack), None)


def gunzipped(data: bytes) -> bytes:
    try:
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else b""
    except (OSError, EOFError, zlib.error):
        return b""


def opened(data: bytes) -> bytes:
    """These bytes, and what stands in them behind escapes of JSON, percent signs, base64 and gzip."""
    found, layer = [data], [data]
    for _ in range(LAYERS):
        inner = []
        for text in layer:
            inner.append(gunzipped(text))
            if b"\\" in text:
                inner.append(re.sub(rb"\\u00([0-9a-fA-F]{2})|\\(.)", lambda m: bytes([int(m[1], 16)]) if m[1] else m[2], text))
            if b"%" in text:
                inner.append(urllib.parse.unquote_to_bytes(text))
            for match in re.findall(rb"[A-Za-z0-9+/_-]{16,}={0,2}", text):
                try:
                    inner.append(base64.b64decode(match.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=") + b"=" * (-len(match.rstrip(b"=")) % 4)))
                except binascii.Error:
                    continue
        layer = [text for text in inner if text]
        found += layer
    return b"\n".join(found)


def arrived(request: Request) -> bytes:
    """Everything of a request, opened; but for its credential, which only its receiver is to have."""
    parts = [request.target.encode("latin-1"), request.body]
    try:
        parts.append(sdk_truth.plain(request))
    except (KeyError, OSError, EOFError, ValueError, zlib.error):
        pass
    if (request.header("content-type") or "").startswith("application/grpc"):
        parts += sdk_truth.grpc_messages(request)
    parts += [name + b": " + value for name, value in [*request.headers, *request.trailers] if name.lower() not in (b"authorization", b"x-api-key")]
    return b"\n".join(opened(part) for part in parts)
