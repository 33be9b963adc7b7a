import type { RequestListener } from 'node:http';
import { expect, test, vi } from 'vitest';
import { measureLatency } from '../../recipes/setup/15-measure-latency.ts';
import { testRecipe } from '../harness.ts';
import { serve } from '../serve.ts';

const { run, file } = testRecipe(import.meta);
const command = `npx tsx ${file}`;

const region = (name: string) => ({ region: name });

// These two again where another process has taken the time that is measured.
test('latency is the median of the tries, the nearest first', { retry: 3 }, async () => {
  const times = new Map([
    ['far', [600]],
    ['near', [0]],
    ['middle', [300]],
    // A slow answer among the others doesn't matter.
    ['odd', [1500, 100, 100, 1500, 100, 100]],
  ]);
  const paths: string[] = [];
  const { url } = await serve((request, response) => {
    const name = request.url?.slice(1) ?? '';
    const [first = 0, ...more] = times.get(name) as number[];
    if (more.length > 0) times.set(name, more);
    paths.push(name);
    setTimeout(() => response.end('healthy'), first);
  });
  const rows = await measureLatency([...times.keys()].map(region), { urlOf: (name) => `${url}/${name}` });
  expect(rows.map((row) => row.region)).toEqual(['near', 'odd', 'middle', 'far']);
  for (const [index, delay] of [0, 100, 300, 600].entries()) {
    const { latency } = rows[index] as { latency: number };
    expect(latency).toBeGreaterThanOrEqual(delay - 2);
    expect(latency).toBeLessThan(delay + 800);
  }
  expect(paths.filter((path) => path === 'far')).toHaveLength(6);
});

test('latency does not count the first answer, before which the connection is opened', async () => {
  const delays = [0, 50, 400];
  const { url } = await serve((_request, response) => setTimeout(() => response.end(), delays.shift()));
  const [row] = await measureLatency([region('here')], { urlOf: () => url, tries: 2 });
  expect(row?.latency).toBeGreaterThan(390);
});

test('latency is null where nobody answers, in the time that is allowed', async () => {
  const silent = await serve(() => {});
  const refusing = await serve(() => {});
  await refusing.close();
  const resetting = await serve((request) => request.socket.destroy());
  const dribbling = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': 10 }).write('.');
  });
  const good = await serve((_request, response) => response.end());
  const urls = { silent, refusing, resetting, dribbling, good };
  const start = performance.now();
  const rows = await measureLatency(Object.keys(urls).map(region), {
    urlOf: (name) => urls[name as keyof typeof urls].url,
    timeout: 3000,
    tries: 3,
  });
  // A region that is silent once is given up: all four tries would take 12 s.
  expect(performance.now() - start).toBeLessThan(11_500);
  expect(rows[0]).toEqual({ region: 'good', latency: expect.any(Number) });
  expect(rows.slice(1).map(({ latency }) => latency)).toEqual([null, null, null, null]);
});

test('latency is the median of the tries that are left when others are lost', { retry: 3 }, async () => {
  // What the region answers in turn: after so many milliseconds, with an error, or by closing the connection.
  const turns: Record<string, (number | 'error' | 'reset')[]> = {
    lost: [0, 'reset', 1500, 0, 0, 1500],
    proxy: ['error', 100, 'error', 100, 'error', 100],
    broken: ['error', 'error', 'error', 'error', 'error', 'error'],
    gone: [0, 'reset', 'reset', 'reset', 'reset', 'reset'],
  };
  const { url } = await serve((request, response) => {
    const turn = turns[request.url?.slice(1) ?? '']?.shift() as number | string;
    if (turn === 'reset') request.socket.destroy();
    else if (turn === 'error') response.writeHead(503).end();
    else setTimeout(() => response.writeHead(404).end(), turn as number);
  });
  const rows = await measureLatency(Object.keys(turns).map(region), { urlOf: (name) => `${url}/${name}` });
  const latency = Object.fromEntries(rows.map((row) => [row.region, row.latency]));
  expect(latency).toEqual({ lost: expect.any(Number), proxy: expect.any(Number), broken: null, gone: null });
  // The answer after the lost one opens a connection, so it is not counted: 0, 0 and 1,500 ms are left.
  expect(latency.lost).toBeLessThan(1000);
  expect(latency.proxy).toBeGreaterThanOrEqual(98);
});

test('a count that is none and a URL that is none are refused, not taken for silence', async () => {
  for (const tries of [0, 2.5, Number.NaN]) {
    await expect(measureLatency([region('here')], { tries })).rejects.toThrow(/^tries must be 1 or more, not /);
  }
  await expect(measureLatency([region('here')], { urlOf: () => 'here' })).rejects.toThrow(TypeError);
});

test('latency is measured on one connection, of at most ten regions at a time', async () => {
  let [now, most] = [0, 0];
  const { url, server } = await serve((_request, response) => {
    most = Math.max(most, ++now);
    setTimeout(() => response.end('healthy', () => now--), 20);
  });
  let connections = 0;
  server.on('connection', () => connections++);
  const regions = Array.from({ length: 25 }, (_, i) => region(`r${i}`));
  await measureLatency(regions, { urlOf: () => url, tries: 3 });
  expect(most).toBeGreaterThan(5);
  expect(most).toBeLessThanOrEqual(10);
  expect(connections).toBeLessThan(60);
});

test('the measuring ends when the signal is aborted, for its reason', async () => {
  const silent = await serve(() => {});
  const stop = new AbortController();
  const measuring = measureLatency([region('silent')], { urlOf: () => silent.url, signal: stop.signal });
  setTimeout(() => stop.abort(new Error('enough')), 100);
  await expect(measuring).rejects.toThrow('enough');
});

test('the measuring follows no redirect', async () => {
  const elsewhere = vi.fn<RequestListener>((_request, response) => response.end());
  const other = await serve(elsewhere);
  const { url } = await serve((_request, response) => response.writeHead(302, { location: other.url }).end());
  const [row] = await measureLatency([region('here')], { urlOf: () => url, tries: 1 });
  expect(row).toEqual({ region: 'here', latency: expect.any(Number) });
  expect(elsewhere).not.toHaveBeenCalled();
});

test('it is refused with --local, and so is what is no code or number, before anything is sent', async () => {
  const refused = {
    '--local': 'this measures the way to AWS: not with --local',
    'eu-west-1 Ireland': '"Ireland" is no code of a region such as eu-west-1',
    'eu-west-1 --tries 0': '--tries takes 1 to 1000, not "0"',
    'eu-west-1 --tries 2.5': '--tries takes 1 to 1000, not "2.5"',
  };
  for (const [options, message] of Object.entries(refused)) {
    expect(await run(`${command} ${options}`)).toEqual({ code: 2, stdout: '', stderr: `Error: ${message}\n` });
  }
});

test('the named regions are asked at AWS; without a name all that are enabled', async () => {
  const env = {
    AWS_ENDPOINT_URL: process.env.COOKBOOK_LOCALSTACK as string,
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_REGION: 'us-east-1',
  };
  const hosts = (text: string) => [...text.matchAll(/a connection to (\S+)$/gm)].map(([, host]) => host);
  const two = await run(`${command} eu-west-1 cn-north-1 eusc-de-east-1 --tries 1 --json`, { env });
  // The tests refuse the connections. So there is no time.
  expect(new Set(hosts(two.stderr))).toEqual(
    new Set(['ec2.eu-west-1.amazonaws.com', 'ec2.cn-north-1.amazonaws.com.cn', 'ec2.eusc-de-east-1.amazonaws.eu']),
  );
  expect(two.code).toBe(0);
  expect(JSON.parse(two.stdout)).toEqual([
    { region: 'eu-west-1', latency: null },
    { region: 'cn-north-1', latency: null },
    { region: 'eusc-de-east-1', latency: null },
  ]);
  const all = await run(`${command} --tries 1`, { env });
  expect(all).toMatchObject({ code: 0, stdout: expect.stringMatching(/^us-east-1 +no answer$/m) });
});
