/** Connections that are read in large pieces, for 3.14: less work for each gigabyte. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { OnReadOpts } from 'node:net';

/**
 * Makes the agents of a client that downloads much. Without them Node.js takes new memory for each read, of 64 KiB at
 * most, and its HTTP parser copies what came. Here all connections read into one larger buffer, and the parser copies
 * out of that. Behind a proxy's agent, use that one instead.
 *
 * @param options.bufferSize - Bytes of a read at most. 4 MiB by default.
 * @returns For a client's `requestHandler`. One pair can serve all clients of a program.
 * @see https://nodejs.org/docs/latest-v20.x/api/net.html#socketconnectoptions-connectlistener
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000, ...largeReads() } });
 * const { size } = await downloadLargeObject(s3, { bucket: 'my-films', key: 'cat.mov', file: 'cat.mov' });
 * console.log(size);
 */
export function largeReads({ bufferSize = 4 * 2 ** 20 } = {}): { httpAgent: HttpAgent; httpsAgent: HttpsAgent } {
  const buffer = Buffer.alloc(bufferSize);
  // As many connections as the SDK's own agents.
  const settings = { keepAlive: true, maxSockets: 50 };
  const agents = { httpAgent: new HttpAgent(settings), httpsAgent: new HttpsAgent(settings) };
  for (const agent of Object.values<HttpAgent>(agents)) {
    const open = agent.createConnection.bind(agent);
    agent.createConnection = (options, done) => {
      const onread: OnReadOpts = {
        buffer,
        callback: (length) => {
          // As a read of the usual kind would do it. The parser, which listens, keeps no part of the buffer.
          socket?.emit('data', buffer.subarray(0, length));
          return true;
        },
      };
      const socket = open(Object.assign({ onread }, options), done);
      return socket;
    };
  }
  return agents;
}
