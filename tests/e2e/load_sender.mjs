// Emits numbered log records at a steady pace with the real SDK for Node. Reads a job as JSON on stdin. Started by receiver.py.

import fs from 'node:fs';
import { createRequire } from 'node:module';

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const require = createRequire(`${job.modules}/`);
const { diag } = require('@opentelemetry/api');
const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');
const kind = { grpc: 'grpc', 'http/json': 'http', 'http/protobuf': 'proto' }[job.protocol];
const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${kind}`);

diag.setLogger({ error: console.error, warn: console.error, info() {}, debug() {}, verbose() {} });
const url = job.protocol === 'grpc' ? job.endpoint : `${job.endpoint}/v1/logs`;
const exporter = new OTLPLogExporter({ url, timeoutMillis: job.patience * 1000 });
// The queue holds everything: what is lost would be lost behind it.
const processor = new BatchLogRecordProcessor({
  exporter, scheduledDelayMillis: 100, maxExportBatchSize: 20, maxQueueSize: 8192, exportTimeoutMillis: job.patience * 1000,
});
const provider = new LoggerProvider({ processors: [processor] });
const logger = provider.getLogger('load');
for (let number = 0; number < job.count; number += 1) {
  logger.emit({ body: `${job.mark}-${number}-${'x'.repeat(2000)}` });
  await new Promise((resolve) => setTimeout(resolve, (job.seconds * 1000) / job.count));
}
await provider.forceFlush();
await provider.shutdown();
