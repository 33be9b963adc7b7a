import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { EC2Client } from '@aws-sdk/client-ec2';
import { GetObjectCommand, HeadObjectCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type ClientLimits, setTimeouts, withDeadline } from '../../recipes/setup/08-set-timeouts.ts';
import { testRecipe } from '../harness.ts';
import { serve } from '../serve.ts';

const { run, file } = testRecipe(import.meta, { retry: 3 });
const command = `npx tsx ${file}`;

const object = { Bucket: 'bucket', Key: 'key' };
const clientOf = (endpoint: string, limits: ClientLimits = {}) =>
  new S3Client({
    ...setTimeouts(limits),
    ...{ endpoint, region: 'us-east-1', forcePathStyle: true },
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });

test('the settings have safe defaults, and every client takes them', async () => {
  const settings = {
    requestHandler: { connectionTimeout: 3000, requestTimeout: 0, throwOnRequestTimeout: true, socketTimeout: 30_000 },
    maxAttempts: 3,
    retryMode: 'standard',
  };
  expect(setTimeouts()).toEqual(settings);
  const given = { connectionTimeout: 1, requestTimeout: 2, socketTimeout: 3, maxAttempts: 4, retryMode: 'adaptive' };
  const all = setTimeouts(given as ClientLimits);
  expect({ ...all.requestHandler, ...all }).toMatchObject(given);
  const ec2 = new EC2Client(all);
  expect(await ec2.config.maxAttempts()).toBe(4);
  expect(await ec2.config.retryStrategy()).toMatchObject({ mode: 'adaptive' });
});

test('the SDK has one clock that is not set in code, for EC2 and not for S3, and gives way to that of the code', async () => {
  const region = 'eu-west-1';
  const timeouts = () =>
    Promise.all(
      [new EC2Client({ region }), new S3Client({ region }), new EC2Client({ region, ...setTimeouts() })].map(
        async ({ config }) => {
          const { configProvider } = config.requestHandler as unknown as { configProvider: Promise<ClientLimits> };
          const { socketTimeout, defaultSocketTimeout } = (await configProvider) as Record<string, number>;
          return socketTimeout ?? defaultSocketTimeout;
        },
      ),
    );
  expect(await timeouts()).toEqual([undefined, undefined, 30_000]);
  vi.stubEnv('AWS_ENABLE_DEFAULT_SOCKET_TIMEOUT_2026', 'true');
  onTestFinished(() => void vi.unstubAllEnvs());
  expect(await timeouts()).toEqual([15 * 60_000, undefined, 30_000]);
});

test('a call that met silence is tried as often as the settings say, and then fails', async () => {
  let requests = 0;
  const { url } = await serve(() => void requests++);
  const s3 = clientOf(url, { socketTimeout: 500, maxAttempts: 2 });
  await expect(s3.send(new ListBucketsCommand({}))).rejects.toMatchObject({ name: 'TimeoutError' });
  await expect.poll(() => requests, { timeout: 20_000 }).toBe(2);
});

test('the clock for connecting runs while a call waits for one of the 50 connections', async () => {
  const { url } = await serve(() => {});
  const s3 = clientOf(url, { connectionTimeout: 3000, maxAttempts: 1 });
  const calls = Array.from({ length: 51 }, () =>
    s3.send(new ListBucketsCommand({})).catch(({ name, message }) => ({ name, message })),
  );
  const first = await Promise.race(calls);
  expect(first).toMatchObject({ name: 'TimeoutError', message: expect.stringContaining('establish a connection') });
  expect(await Promise.race([calls[0], 'waits'])).toBe('waits');
  s3.destroy();
});

test('a deadline ends a call as TimeoutError, whatever is going on', async () => {
  let requests = 0;
  const { url } = await serve((request, response) => {
    requests++;
    if (request.url?.includes('failing')) response.writeHead(503).end();
    if (request.url?.includes('dribbling')) {
      response.writeHead(200, { 'content-length': 1000 });
      const dribbling = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(dribbling));
    }
  });
  const s3 = clientOf(url, { maxAttempts: 1000 });
  for (const Key of ['silent', 'failing', 'dribbling']) {
    const start = performance.now();
    const work = withDeadline(
      async (abortSignal) => {
        const { Body } = await s3.send(new GetObjectCommand({ ...object, Key }), { abortSignal });
        return Body?.transformToString();
      },
      { deadline: 400 },
    );
    await expect(work, Key).rejects.toMatchObject({ name: 'TimeoutError' });
    // Well before the client's own clock, which is 30 s.
    expect(performance.now() - start, Key).toBeLessThan(10_000);
  }
  // It does not go on behind our back.
  const later = () => new Promise((done) => setTimeout(done, 300));
  await later();
  const before = requests;
  await later();
  expect(requests).toBe(before);
});

test('a deadline hands on results, other errors and the reason of a signal of yours', async () => {
  const { url } = await serve((request, response) => {
    if (request.url?.includes('silent')) return;
    response.writeHead(request.url?.includes('missing') ? 404 : 200).end('text');
  });
  const s3 = clientOf(url);
  const get = (Key: string, deadline: number, signal?: AbortSignal) =>
    withDeadline(
      async (abortSignal) => {
        if (Key === 'missing') await s3.send(new HeadObjectCommand({ ...object, Key }), { abortSignal });
        return (await s3.send(new GetObjectCommand({ ...object, Key }), { abortSignal })).Body?.transformToString();
      },
      { deadline, signal },
    );
  expect(await get('there', 20_000)).toBe('text');
  await expect(get('missing', 20_000)).rejects.toMatchObject({ name: 'NotFound' });
  const stop = new AbortController();
  const stopped = get('silent', 20_000, stop.signal);
  setTimeout(() => stop.abort(new Error('enough')), 50);
  await expect(stopped).rejects.toThrow('enough');
  await expect(get('silent', 100, new AbortController().signal)).rejects.toMatchObject({ name: 'TimeoutError' });
});

test('what is no time and no number of attempts is refused', async () => {
  for (const time of [-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]) {
    for (const name of ['connectionTimeout', 'requestTimeout', 'socketTimeout']) {
      expect(() => setTimeouts({ [name]: time })).toThrow(RangeError);
    }
    await expect(withDeadline(async () => {}, { deadline: time })).rejects.toThrow(RangeError);
  }
  for (const maxAttempts of [0, 1.5, Number.NaN]) expect(() => setTimeouts({ maxAttempts })).toThrow(RangeError);
  await expect(withDeadline(async () => {}, { deadline: 0 })).rejects.toThrow('deadline takes');
  const refused = {
    '--deadline soon': 'deadline takes 1 to 10000 here, not NaN',
    '--socket-timeout 0': 'socketTimeout takes 1 to 10000 here, not 0',
    '--max-attempts 6': 'maxAttempts takes 1 to 5 here, not 6',
    '--max-attempts 1.5': 'maxAttempts takes a whole number from 1, not 1.5',
  };
  await Promise.all(
    Object.entries(refused).map(async ([options, message]) => {
      expect(await run(`${command} ${options}`)).toEqual({ code: 2, stdout: '', stderr: `Error: ${message}\n` });
    }),
  );
});

// Again where another process has taken the time that is measured.
test('the table is measured: other clocks give other times, whatever is set for AWS', { retry: 3 }, async () => {
  // Far apart, and far longer than a call and the slow upload (1.2 s) take, also on a busy machine.
  const clocks = { connection: 2000, request: 5500, socket: 3000, deadline: 4000 };
  const { connection, request, socket, deadline } = clocks;
  const { code, stdout, stderr } = await run(
    `${command} --connection-timeout ${connection} --request-timeout ${request} --socket-timeout ${socket} \
      --deadline ${deadline} --max-attempts 2 --json`,
    {
      env: {
        ...{
          AWS_MAX_ATTEMPTS: '5',
          AWS_RETRY_MODE: 'adaptive',
          AWS_USE_FIPS_ENDPOINT: 'true',
          AWS_REGION: 'eu-west-1',
        },
        ...{ AWS_ENDPOINT_URL: 'http://127.0.0.1:9', AWS_ACCESS_KEY_ID: 'AKIA', AWS_PROFILE: '' },
      },
    },
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  type Cell = { outcome: string; error: string | null; milliseconds: number; attempts: number | null };
  const rows: ({ server: string } & Record<string, Cell>)[] = JSON.parse(stdout);
  const seen = rows.map(({ server, ...cells }) => [
    server,
    ...Object.entries(cells).map(([clock, { outcome, error, milliseconds, attempts }]) => {
      if (error !== 'TimeoutError') return `${error ?? outcome}${attempts && attempts > 1 ? ` ${attempts}` : ''}`;
      // None ends early, and none as late as all would if the longest of them was at work.
      const time = clocks[clock as keyof typeof clocks];
      expect(milliseconds, `${server}, ${clock}`).toBeGreaterThan(time - 50);
      if (clock !== 'request') expect(milliseconds, `${server}, ${clock}`).toBeLessThan(request);
      return 'stopped';
    }),
  ]);
  expect(seen).toEqual([
    ['accepts no connection', 'stopped', 'stopped', 'waiting', 'stopped', 'waiting'],
    ['stays silent', 'waiting', 'stopped', 'stopped', 'stopped', 'waiting'],
    ['stops in its answer', 'waiting', 'waiting', 'stopped', 'stopped', 'waiting'],
    ['dribbles its answer', 'waiting', 'waiting', 'waiting', 'stopped', 'waiting'],
    ['resets connections', 'ECONNRESET', 'ECONNRESET', 'ECONNRESET', 'ECONNRESET', 'ECONNRESET 2'],
    ['answers 503, then 200', '503', '503', '503', '503', 'done 2'],
    // Here the request clock is longer than the upload takes.
    ['works, the upload is slow', 'done', 'done', 'done', 'done', 'done'],
  ]);
});

test('Ctrl-C ends the measuring at once', async () => {
  const { code, stdout } = await run(`${command} --deadline 10000`, {
    terminal: { columns: 120, type: [['measuring', '\x03']] },
  });
  expect(code).toBe(130);
  // The table comes after it.
  expect(stdout).toContain('measuring');
  expect(stdout).not.toContain('accepts no connection');
});

test('a deadline is kept when memory is tidied up meanwhile', async () => {
  setFlagsFromString('--expose-gc');
  const tidyUp = runInNewContext('gc') as () => void;
  const endless = (abortSignal: AbortSignal) =>
    new Promise((_resolve, reject) => abortSignal.addEventListener('abort', () => reject(new Error('aborted'))));
  const work = withDeadline(endless, { deadline: 500, signal: new AbortController().signal });
  const tidying = setInterval(tidyUp, 50);
  await expect(work.finally(() => clearInterval(tidying))).rejects.toMatchObject({ name: 'TimeoutError' });
});
