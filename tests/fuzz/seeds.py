"""Writes the seeds of each fuzz target into a folder: `seeds.py FOLDER`. They come from the recordings in
`tests/fixtures/recordings` and from the demo's; where these have nothing, a few are written by hand."""

import base64
import gzip
import hashlib
import json
import shutil
import sys
import zlib
from pathlib import Path
from urllib.parse import urlsplit

TESTS = Path(__file__).resolve().parent.parent
LARGEST = 8192  # `run` fuzzes nothing larger


def requests():
    """Every request of every recording: method, authority, target, headers, body."""
    for recording in sorted((TESTS / "fixtures/recordings").glob("*.har")):
        for entry in json.loads(recording.read_text())["log"]["entries"]:
            request = entry["request"]
            url = urlsplit(request["url"])
            data = request.get("postData") or {}
            body = data.get("text", "").encode()
            if data.get("encoding") == "base64":
                body = base64.b64decode(body)
            target = url.path + ("?" + url.query if url.query else "")
            headers = [(h["name"], h["value"]) for h in request["headers"]]
            yield request["method"], url.netloc, target, headers, body
    for request in json.loads((TESTS.parent / "src/cli/demo/recording.json").read_text()):
        body = request["body"]
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        yield request["method"], request["authority"], request["target"], request["headers"], body


def confined():
    """What a confined program sends: a question to a DNS server, then connections, segments and datagrams, in both families."""
    own4, own6 = bytes([198, 18, 0, 2]), bytes.fromhex("fd706c61696e73000000000000000002")
    peer4, peer6 = own4[:3] + bytes([3]), own6[:15] + bytes([3])

    def v4(source, to, protocol, transport):
        return bytes([0x45, 0]) + (20 + len(transport)).to_bytes(2) + bytes([0, 0, 0x40, 0, 64, protocol, 0, 0]) + source + to + transport

    def v6(source, to, protocol, transport):
        return bytes([0x60, 0, 0, 0]) + len(transport).to_bytes(2) + bytes([protocol, 64]) + source + to + transport

    def tcp(source, to, flags):
        return source.to_bytes(2) + to.to_bytes(2) + bytes(8) + bytes([0x50, flags, 255, 255, 0, 0, 0, 0])

    def udp(to, payload):
        return (40000).to_bytes(2) + to.to_bytes(2) + (8 + len(payload)).to_bytes(2) + bytes(2) + payload

    question = bytes.fromhex("beef01000001000000000000") + b"\3api\7example\0\0\x01\0\x01"
    for wrap, own, peer, listener, other in (
        (v4, own4, peer4, 5000, bytes([203, 0, 113, 7])),
        (v6, own6, peer6, 6000, bytes.fromhex("20010db8000000000000000000000007")),
    ):
        series = [wrap(own, other, 17, udp(53, question)), wrap(own, other, 17, udp(443, bytes(50)))]
        series += [wrap(own, other, 6, tcp(40000, 443, flags)) for flags in (2, 16)]
        series += [wrap(own, peer, 6, tcp(listener, 1, flags)) for flags in (18, 17)]
        series += [wrap(own, other, 6, tcp(40000, 443, flags)) for flags in (17, 16, 4, 2)]
        for bit in (0, 0x8000):
            yield b"".join((len(packet) | bit).to_bytes(2) + packet for packet in series)


def seeds():
    """Pairs of target and input."""
    for series in confined():
        yield "packets", series
    for method, authority, target, headers, body in requests():
        kept = [f"{name}: {value}" for name, value in headers if not name.startswith(":")]
        head = "\n".join([f"{method} {authority} {target}", *kept])
        short = body[: LARGEST - len(head) - 2]
        yield "core", head.encode() + b"\n\n" + short
        yield "redact", head.encode() + b"\n\n" + short
        yield "head", "\n".join([target, *kept]).encode()
        yield "mask", b"\0" + body[:512]
        path = target.split("?")[0]
        signal = next((n for n, s in enumerate(("log", "metric", "profile", "trace")) if s in path.lower()), None)
        kind = dict((name.lower(), value) for name, value in headers).get("content-type", "")
        if body.startswith(b"{") or body.startswith(b"["):
            yield "json", body
            yield "containers", body
            if "resource" in body.decode("utf-8", "replace")[:40]:
                yield "otlp-json", body
            if "statsig" in authority or "rgstr" in path:
                yield "statsig", body
                yield "statsig", base64.b64encode(body)[::-1]
            if "sentry" in authority:
                yield "sentry", body
            for string in strings(body):
                yield "containers", string.encode()
        elif "grpc" in kind and signal is not None:
            yield "otlp-grpc", bytes([signal | 8]) + body
            message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
            packed = gzip.compress(message)
            yield "otlp-grpc", bytes([signal | 8, 1]) + len(packed).to_bytes(4, "big") + packed
            yield "otlp-protobuf", bytes([signal]) + message
        elif signal is not None and body:
            yield "otlp-protobuf", bytes([signal]) + body
        if body:
            for coding, packed in ((1, zlib.compress(body)), (2, gzip.compress(body))):
                yield "codings", bytes([coding]) + packed
    yield from by_hand()
    # Formats by their place in the target; bits that choose a few values and several ways.
    for place, seeds_of in ((0, "containers"), (1, "form"), (2, "json"), (3, "multipart"), (4, "otlp-json"), (7, "sentry")):
        for target, seed in by_hand():
            if target == seeds_of:
                for bits in (0, 0x9249249249249249, 0xFFFFFFFFFFFFFFFF):
                    yield "splice", bytes([place]) + bits.to_bytes(8, "little") + seed
    for method, authority, target, headers, body in requests():
        place = 5 if "logs" in target.lower() else 6 if "trace" in target.lower() else 2
        for bits in (0x4924924924924924, 0x0F0F0F0F0F0F0F0F):
            yield "splice", bytes([place]) + bits.to_bytes(8, "little") + body
    for recording in sorted((TESTS / "fixtures/recordings").glob("*.har")):
        log = json.loads(recording.read_text())
        for entry in log["log"]["entries"]:
            yield "har", json.dumps({"log": {"version": "1.2", "entries": [entry]}}).encode()


def strings(body):
    """Longer strings of a JSON body, however deep."""
    try:
        values = [json.loads(body)]
    except ValueError:
        return
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        elif isinstance(value, str) and len(value) > 40:
            yield value


def by_hand():
    event = b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","message":"hi","user":{"email":"a@b.example"}}'
    yield "form", b"email=a%40b.example&note=x+y&payload=%7B%22a%22%3A%5B1%5D%7D&empty=&=nothing&%zz"
    yield "form", b"data=" + base64.b64encode(event)
    parts = (
        b'--edge\r\nContent-Disposition: form-data; name="sentry"\r\n\r\n' + event
        + b'\r\n--edge\r\nContent-Disposition: form-data; name="upload_file_minidump"; filename="m.dmp"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nMDMP\0\1\2\xff\r\n--edge--\r\n"
    )
    yield "multipart", parts
    yield "multipart", b'--x\nContent-Disposition: form-data; name="a"\n\n1\n--x--'
    header = b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","sent_at":"2026-11-21T00:00:00Z"}\n'
    sized = b'{"type":"event","length":%d}\n%s\n' % (len(event), event)
    attached = b'{"type":"attachment","length":5,"filename":"a.txt"}\n\0\1\n\2\3\n'
    yield "sentry", header + sized + attached
    yield "sentry", header + b'{"type":"session"}\n{"sid":"x","attrs":{"ip_address":"1.2.3.4"}}\n{"type":"client_report"}\n{}'
    yield "sentry", event
    yield "sentry", base64.b64encode(zlib.compress(event))
    yield "statsig", b'{"events":[{"eventName":"x","user":{"email":"a@b.example"},"metadata":{"k":"v"}}]}'
    yield "statsig", gzip.compress(b'{"events":[]}')
    yield "containers", b'{"a":"{\\"b\\":\\"{\\\\\\"c\\\\\\":1}\\"}","t":"a:b,c:d","p":"%7B%22x%22%3A1%7D","n":"{\\"cut\\":\\"of'
    yield "containers", b'{"ddtags":"env:prod,user:bob,service:cli","ddsource":"x"}\n{"a":1}\n'
    yield "containers", base64.b64encode(gzip.compress(b'{"a":[1,2,{"b":"c"}]}'))
    yield "json", b'[1,-2.5e+3,NaN,-Infinity,true,null,"\\ud800\\u0041",{"a":{"a":[]},"":""}]'
    yield "json", b'\xef\xbb\xbf{"a":"\xff","b":1e999999,"cut":"of'
    logs = '{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"b"}}]},"scopeLogs":[{"logRecords":[{"body":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"1"},{}]}}}]}},"traceId":"00"}]}]}]}'
    yield "otlp-json", logs.encode()
    numbers = numbers_in_logs()
    yield "otlp-protobuf", b"\0" + numbers
    yield "otlp-grpc", b"\x08\0" + len(numbers).to_bytes(4, "big") + numbers
    yield "redact", b"POST o.example:4318 /v1/logs\ncontent-type: application/x-protobuf\n\n" + numbers
    for bits in (0xFFFFFFFFFFFFFFFF, 0x5555555555555555, 0x3333333333333333, 0x9249249249249249):
        yield "splice", b"\5" + bits.to_bytes(8, "little") + numbers
    for coding in range(4):
        yield "codings", bytes([coding]) + b"plain text, not compressed"
        yield "mask", bytes([coding + 2]) + "naïve text with \\u0040 and bob@corp.example".encode()


def numbers_in_logs():
    """A record in protobuf with numbers of every kind, some of which rules name."""

    def varint(number):
        number %= 1 << 64
        groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
        return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])

    def sized(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    def pair(number, key, value):
        return sized(number, sized(1, key) + sized(2, value))

    def whole(number):
        return b"\x18" + varint(number)

    double, yes = b"\x21" + bytes.fromhex("0000000000000440"), b"\x10\x01"
    listed = sized(5, b"".join(sized(1, value) for value in (whole(7), double, yes, sized(1, b"text"))))
    mapped = sized(6, pair(1, b"session.id", whole(-8123456790)) + pair(1, b"n", double))
    values = ((b"user.id", whole(8123456790)), (b"email", double), (b"is_ci", yes), (b"prompt", whole(3)))
    values += ((b"user.name", sized(1, b"bob")), (b"process.command_args", listed), (b"map", mapped))
    record = b"\x09" + (1700000000000000000).to_bytes(8, "little") + b"\x10\x09\x38\x05"
    record += b"".join(pair(6, key, value) for key, value in values)
    return sized(1, sized(1, pair(1, b"host.id", whole(42))) + sized(2, sized(2, record)))


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for target, seed in seeds():
        seed = seed[:LARGEST]
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        (place / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


main(Path(sys.argv[1]))
