"""What the real services would answer, as far as the client under test cares. No sockets here."""

import json
import os

from origin import Answer, Request

# What the model asks the client to run, once. The marker must come back as the tool's result.
TOOL_MARKER = "plainsight-e2e-tool-ran"
TOOL_COMMAND = f"echo {TOOL_MARKER}"
FINAL_TEXT = "Hello to bob, from the local origin."


def answer(request: Request) -> Answer:
    """Answers any request of the client; unknown ones with `{}`."""
    path, method = request.path, request.method
    if path == "/echo" or path.startswith("/echo/"):
        return echo(request)
    if path == "/v1/messages" and method == "POST":
        return messages(request)
    if path == "/v1/messages/count_tokens":
        return as_json({"input_tokens": 42})
    if path.endswith("/metrics_enabled"):
        return as_json({"metrics_logging_enabled": True})
    if path.startswith("/api/eval/"):
        rule = {"defaultValue": True, "value": True, "on": True, "off": False, "source": "force", "rules": [{"force": True}]}
        return as_json({"features": {"tengu_log_datadog_events": rule}})
    if path == "/api/claude_code/policy_limits":
        return as_json({"restrictions": {}})
    if path == "/api/claude_code/settings":
        return as_json({"error": "not found"}, status=404)
    if path.startswith("/api/event_logging/"):
        return as_json({"accepted_count": _count(request.body, "events"), "rejected_count": 0})
    if path == "/api/claude_code/metrics":
        return as_json({"accepted_count": _count(request.body, "metrics"), "rejected_count": 0})
    if path == "/v1/initialize":
        return as_json({"has_updates": False, "feature_gates": {}, "dynamic_configs": {}, "layer_configs": {}, "time": 0})
    if path in ("/v1/rgstr", "/v1/log_event"):
        return as_json({"success": True}, status=202)
    if path == "/api/v2/logs":
        return as_json({}, status=202)
    if path.endswith(("/envelope/", "/store/")):
        return as_json({"id": "0" * 32})
    if path.startswith("/opentelemetry.proto.collector."):
        return Answer(
            headers=[("content-type", "application/grpc")],
            body=b"\0\0\0\0\0",
            trailers=[("grpc-status", "0")],
        )
    if path in ("/v1/metrics", "/v1/logs", "/v1/traces"):
        kind = request.header("content-type") or "application/json"
        return Answer(headers=[("content-type", kind)], body=b"{}" if "json" in kind else b"")
    return as_json({})


def as_json(value: object, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status=status, headers=[("content-type", "application/json")], body=json.dumps(value).encode())


def echo(request: Request) -> Answer:
    """Answers with what is independent of the way: used to compare answers, too."""
    body = b"%s %s %d\n" % (request.method.encode(), request.target.encode("latin-1"), len(request.body))
    match request.path.removeprefix("/echo").strip("/").split("/")[0]:
        case "204":
            return Answer(status=204, headers=[("X-Answer", "nothing")])
        case "304":
            return Answer(status=304, headers=[("ETag", '"e2e"')])
        case "trailers":
            return Answer(headers=[("Trailer", "X-Checksum")], body=body, trailers=[("X-Checksum", "abc")])
        case "stream":
            return Answer(headers=[("Content-Type", "text/event-stream")], chunks=[(0.0, body)] * 3)
        case "large":
            return Answer(headers=[("Content-Type", "application/octet-stream")], body=bytes(range(256)) * 4096 * 20)
    return Answer(headers=[("Content-Type", "text/plain"), ("X-Answer", "one"), ("X-Answer", "two"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], body=body)


def messages(request: Request, command: str = TOOL_COMMAND, text: str = FINAL_TEXT) -> Answer:
    """The Messages API: asks for one Bash command, and once its result is there, says goodbye."""
    asked = json.loads(request.body)
    model = asked.get("model", "claude")
    has_bash = any(tool.get("name") == "Bash" for tool in asked.get("tools") or [])
    has_result = '"tool_result"' in json.dumps(asked.get("messages", []))
    if has_bash and not has_result:
        content, stop = {"type": "tool_use", "id": f"toolu_{os.urandom(12).hex()}", "name": "Bash", "input": {"command": command, "description": "Say hello"}}, "tool_use"
    else:
        content, stop = {"type": "text", "text": text}, "end_turn"
    message = {
        "id": f"msg_{os.urandom(12).hex()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }
    if not asked.get("stream"):
        return as_json(message | {"content": [content], "stop_reason": stop})
    if content["type"] == "tool_use":
        start, delta = content | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(content["input"])}
    else:
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": content["text"]}
    events = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return Answer(
        headers=[("content-type", "text/event-stream"), ("request-id", f"req_{os.urandom(12).hex()}")],
        chunks=[(0.005, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()) for event in events],
    )


def _count(body: bytes, key: str) -> int:
    try:
        return len(json.loads(body)[key])
    except (KeyError, TypeError, ValueError):
        return 0
