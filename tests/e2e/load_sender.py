"""Emits numbered log records at a steady pace with the real Python SDK. Reads a job as JSON on stdin. Started by receiver.py."""

import json
import sys
import time

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

job = json.load(sys.stdin)
if job["protocol"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=job["endpoint"], timeout=job["patience"])
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=f"{job['endpoint']}/v1/logs", timeout=job["patience"])

provider = LoggerProvider()
# The queue holds everything: what is lost would be lost behind it.
provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=100, max_export_batch_size=20, max_queue_size=8192))
logger = provider.get_logger("load")
for number in range(job["count"]):
    logger.emit(LogRecord(timestamp=1 + number, body=f"{job['mark']}-{number}-" + "x" * 2000))
    time.sleep(job["seconds"] / job["count"])
provider.force_flush(int(job["patience"] * 1000))
provider.shutdown()
