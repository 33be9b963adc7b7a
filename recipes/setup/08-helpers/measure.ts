/** Measures what each clock of a client does about each way in which a server can go wrong. */
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { connect } from '../../../shared/cli.ts';
import { type ClientLimits, setTimeouts, withDeadline } from '../08-set-timeouts.ts';
import { startMisbehavingServer } from './misbehaving-server.ts';

export interface Outcome {
  /** `waiting` when there was still no end after all clocks had run out. */
  outcome: 'done' | 'failed' | 'waiting';
  /** What the error is told by; null if there was none. */
  error: string | null;
  milliseconds: number;
  /** How often it was tried; null where nobody counted. */
  attempts: number | null;
}

export type MeasuredLimits = Record<
  'connectionTimeout' | 'requestTimeout' | 'socketTimeout' | 'deadline' | 'maxAttempts',
  number
>;

/** What became of a call with one of the clocks set and no other. */
export interface Measured {
  server: string;
  connection: Outcome;
  request: Outcome;
  socket: Outcome;
  deadline: Outcome;
  retries: Outcome;
}

/** How long the long upload takes, in milliseconds. */
const uploadTime = 1_200;

/**
 * Runs a server that misbehaves, and calls it in all its ways with each clock alone, nearly at once.
 *
 * @param limits - The clocks in milliseconds, the deadline among them, and the number of attempts.
 */
export async function measureTimeouts(limits: MeasuredLimits): Promise<Measured[]> {
  const { connectionTimeout, requestTimeout, socketTimeout, maxAttempts, deadline } = limits;
  for (const [name, value] of Object.entries(limits)) {
    // Here somebody waits for the result.
    const most = name === 'maxAttempts' ? 5 : 10_000;
    if (!(value >= 1 && value <= most)) throw new RangeError(`${name} takes 1 to ${most} here, not ${value}`);
  }
  const none = { connectionTimeout: 0, requestTimeout: 0, socketTimeout: 0, maxAttempts: 1 };
  const patience = 1.5 * Math.max(uploadTime, connectionTimeout, requestTimeout, socketTimeout, deadline);
  let calls = 0;
  const { urls, close } = await startMisbehavingServer();

  const call = async (server: string, limits: ClientLimits, deadline = 2 ** 31 - 1): Promise<Outcome> => {
    const s3 = connect(S3Client, {
      ...setTimeouts({ ...none, ...limits }),
      ...{ endpoint: urls[server], forcePathStyle: true, region: 'us-east-1' },
      // Whatever is set for AWS must not lead there.
      ...{ useFipsEndpoint: false, useDualstackEndpoint: false, useAccelerateEndpoint: false },
      logger: silent,
      credentials: { accessKeyId: 'nobody', secretAccessKey: 'nothing' },
    });
    const target = { Bucket: 'bucket', Key: `call-${++calls}` };
    const start = performance.now();
    const tell = (outcome: Outcome['outcome'], error: string | null, attempts = null as number | null) => ({
      ...{ outcome, error, milliseconds: Math.round(performance.now() - start), attempts },
    });
    const done = withDeadline(
      async (abortSignal) => {
        if (server.includes('upload')) {
          const Body = Readable.from(drip());
          const { $metadata } = await s3.send(new PutObjectCommand({ ...target, Body, ContentLength: drips }), {
            abortSignal,
          });
          return $metadata;
        }
        const { Body, $metadata } = await s3.send(new GetObjectCommand(target), { abortSignal });
        await Body?.transformToByteArray();
        return $metadata;
      },
      { deadline },
    ).then(
      ({ attempts = 1 }) => tell('done', null, attempts),
      ({ name, code, $metadata }) =>
        tell('failed', $metadata?.httpStatusCode ?? (code === 'ECONNRESET' ? code : name), $metadata?.attempts ?? null),
    );
    const outcome = await Promise.race([done, sleep(patience, null)]);
    s3.destroy();
    return outcome ?? tell('waiting', null);
  };

  try {
    // The first call of a process is slow, since much is loaded for it.
    await call('answers 503, then 200', {});
    return await Promise.all(
      Object.keys(urls).map(async (server, at) => {
        // Starting a call is work, and on a busy machine that of all together would take as long as a clock.
        await sleep(100 * at);
        const outcomes = await Promise.all([
          call(server, { connectionTimeout }),
          call(server, { requestTimeout }),
          call(server, { socketTimeout }),
          call(server, {}, deadline),
          call(server, { maxAttempts }),
        ]);
        const [connection, request, socket, until, retries] = outcomes;
        return { server, connection, request, socket, deadline: until, retries };
      }),
    );
  } finally {
    await close();
  }
}

const drips = uploadTime / 50;

/** A body as it comes over a slow line. */
async function* drip() {
  const start = performance.now();
  for (let i = 1; i <= drips; i++) {
    // By the time since the start: sleeps that last longer don't add up.
    await sleep(Math.max(0, start + 50 * i - performance.now()));
    yield Buffer.from('.');
  }
}

/** The SDK warns on the console that it can't send a stream again. */
const silent = { debug() {}, info() {}, warn() {}, error() {} };
