/**
 * A server in front of LocalStack or versitygw that counts the requests by operation, and lets single ones go wrong on
 * the wire as a test wants it.
 */
import { type ClientRequest, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** One request to S3 that came by. */
export interface S3Request {
  /** `UploadPart`; an operation that no recipe's test has asked for yet is `GET ?subresource`. */
  operation: string;
  method: string;
  /** Path and query as sent, encoded. */
  url: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  /** How many requests of the same operation came before it. */
  before: number;
}

/**
 * What happens to a request instead of being passed on:
 * a number: it is answered with this status and S3's error for it; `reset`: the connection is broken at once, `cut`:
 * in the middle of the answer's body; `stall`: it is never answered; `lose`: the server does it, and the connection
 * breaks before the answer; a function: it is awaited, then the request is passed on.
 */
export type Mishap = number | 'reset' | 'cut' | 'stall' | 'lose' | (() => Promise<unknown>);

export interface S3Proxy {
  url: string;
  requests: S3Request[];
  /** How many requests of an operation came. */
  count: (operation: string) => number;
  /** The most that were under way at one time. */
  load: { now: number; most: number };
  /** How many the server behind has not answered yet, also to a client that is gone. */
  behind: { now: number };
}

const errors: Record<number, string> = {
  ...{ 500: 'InternalError', 503: 'SlowDown', 403: 'AccessDenied', 412: 'PreconditionFailed' },
};

/**
 * Starts it for one test.
 *
 * @param mishap - What goes wrong with a request, if anything.
 * @param options.target - The server behind it. LocalStack by default.
 */
export async function startProxy(
  mishap: (seen: S3Request) => Mishap | null | undefined = () => null,
  { target = process.env.COOKBOOK_LOCALSTACK as string }: { target?: string } = {},
): Promise<S3Proxy> {
  const requests: S3Request[] = [];
  const count = (name: string) => requests.filter(({ operation }) => operation === name).length;
  const load = { now: 0, most: 0 };
  const behind = { now: 0 };
  const server = createServer(async (incoming, outgoing) => {
    const seen = describe(incoming);
    seen.before = count(seen.operation);
    requests.push(seen);
    load.most = Math.max(load.most, ++load.now);
    outgoing.on('close', () => load.now--);
    const what = mishap(seen);
    if (typeof what === 'number') {
      incoming.resume().on('end', () => {
        const code = errors[what] ?? `Status${what}`;
        const body = `<Error><Code>${code}</Code><Message>${code} of the test.</Message></Error>`;
        outgoing.writeHead(what, { 'content-type': 'application/xml' }).end(incoming.method === 'HEAD' ? '' : body);
      });
    } else if (what === 'reset') incoming.socket.destroy();
    else if (what === 'stall') incoming.resume();
    else {
      if (typeof what === 'function') await what();
      behind.now++;
      forward(target, incoming, outgoing, what).on('close', () => behind.now--);
    }
  });
  // One that the SDK waits with for the word to go on gets it from the server behind.
  server.on('checkContinue', (incoming, outgoing) => {
    outgoing.writeContinue();
    server.emit('request', incoming, outgoing);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, count, load, behind };
}

/** Headers go on as they came, the host too: it is signed. */
function forward(target: string, incoming: IncomingMessage, outgoing: ServerResponse, what: unknown): ClientRequest {
  const { method, url, headers } = incoming;
  const { expect: _, ...rest } = headers;
  const onward = request(`${target}${url}`, { method, headers: rest, agent: false }, (answer) => {
    if (what === 'lose') {
      answer.resume().on('end', () => incoming.socket.destroy());
      return;
    }
    outgoing.writeHead(answer.statusCode as number, answer.headers);
    if (what === 'cut') {
      answer.once('data', (chunk: Buffer) => {
        outgoing.write(chunk.subarray(0, Math.ceil(chunk.length / 2)), () => incoming.socket.destroy());
        answer.destroy();
      });
    } else answer.pipe(outgoing);
    answer.on('error', () => outgoing.destroy());
    outgoing.on('close', () => answer.resume());
  });
  onward.on('error', () => outgoing.destroy());
  incoming.on('close', () => incoming.complete || onward.destroy());
  incoming.pipe(onward);
  return onward;
}

function describe({ method = '', url = '', headers }: IncomingMessage): S3Request {
  const [path = '', search = ''] = url.split(/\?(.*)/s);
  const query = new URLSearchParams(search);
  const hasKey = /^\/[^/]+\/./.test(path);
  return { operation: name(), method, url, query, headers, before: 0 };

  function name(): string {
    const id = query.get('x-id');
    if (id) return id;
    if (query.has('uploads')) return method === 'POST' ? 'CreateMultipartUpload' : 'ListMultipartUploads';
    if (query.has('uploadId')) {
      const copy = headers['x-amz-copy-source'] ? 'UploadPartCopy' : 'UploadPart';
      return { PUT: copy, GET: 'ListParts', DELETE: 'AbortMultipartUpload' }[method] ?? 'CompleteMultipartUpload';
    }
    if (query.has('delete')) return 'DeleteObjects';
    if (query.has('versions')) return 'ListObjectVersions';
    if (query.has('attributes')) return 'GetObjectAttributes';
    const [sub] = [...query.keys()].filter((key) => /^[a-z-]+$/.test(key) && query.get(key) === '');
    if (sub && sub !== 'prefix' && sub !== 'delimiter') return `${method} ?${sub}`;
    if (!hasKey) return { GET: 'ListObjectsV2', HEAD: 'HeadBucket' }[method] ?? method;
    if (method === 'PUT') return headers['x-amz-copy-source'] ? 'CopyObject' : 'PutObject';
    return { GET: 'GetObject', HEAD: 'HeadObject', DELETE: 'DeleteObject' }[method] ?? method;
  }
}
