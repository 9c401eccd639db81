"""Sends telemetry with the real Python SDKs, as a program that uses them would. Reads a job as JSON on stdin; the proxy
and the roots come from the environment. Started by sdk.py, in a process of its own: SDKs read the environment once.
"""

import json
import os
import sys


def main() -> None:
    """Runs the sender that the job names."""
    job = json.load(sys.stdin)
    {"opentelemetry": opentelemetry, "sentry": sentry, "statsig": statsig}[job["sdk"]](job)


def opentelemetry(job: dict) -> None:
    """One batch of each signal, with a planted address in each kind of place."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Status, StatusCode

    plant = job["plants"]
    spans_out, logs_out, metrics_out = _exporters(job)
    resource = Resource.create({"service.name": "e2e", "member": plant["resource"]})

    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(spans_out))
    with tracers.get_tracer("e2e", "1.0").start_as_current_span("outer", record_exception=False) as span:
        span.set_attribute("user.email", plant["span"])
        span.set_attribute("workspace.host_paths", ["/srv", f"/home/{plant['list']}/src"])
        span.set_attribute("tool_input", json.dumps({"owner": {"mail": plant["json"]}}))
        span.set_attribute("count", 9007199254740993)
        span.set_attribute("share", 0.25)
        span.set_attribute("done", True)
        span.add_event("note", {"output": f"written to {plant['event']}"})
        span.record_exception(ValueError(f"no mailbox for {plant['exception']}"))
        span.set_status(Status(StatusCode.ERROR, f"asked for {plant['status']}"))
    tracers.shutdown()

    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs_out))
    logger = loggers.get_logger("e2e")
    nested = {"request": {"header": {"from": plant["nested"]}}, "blob": f"bytes of {plant['bytes']}".encode(), "some": [1, {"who": plant["nested list"]}]}
    logger.emit(LogRecord(timestamp=1, severity_number=SeverityNumber.INFO, severity_text="INFO", body=f"hello {plant['body']}", attributes=nested))
    logger.emit(LogRecord(timestamp=2, body={"from": {"address": plant["body map"]}, "tags": ["a", plant["body list"]]}, event_name="e2e.event"))
    loggers.shutdown()

    reader = PeriodicExportingMetricReader(metrics_out, export_interval_millis=3_600_000)
    meters = MeterProvider([reader], resource=resource)
    meter = meters.get_meter("e2e")
    meter.create_counter("e2e.count").add(3, {"user.email": plant["counter"]})
    meter.create_histogram("e2e.seconds").record(0.5, {"who": plant["histogram"]})
    meter.create_gauge("e2e.level").set(1.5, {"who": plant["gauge"]})
    meters.shutdown()


def _exporters(job: dict) -> tuple:
    if job["protocol"] == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        options = {"endpoint": job["endpoint"], "compression": Compression.Gzip if job["gzip"] else Compression.NoCompression, "timeout": 15}
        return OTLPSpanExporter(**options), OTLPLogExporter(**options), OTLPMetricExporter(**options)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    options = {"compression": Compression.Gzip if job["gzip"] else Compression.NoCompression, "timeout": 15}
    paths = [f"{job['endpoint']}/v1/{signal}" for signal in ("traces", "logs", "metrics")]
    kinds = (OTLPSpanExporter, OTLPLogExporter, OTLPMetricExporter)
    return tuple(kind(endpoint=path, **options) for kind, path in zip(kinds, paths, strict=True))


def sentry(job: dict) -> None:
    """An event of an exception, with user, breadcrumb, tag and context; a transaction."""
    import sentry_sdk

    plant = job["plants"]
    sentry_sdk.init(job["dsn"], ca_certs=os.environ["SSL_CERT_FILE"], traces_sample_rate=1.0, send_default_pii=True, default_integrations=False)
    sentry_sdk.set_user({"id": "42", "email": plant["user"]})
    sentry_sdk.set_tag("owner", plant["tag"])
    sentry_sdk.set_context("order", {"parties": [{"mail": plant["context"]}]})
    sentry_sdk.add_breadcrumb(message=f"wrote to {plant['breadcrumb']}", category="mail", data={"cc": plant["breadcrumb data"]})
    with sentry_sdk.start_transaction(op="task", name=f"mail {plant['transaction']}"):
        try:
            raise ValueError(f"no mailbox for {plant['exception']}")
        except ValueError as error:
            sentry_sdk.capture_exception(error)
    sentry_sdk.flush(20)


def statsig(job: dict) -> None:
    """An event of a user, logged with metadata."""
    from statsig_python_core import ProxyConfig, Statsig, StatsigOptions, StatsigUser

    plant, proxy = job["plants"], job["proxy"]
    options = StatsigOptions(
        specs_url="https://statsigapi.net/v1/download_config_specs",
        log_event_url="https://statsigapi.net/v1/log_event",
        init_timeout_ms=5000,
        proxy_config=ProxyConfig(
            proxy_host=proxy["host"], proxy_port=proxy["port"], proxy_protocol="http", ca_cert_path=os.environ["SSL_CERT_FILE"]
        ),
    )
    client = Statsig(job["key"], options)
    client.initialize().wait()
    user = StatsigUser(user_id="u-42", email=plant["user"], custom={"manager": plant["custom"]})
    client.log_event(user, "e2e_event", plant["value"], {"note": f"sent to {plant['metadata']}", "env": json.dumps({"mail": plant["json"]})})
    client.flush_events().wait()
    client.shutdown().wait()


if __name__ == "__main__":
    main()
