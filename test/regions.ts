/** A server in front of LocalStack that lets each region be slow, deny, throttle or break off, as a test wants it. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Treatment {
  /** Milliseconds before anything else. */
  delay?: number;
  /** Answer with this error of EC2's, such as `UnauthorizedOperation`. */
  error?: string;
  /** Break the connection. */
  cut?: boolean;
  /** Answer with this XML, and don't ask LocalStack. */
  answer?: string;
}

export interface Seen {
  region: string;
  /** `DescribeInstances` */
  action: string;
  parameters: URLSearchParams;
}

/**
 * Starts it for one test.
 *
 * @param treat - What to do with a request, by the region that it was signed for and by what it asks.
 * @returns Its address, the requests that came, and the most that were there at one time.
 */
export async function regionProxy(treat: (seen: Seen) => Treatment) {
  const seen: Seen[] = [];
  const load = { now: 0, most: 0 };
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const region = /Credential=[^/]+\/\d+\/([^/]+)\//.exec(incoming.headers.authorization ?? '')?.[1] ?? '';
    const parameters = new URLSearchParams(body.toString());
    const one = { region, action: parameters.get('Action') ?? '', parameters };
    seen.push(one);
    const { delay = 0, error, cut, answer } = treat(one);
    load.most = Math.max(load.most, ++load.now);
    if (delay > 0) await new Promise((later) => setTimeout(later, delay));
    load.now--;
    if (cut) incoming.socket.destroy();
    else if (error) {
      const xml = `<Response><Errors><Error><Code>${error}</Code><Message>${error} of ${region}.</Message></Error></Errors><RequestID>1</RequestID></Response>`;
      outgoing.writeHead(error === 'RequestLimitExceeded' ? 503 : 403, { 'content-type': 'text/xml' }).end(xml);
    } else if (answer) outgoing.writeHead(200, { 'content-type': 'text/xml' }).end(answer);
    else forward(incoming, body, outgoing);
  }).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, load };
}

function forward({ method, url, headers }: IncomingMessage, body: Buffer, outgoing: ServerResponse): void {
  const onward = request(`${process.env.COOKBOOK_LOCALSTACK}${url}`, { method, headers, agent: false }, (answer) => {
    outgoing.writeHead(answer.statusCode as number, answer.headers);
    answer.pipe(outgoing);
  });
  onward.on('error', () => outgoing.destroy());
  onward.end(body);
}
