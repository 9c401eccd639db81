// Sends telemetry with the real SDKs for Node, as a program that uses them would. Reads a job as JSON on stdin; roots
// come from the environment. Started by sdk.py, in a process of its own.

import fs from 'node:fs';
import { createRequire } from 'node:module';

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const require = createRequire(`${job.modules}/`);
const plant = job.plants;

await { opentelemetry, sentry, statsig }[job.sdk]();

async function opentelemetry() {
  const { diag, SpanStatusCode } = require('@opentelemetry/api');
  const { resourceFromAttributes } = require('@opentelemetry/resources');
  const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
  const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');
  const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');

  diag.setLogger({ error: console.error, warn: console.error, info() {}, debug() {}, verbose() {} });
  const [spansOut, logsOut, metricsOut] = exporters();
  const resource = resourceFromAttributes({ 'service.name': 'e2e', member: plant.resource });

  const tracers = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(spansOut)] });
  const span = tracers.getTracer('e2e', '1.0').startSpan('outer');
  span.setAttributes({
    'user.email': plant.span,
    'workspace.host_paths': ['/srv', `/home/${plant.list}/src`],
    tool_input: JSON.stringify({ owner: { mail: plant.json } }),
    count: 4503599627370497, share: 0.25, done: true,
  });
  span.addEvent('note', { output: `written to ${plant.event}` });
  span.recordException(new Error(`no mailbox for ${plant.exception}`));
  span.setStatus({ code: SpanStatusCode.ERROR, message: `asked for ${plant.status}` });
  span.end();
  await tracers.forceFlush();
  await tracers.shutdown();

  const loggers = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: logsOut })] });
  const logger = loggers.getLogger('e2e');
  const blob = new Uint8Array(Buffer.from(`bytes of ${plant.bytes}`));
  logger.emit({
    severityText: 'INFO', body: `hello ${plant.body}`,
    attributes: { request: { header: { from: plant.nested } }, blob, some: [1, { who: plant['nested list'] }] },
  });
  logger.emit({ eventName: 'e2e.event', body: { from: { address: plant['body map'] }, tags: ['a', plant['body list']] } });
  await loggers.forceFlush();
  await loggers.shutdown();

  const reader = new PeriodicExportingMetricReader({ exporter: metricsOut, exportIntervalMillis: 3_600_000 });
  const meters = new MeterProvider({ resource, readers: [reader] });
  const meter = meters.getMeter('e2e');
  meter.createCounter('e2e.count').add(3, { 'user.email': plant.counter });
  meter.createHistogram('e2e.seconds').record(0.5, { who: plant.histogram });
  meter.createGauge('e2e.level').record(1.5, { who: plant.gauge });
  // Shutting down exports; a flush before it would export twice.
  await meters.shutdown();
}

function exporters() {
  const compression = job.gzip ? 'gzip' : 'none';
  const kind = { grpc: 'grpc', 'http/json': 'http', 'http/protobuf': 'proto' }[job.protocol];
  const of = (signal, name, path) => {
    const Exporter = require(`@opentelemetry/exporter-${signal}-otlp-${kind}`)[name];
    // gRPC reads `grpc_proxy` by itself; the others know no proxy.
    if (kind === 'grpc') return new Exporter({ url: job.endpoint, compression, timeoutMillis: 15_000 });
    return new Exporter({ url: `${job.endpoint}${path}`, compression, timeoutMillis: 15_000, httpAgentOptions: agent });
  };
  return [
    of('trace', 'OTLPTraceExporter', '/v1/traces'),
    of('logs', 'OTLPLogExporter', '/v1/logs'),
    of('metrics', 'OTLPMetricExporter', '/v1/metrics'),
  ];
}

async function agent(protocol) {
  if (!job.proxy) return new (await import(`node:${protocol.slice(0, -1)}`)).Agent();
  const name = protocol === 'http:' ? 'HttpProxyAgent' : 'HttpsProxyAgent';
  const { [name]: Agent } = await import(`${job.modules}/${protocol === 'http:' ? 'http' : 'https'}-proxy-agent/dist/index.js`);
  return new Agent(job.proxy.url);
}

async function sentry() {
  const Sentry = require('@sentry/node');
  Sentry.init({ dsn: job.dsn, tracesSampleRate: 1, sendDefaultPii: true });
  Sentry.setUser({ id: '42', email: plant.user });
  Sentry.setTag('owner', plant.tag);
  Sentry.setContext('order', { party: { mail: plant.context } });
  Sentry.addBreadcrumb({ message: `wrote to ${plant.breadcrumb}`, category: 'mail', data: { cc: plant['breadcrumb data'] } });
  Sentry.startSpan({ op: 'task', name: `mail ${plant.transaction}` }, () => {
    Sentry.captureException(new Error(`no mailbox for ${plant.exception}`));
  });
  if (!await Sentry.close(20_000)) throw new Error('Sentry could not flush');
}

async function statsig() {
  const { Statsig, StatsigUser } = require('@statsig/statsig-node-core');
  const client = new Statsig(job.key, {
    specsUrl: 'https://statsigapi.net/v1/download_config_specs',
    logEventUrl: 'https://statsigapi.net/v1/log_event',
    initTimeoutMs: 5000,
    proxyConfig: { proxyHost: job.proxy.host, proxyPort: job.proxy.port, proxyProtocol: 'http', caCertPath: process.env.SSL_CERT_FILE },
  });
  await client.initialize();
  const user = new StatsigUser({ userID: 'u-42', email: plant.user, custom: { manager: plant.custom } });
  const metadata = { note: `sent to ${plant.metadata}`, env: JSON.stringify({ mail: plant.json }) };
  client.logEvent(user, 'e2e_event', plant.value, metadata);
  await client.flushEvents();
  await client.shutdown();
}
