/**
 * Loaded into every process of the tests before anything else. It refuses connections to other machines, so
 * that no test can reach AWS; writes down the operations that the recipes send; and makes named operations fail.
 */
import { appendFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { Client } from '@smithy/core/client';
import { statusOf } from './faults.ts';

/** An operation that goes otherwise than the server would have it. */
export interface Fault {
  /** `ec2:RunInstances` */
  operation: string;
  /** How many calls go through before. 0 by default. */
  after?: number;
  /** How many calls are concerned, all by default. */
  times?: number;
  /** The error to answer with: its name, and for people its message. */
  error?: { name: string; message?: string };
  /** The answer to give instead of the server's. */
  output?: object;
  /** Send this signal to the process when the call is made, then go on. */
  signal?: NodeJS.Signals;
  /** Do so when the answer is there. */
  signalAfter?: NodeJS.Signals;
}

const loopback = /^(localhost|127(\.\d+){3}|::1|::ffff:127(\.\d+){3}|.*\.localhost)$/;
const connect = Socket.prototype.connect;
Socket.prototype.connect = function (this: Socket, ...args: unknown[]) {
  const [first] = (Array.isArray(args[0]) ? args[0] : args) as [unknown];
  const { host, path } =
    typeof first === 'object'
      ? (first as { host?: string; path?: string })
      : { host: String(args[1] ?? ''), path: null };
  if (host && !path && !loopback.test(host)) {
    process.stderr.write(`REFUSED BY THE TESTS: a connection to ${host}\n`);
    const refusal = Object.assign(new Error(`the tests refuse a connection to ${host}`), {
      code: 'ECONNREFUSED',
    });
    process.nextTick(() => this.destroy(refusal));
    return this;
  }
  return connect.apply(this, args as never);
} as typeof connect;

const faults: Fault[] = JSON.parse(process.env.TEST_FAULTS ?? '[]');
const calls = new Map<Fault, number>();
/** Whether the recipe's own code says where a client sends. Asked at its first call: then the SDK notes other ways. */
const elsewhere = new WeakMap<object, boolean>();
const send = Client.prototype.send;
Client.prototype.send = function (this: object, command: never, ...rest: never[]) {
  const {
    constructor: kind,
    input,
    middlewareStack,
  } = command as {
    constructor: { name: string };
    input: Record<string, unknown>;
    middlewareStack: { add(middleware: unknown, options: object): void };
  };
  const service = this.constructor.name.replace('Client', '').toLowerCase();
  const operation = `${service}:${kind.name.replace('Command', '')}`;
  const { config } = this as { config?: { isCustomEndpoint?: boolean } };
  if (!elsewhere.has(this)) elsewhere.set(this, config?.isCustomEndpoint === true);
  // What goes to a server of the recipe's own needs no permission of AWS.
  if (process.env.TEST_RECORD && !elsewhere.get(this)) {
    const confirmed = process.argv.includes('--yes') || process.stdin.isTTY === true;
    const plain = JSON.stringify({ operation, input: { ...input, Body: undefined }, confirmed });
    appendFileSync(process.env.TEST_RECORD, `${plain}\n`);
  }
  const fault = faults.find((one) => {
    if (one.operation !== operation) return false;
    const call = calls.get(one) ?? 0;
    calls.set(one, call + 1);
    const from = one.after ?? 0;
    return call >= from && call < from + (one.times ?? Number.POSITIVE_INFINITY);
  });
  if (fault) {
    const { error, output, signal, signalAfter } = fault;
    const middleware = (next: (args: unknown) => Promise<unknown>) => async (args: unknown) => {
      if (signal) await interrupt(signal);
      if (error) {
        const $metadata = { httpStatusCode: statusOf(error.name) };
        throw Object.assign(new Error(error.message ?? error.name), { name: error.name, $metadata });
      }
      if (output) return { output: { $metadata: {}, ...output }, response: {} };
      const answer = await next(args);
      if (signalAfter) await interrupt(signalAfter);
      return answer;
    };
    // Beyond the steps that check the input, before the one that retries.
    middlewareStack.add(middleware, { step: 'build', priority: 'low', name: 'fault', override: true });
  }
  return Reflect.apply(send, this, [command, ...rest]);
} as typeof send;

/** Signals reach the handlers a moment later, which can be a long one on a busy machine. */
async function interrupt(signal: NodeJS.Signals): Promise<void> {
  let heard = process.listenerCount(signal) === 0;
  if (!heard) process.once(signal, () => (heard = true));
  process.kill(process.pid, signal);
  do await new Promise((done) => setTimeout(done, 50));
  while (!heard);
}
