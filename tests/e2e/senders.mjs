// Sends requests from Node as people do: fetch (undici) with a proxy agent, over HTTP/1.1 and HTTP/2, and node:http2.
// Reads a job as JSON on stdin, prints the outcomes as JSON. Started by identity.py and leaf.py.

import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { createRequire } from 'node:module';
import tls from 'node:tls';

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const ca = fs.readFileSync(job.ca);
const { fetch, ProxyAgent } = createRequire(import.meta.url)(job.undici);

function digest(bytes) {
  return crypto.createHash('sha256').update(bytes).digest('hex');
}

function tunnel(url) {
  return new Promise((resolve, reject) => {
    const proxy = new URL(job.proxy);
    const authority = `${url.hostname}:${url.port || 443}`;
    const connect = http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: authority });
    connect.on('error', reject);
    connect.on('connect', (response, socket) => {
      if (response.statusCode === 200) resolve(socket);
      else reject(new Error(`CONNECT answered ${response.statusCode}`));
    });
    connect.end();
  });
}

async function secured(url, protocols) {
  const socket = await tunnel(url);
  return new Promise((resolve, reject) => {
    const session = tls.connect({ socket, ca, servername: url.hostname, ALPNProtocols: protocols });
    session.on('error', reject);
    session.on('secureConnect', () => resolve(session));
  });
}

async function byFetch(request, allowH2) {
  const agent = new ProxyAgent({ uri: job.proxy, requestTls: { ca, allowH2 }, allowH2 });
  let body = request.bodyFile ? fs.readFileSync(request.bodyFile) : undefined;
  if (body && request.streamed) {
    const bytes = body;
    body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 65536) controller.enqueue(bytes.subarray(at, at + 65536));
        controller.close();
      },
    });
  }
  const response = await fetch(request.url, {
    method: request.method, headers: request.headers, body, duplex: 'half', redirect: 'manual', dispatcher: agent,
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  await agent.close();
  return { status: response.status, headers: [...response.headers], body: digest(bytes) };
}

async function byHttp2(request) {
  const url = new URL(request.url);
  const socket = await secured(url, ['h2']);
  const session = http2.connect(url.origin, { createConnection: () => socket });
  const failed = new Promise((_, reject) => session.on('error', reject));
  const stream = session.request({
    ':method': request.method, ':path': url.pathname + url.search, ...Object.fromEntries(request.headers),
  }, { endStream: !request.bodyFile });
  const answered = new Promise((resolve, reject) => {
    let headers;
    const parts = [];
    stream.on('response', (fields) => { headers = fields; });
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => {
      if (!headers) return;
      resolve({
        status: headers[':status'],
        headers: Object.entries(headers).filter(([name]) => !name.startsWith(':')).map(([name, value]) => [name, String(value)]),
        body: digest(Buffer.concat(parts)),
      });
    });
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('the stream closed before the answer was complete')));
  });
  if (request.bodyFile) stream.end(fs.readFileSync(request.bodyFile));
  const outcome = await Promise.race([answered, failed]);
  session.close();
  return outcome;
}

async function byTls(request) {
  const session = await secured(new URL(request.url), ['http/1.1']);
  const outcome = { authorized: session.authorized, issuer: session.getPeerCertificate().issuer.CN, protocol: session.alpnProtocol };
  session.destroy();
  return outcome;
}

const ways = {
  'fetch-h1': (request) => byFetch(request, false),
  'fetch-h2': (request) => byFetch(request, true),
  http2: byHttp2,
  tls: byTls,
};
const outcomes = [];
for (const request of job.requests) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${job.timeoutSecs} s`)), job.timeoutSecs * 1000);
  });
  try {
    outcomes.push({ name: request.name, ...await Promise.race([ways[job.way](request), late]) });
  } catch (error) {
    outcomes.push({ name: request.name, error: `${error}${error.cause ? `: ${error.cause}` : ''}` });
  }
  clearTimeout(timer);
}
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
