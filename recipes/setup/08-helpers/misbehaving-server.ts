/**
 * A server that goes wrong in the ways that time-outs are for, each at an address of its own. It listens on this
 * machine only and ends with the process.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

export interface MisbehavingServer {
  /** Where to find each way of going wrong, by what it is called. */
  urls: Record<string, string>;
  close: () => Promise<void>;
}

/** A byte of a dribbled answer comes this often. */
const interval = 50;

/** What each does with a request, and with the how manieth to the same address it is. */
const ways: Record<string, (request: IncomingMessage, response: ServerResponse, time: number) => void> = {
  'stays silent': () => {},
  'stops in its answer': (_request, response) => void response.writeHead(200, { 'content-length': 2 }).write('.'),
  'dribbles its answer': async (_request, response) => {
    response.writeHead(200, { 'content-length': 1_000_000 });
    while (response.writable) {
      response.write('.');
      await sleep(interval);
    }
  },
  'resets connections': (request) => request.socket.resetAndDestroy(),
  'answers 503, then 200': (_request, response, time) => void response.writeHead(time === 1 ? 503 : 200).end(),
  'works, the upload is slow': (request, response) => void request.resume().on('end', () => response.end()),
};

/** Starts it. */
export async function startMisbehavingServer(): Promise<MisbehavingServer> {
  const names = Object.keys(ways);
  const times = new Map<string, number>();
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0] ?? '';
    times.set(path, (times.get(path) ?? 0) + 1);
    ways[names[Number(path.split('/')[1])] ?? '']?.(request, response, times.get(path) ?? 0);
  }).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as AddressInfo;
  const deaf = await startDeafServer();
  return {
    urls: {
      'accepts no connection': deaf.url,
      ...Object.fromEntries(names.map((name, at) => [name, `http://127.0.0.1:${port}/${at}`])),
    },
    close: async () => {
      server.close();
      server.closeAllConnections();
      await deaf.close();
    },
  };
}

/** Listens, but its thread sleeps and accepts no connection. Once its queue is full, nobody gets through to it. */
async function startDeafServer(): Promise<{ url: string; close: () => Promise<unknown> }> {
  const code = `
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      require('node:worker_threads').parentPort.postMessage(server.address().port);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  // Without this process's own --import, which is the translation of TypeScript.
  const thread = new Worker(code, { eval: true, execArgv: [] });
  const port = await new Promise<number>((resolve, reject) => thread.on('message', resolve).on('error', reject));
  const queue: Socket[] = [];
  for (let through = true; through && queue.length < 20; ) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    queue.push(socket);
    through = await Promise.race([
      new Promise<true>((yes) => socket.on('connect', () => yes(true))),
      sleep(300, false),
    ]);
  }
  const close = () => {
    for (const socket of queue) socket.destroy();
    return thread.terminate();
  };
  return { url: `http://127.0.0.1:${port}`, close };
}
