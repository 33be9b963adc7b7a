import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { Agent, createServer, type IncomingMessage, request } from 'node:http';
import { createRequire } from 'node:module';
import { createServer as createSocketServer, type Server } from 'node:net';
import { homedir, networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { localStackUrl } from '../../shared/localstack.ts';
import { freePort } from '../program.ts';

const repository = join(import.meta.dirname, '../..');
const script = join(repository, 'shared/localstack.ts');
// The whole address, for the commands run in a folder of their own.
const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
const root = mkdtempSync(join(tmpdir(), 'cookbook localstack '));
const shared = join(root, 'cache');
const home = join(root, 'home');
const cleanUps: (() => unknown)[] = [];

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** A cache folder, a free port, and `npm run localstack` with both. */
async function newPlace(cache = shared, more: NodeJS.ProcessEnv = {}) {
  const port = await freePort();
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    // Nothing of the reader's but their Python and pip settings.
    HOME: home,
    PYENV_ROOT: process.env.PYENV_ROOT ?? join(homedir(), '.pyenv'),
    XDG_CONFIG_HOME: process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config'),
    PIP_CACHE_DIR: join(root, 'pip'),
    PIP_LOG: join(root, 'pip.log'),
    XDG_CACHE_HOME: cache,
    COOKBOOK_LOCALSTACK: `http://127.0.0.1:${port}`,
    ...more,
  };
  const cookbook = join(cache, 'paws-cookbook/localstack');
  const folder = join(cookbook, String(port));
  const begin = (...args: string[]) => {
    const command = args[0] === '-e' ? ['--input-type=module', ...args] : [script, ...args];
    return spawn(process.execPath, ['--import', tsx, ...command], { env, cwd: home, detached: true });
  };
  const run = (...args: string[]): Promise<Ended> => {
    const child = begin(...args);
    const ended = { code: null, out: '', err: '' } as Ended;
    child.stdout.on('data', (data) => (ended.out += data));
    child.stderr.on('data', (data) => (ended.err += data));
    return new Promise((resolve) => child.on('close', (code) => resolve({ ...ended, code })));
  };
  const pid = () => Number(readFileSync(join(folder, 'server.lock'), 'utf8'));
  cleanUps.push(() => existsSync(folder) && run('stop'));
  const log = join(folder, 'localstack.log');
  return { port, url: `http://127.0.0.1:${port}`, env, cookbook, folder, log, begin, run, pid };
}

async function listen(server: Server, port: number) {
  await once(server.listen(port, '127.0.0.1'), 'listening');
  cleanUps.push(() => server.close());
}

/** An HTTP server that gives these answers, by path. */
const fake = (pages: Record<string, unknown>) =>
  createServer((request, response) => response.end(JSON.stringify(pages[request.url ?? ''] ?? {})));

/** What the condition gives once it holds; one that throws does not hold yet. */
async function until<T>(condition: () => T, seconds: number): Promise<T> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(20)) {
    try {
      const value = condition();
      if (value) return value;
    } catch {}
  }
  throw new Error(`not within ${seconds} s: ${condition}`);
}

/** The version that shared/localstack.ts names. */
const pinned = () => readFileSync(script, 'utf8').match(/version = '([\d.]+)'/)?.[1];

/** Whether a port answers, asked by a process without our preload, which refuses whatever is not loopback. */
function accepts(host: string, port: number): boolean {
  const code = `require('node:net').connect({ host: '${host}', port: ${port}, timeout: 20_000 })
    .on('connect', () => process.exit(0)).on('timeout', () => process.exit(1)).on('error', () => process.exit(1));`;
  return spawnSync(process.execPath, ['-e', code], { env: {} }).status === 0;
}

/** Linux only: 'tcp ADDRESS:PORT' in hexadecimal of each socket that a process or a child of it listens on. */
function listening(pid: number): string[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  const own = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
    readFileSync(`/proc/net/${kind}`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((row) => links.includes(`socket:[${row[9]}]`) && (row[3] === '0A' || kind.startsWith('udp')))
      .map((row) => `${kind} ${row[1]}`),
  );
  return [...own, ...children.flatMap((child) => listening(Number(child)))];
}

async function answers(url: string) {
  const response = await fetch(`${url}/_localstack/health`, { signal: AbortSignal.timeout(30_000) }).catch(() => null);
  return response?.ok ?? false;
}

const processes = (text: string) =>
  execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8', maxBuffer: 2 ** 26 })
    .split('\n')
    .filter((line) => line.includes(text));

const servers = (cookbook: string) => processes(cookbook).filter((line) => line.includes('localstack.runtime.main'));

/** What git knows and ignores in shared/. */
const files = () =>
  execFileSync('git', ['status', '--porcelain', '--ignored', 'shared'], { cwd: repository, encoding: 'utf8' });

/** A file that can be run and does what the shell lines say. */
function command(path: string, lines: string): string {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${lines}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** A PATH with nothing but this Node. */
function bareNode(): string {
  const folder = mkdtempSync(join(root, 'bin-'));
  symlinkSync(process.execPath, join(folder, 'node'));
  return folder;
}

/** A place where no Python is. */
const nowhere = (more: NodeJS.ProcessEnv = {}) =>
  newPlace(mkdtempSync(join(root, 'cache-')), {
    PATH: bareNode(),
    PYENV_ROOT: home,
    COOKBOOK_PYTHON: '',
    ...more,
  });

// Generous: elsewhere on the machine other tests run.
vi.setConfig({ testTimeout: 200_000 });

// A fresh machine: 64 starts at once into an empty cache. What they install, the other tests use.
let fresh: Awaited<ReturnType<typeof newPlace>>;
let starts: Ended[];
let changed: string[];
const lastCleanUps: typeof cleanUps = [];
beforeAll(async () => {
  mkdirSync(home);
  fresh = await newPlace();
  changed = [files()];
  starts = await Promise.all(Array.from({ length: 64 }, () => fresh.run('start')));
  changed.push(files());
  // Its server stays until the end, unlike those of the tests.
  lastCleanUps.push(...cleanUps.splice(0));
}, 400_000);
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
  vi.unstubAllEnvs();
});
afterAll(async () => {
  for (const cleanUp of lastCleanUps) await cleanUp();
  rmSync(root, { recursive: true, force: true });
});

describe('the address', () => {
  test.each([
    ['', 'http://127.0.0.1:4566'],
    ['http://localhost:4567/', 'http://localhost:4567'],
    ['http://[::1]:4567/path', 'http://[::1]:4567'],
    ['https://127.9.9.9', 'https://127.9.9.9'],
    ['http://2130706433:1', 'http://127.0.0.1:1'],
  ])("COOKBOOK_LOCALSTACK='%s' is %s", (text, url) => {
    vi.stubEnv('COOKBOOK_LOCALSTACK', text);
    expect(localStackUrl()).toBe(url);
  });

  test.each([
    'http://10.0.0.1:4566',
    'http://0.0.0.0:4566',
    'http://127.0.0.1.example.com',
    'http://localhost.example.com',
    'http://127.0.0.1@example.com',
    'https://s3.amazonaws.com',
    'ftp://127.0.0.1',
    'localhost:4566',
    '127.0.0.1:4566',
    '4566',
  ])("COOKBOOK_LOCALSTACK='%s' is refused", (text) => {
    vi.stubEnv('COOKBOOK_LOCALSTACK', text);
    expect(localStackUrl).toThrow(RangeError);
    expect(localStackUrl).toThrow(`must be on this machine, as http://127.0.0.1:4567 is, not '${text}'`);
  });

  test.each(['start', 'stop', 'reset', 'status', 'logs'])('%s refuses a public host with exit 2', async (name) => {
    const { run } = await newPlace(shared, { COOKBOOK_LOCALSTACK: 'https://s3.amazonaws.com' });
    const { code, out, err } = await run(name);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^COOKBOOK_LOCALSTACK must be .*\n$/);
  });

  test.each([[], ['bogus'], ['toString']])('usage for %s', async (...args) => {
    const { run } = await newPlace();
    const usage = 'usage: npm run localstack -- start|stop|reset|status|logs\n';
    expect(await run(...args)).toEqual({ code: 2, out: '', err: usage });
  });
});

describe('a fresh machine', () => {
  test('64 starts at once: one installation, one server, on 127.0.0.1 only', async () => {
    const place = fresh;
    const ended = { code: 0, out: `${place.url}\n`, err: '' };
    expect(starts).toEqual(Array.from({ length: 64 }, () => ended));
    expect(servers(place.cookbook)).toHaveLength(1);
    expect(readFileSync(join(root, 'pip.log'), 'utf8').match(/Successfully installed/g)).toHaveLength(1);
    expect(await answers(place.url)).toBe(true);
    expect(changed[1]).toBe(changed[0]);
    // pip asks rustc for its version, which on some machines is rustup's.
    expect(readdirSync(home).filter((name) => name !== '.rustup')).toEqual([]);
    expect(readdirSync(shared)).toEqual(['paws-cookbook']);

    // From outside, by each address that this machine has.
    expect(accepts('127.0.0.1', place.port)).toBe(true);
    const addresses = Object.values(networkInterfaces()).flatMap((list = []) =>
      list.filter(({ internal }) => !internal),
    );
    for (const { address } of addresses.filter(({ scopeid }) => !scopeid)) {
      expect({ address, open: accepts(address, place.port) }).toEqual({ address, open: false });
    }
    if (process.platform === 'linux') {
      expect(listening(place.pid())).toEqual([
        `tcp 0100007F:${place.port.toString(16).toUpperCase().padStart(4, '0')}`,
      ]);
    }
  });

  // Again where the installation was done before it could be killed.
  test('an installation killed half-way, in two ways', { retry: 2, timeout: 600_000 }, async () => {
    const temporary = mkdtempSync(join(root, 'tmp-'));
    const place = await newPlace(mkdtempSync(join(root, 'killed-')), { TMPDIR: temporary });
    const half = () => readdirSync(place.cookbook).find((name) => name.endsWith('.new')) ?? 'none';
    /** When the half-done installation was begun, once pip is in the middle of it. */
    const begun = () => {
      const lib = join(place.cookbook, half(), 'lib');
      const packages = readdirSync(join(lib, readdirSync(lib)[0] ?? '', 'site-packages')).length;
      return packages > 20 && statSync(join(place.cookbook, half())).birthtimeMs;
    };

    const first = place.run('start');
    const firstBegun = await until(begun, 200);
    process.kill(-place.pid(), 'SIGKILL');
    const { code, err } = await first;
    expect(code).toBe(1);
    expect(err).toContain('LocalStack ended (SIGKILL)');
    expect(err).toContain(place.log);
    expect(half()).not.toBe('none');

    // As a closed terminal does it: what waits for the installation goes, the installation itself must not.
    const second = place.begin('start');
    const secondBegun = await until(() => begun() !== firstBegun && begun(), 200);
    process.kill(-(second.pid as number), 'SIGKILL');
    await sleep(200);
    expect(begun()).toBe(secondBegun);

    expect(await place.run('start')).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    expect(half()).toBe('none');
    expect(readdirSync(temporary).filter((name) => name.startsWith('pip'))).toEqual([]);
    expect(readFileSync(place.log, 'utf8').match(/starting on port/g)).toHaveLength(2);
  });
});

describe('a server', () => {
  test('killed: the next start brings another', async () => {
    const place = await newPlace();
    await place.run('start');
    const pid = place.pid();
    process.kill(pid, 'SIGKILL');
    await until(() => servers(place.cookbook).every((line) => Number.parseInt(line, 10) !== pid), 60);
    expect((await place.run('status')).out).toMatch(/answers {2}nothing\nstarted {2}not from here/);

    expect(await place.run('start')).toMatchObject({ code: 0, out: `${place.url}\n` });
    expect(place.pid()).not.toBe(pid);
    expect(await answers(place.url)).toBe(true);
  });

  test('hung: an error in bounded time that names the log; reset heals it', async () => {
    const place = await newPlace();
    await place.run('start');
    const pid = place.pid();
    process.kill(pid, 'SIGSTOP');

    const code = `import { startLocalStack } from ${JSON.stringify(pathToFileURL(script))};
      await startLocalStack({ timeout: 1000 }).catch((error) => console.log(error.message));`;
    const { out } = await place.run('-e', code);
    expect(out).toMatch(/^LocalStack does not answer after \d+ s\nSee /);
    expect(out).toContain(place.log);
    expect((await place.run('status')).out).toContain(`answers  nothing\nstarted  from here, pid ${pid}\n`);

    expect(await place.run('reset')).toMatchObject({ code: 0, out: `${place.url}\n` });
    expect(place.pid()).not.toBe(pid);
    expect(await answers(place.url)).toBe(true);
  });

  test('that ends at once: an error with its last words and the log', async () => {
    // Its own folder for temporary files can't be made: a file is in the way, and can't be removed as a folder.
    const place = await newPlace();
    mkdirSync(place.folder, { recursive: true });
    writeFileSync(join(place.folder, 'tmp'), '');
    const { code, err } = await place.run('start');
    expect(code).toBe(1);
    expect(err).toMatch(/^LocalStack ended \(1\): FileExistsError: .*\nSee .*\n$/);
    expect(err).toContain(place.log);

    // Before it has opened its log: what it locks is no file.
    const locked = await newPlace();
    mkdirSync(join(locked.folder, 'claim.lock'), { recursive: true });
    const early = await locked.run('start');
    expect(early.err).toMatch(/^LocalStack ended \(1\): IsADirectoryError: .*\nSee .*\n$/);
    expect(early.code).toBe(1);
  });

  test('is as it was told: version, no keys, its own folders', async () => {
    const place = await newPlace(shared, { AWS_PROFILE: 'production', PYTHONPATH: home, PYTHONHOME: home });
    const { code } = await place.run('start');
    expect(code).toBe(0);
    const info = await (await fetch(`${place.url}/_localstack/info`)).json();
    expect(info).toMatchObject({ version: `${pinned()}:cookbook-${place.pid()}` });
    expect(readdirSync(join(place.folder, 'tmp/root')).length).toBeGreaterThan(0);
    if (process.platform !== 'linux') return;
    const env = readFileSync(`/proc/${place.pid()}/environ`, 'utf8').split('\0');
    expect(env.filter((line) => /^(AWS|PYTHON)/.test(line))).toEqual([]);
    expect(readlinkSync(`/proc/${place.pid()}/cwd`)).toBe(place.folder);
  });

  test('started, looked at, reset, stopped, stopped again', async () => {
    const place = await newPlace();
    expect(await place.run('stop')).toEqual({
      code: 0,
      out: expect.stringContaining('nothing to stop'),
      err: '',
    });
    expect(await place.run('logs')).toMatchObject({ code: 1, err: expect.stringContaining(place.log) });
    await place.run('start');
    const pid = place.pid();
    const queue = `${place.url}/?Action=CreateQueue&QueueName=kept&Version=2012-11-05`;
    const headers = { authorization: 'AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request' };
    expect((await fetch(queue, { headers })).status).toBe(200);
    const list = async () => (await fetch(`${place.url}/?Action=ListQueues&Version=2012-11-05`, { headers })).text();
    expect(await list()).toContain('kept');

    const { out } = await place.run('status');
    const told = [
      `address  ${place.url}`,
      `answers  LocalStack ${pinned()}`,
      `started  from here, pid ${pid}`,
      `log      ${place.log}`,
    ];
    expect(out.split('\n')).toEqual([...told, expect.stringMatching(/^Python {3}\/.*python3/), '']);
    await expect.poll(async () => (await place.run('logs')).out, { timeout: 60_000 }).toContain('Ready.');

    expect(await place.run('start')).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    expect(place.pid()).toBe(pid);
    expect(await place.run('reset')).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    expect(place.pid()).not.toBe(pid);
    expect(await list()).not.toContain('kept');

    expect(await place.run('stop')).toEqual({ code: 0, out: `stopped ${place.url}\n`, err: '' });
    expect(await answers(place.url)).toBe(false);
    expect(await place.run('stop')).toEqual({
      code: 0,
      out: expect.stringContaining('nothing to stop'),
      err: '',
    });
    expect(servers(place.cookbook).filter((line) => Number.parseInt(line, 10) === pid)).toEqual([]);
  });

  test('two ports, two servers, and a long log is put aside', async () => {
    const [one, two] = [await newPlace(), await newPlace()];
    mkdirSync(two.folder, { recursive: true });
    writeFileSync(two.log, 'long ago\n'.repeat(600_000));
    await Promise.all([one.run('start'), two.run('start')]);
    expect(one.pid()).not.toBe(two.pid());
    expect(readFileSync(`${two.log}.1`, 'utf8')).toMatch(/^long ago/);

    // Left to themselves they share a folder, in which deleting a bucket of one takes it from the other.
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
    const [here, there] = [one, two].map(
      ({ url: endpoint }) => new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true }),
    ) as [S3Client, S3Client];
    const Bucket = 'of-both';
    const put = new PutObjectCommand({ Bucket, Key: 'large', Body: Buffer.alloc(2_000_000) });
    for (const client of [here, there]) await client.send(new CreateBucketCommand({ Bucket }));
    await here.send(put);
    await here.send(new DeleteObjectCommand({ Bucket, Key: 'large' }));
    await here.send(new DeleteBucketCommand({ Bucket }));
    expect(await there.send(put)).toMatchObject({ $metadata: { httpStatusCode: 200, attempts: 1 } });
    expect(readFileSync(two.log, 'utf8')).toMatch(/^\d{4}-.* starting on port/);
    expect(await one.run('stop')).toMatchObject({ code: 0 });
    expect(await answers(two.url)).toBe(true);
  });

  // Closed after 5 s, as its server does by itself, a connection can take a request with it that is carried out.
  test('a connection that was idle for a while is kept', async () => {
    const place = await newPlace();
    await place.run('start');
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = async () => {
      const asked = request(`${place.url}/_localstack/health`, { agent }).end();
      const [answer] = (await once(asked, 'response')) as [IncomingMessage];
      await answer.resume().toArray();
      return { status: answer.statusCode, reused: asked.reusedSocket };
    };
    expect(await ask()).toEqual({ status: 200, reused: false });
    await sleep(6_000);
    expect(await ask()).toEqual({ status: 200, reused: true });
    agent.destroy();
  });

  test('not there yet: whoever waits for it is told how it goes', async () => {
    const place = await newPlace();
    const code = `import { startLocalStack } from ${JSON.stringify(pathToFileURL(script))};
      console.log(await startLocalStack({ onProgress: console.log }));`;
    const [first, ...others] = (await place.run('-e', code)).out.trim().split('\n');
    expect(first).toMatch(/^starting LocalStack [\d.]+.*: 0 s$/);
    expect(others.at(-1)).toBe(place.url);
  });
});

// What stands in for it is in this process: tried again where that came too late.
describe("somebody else's", { retry: 3 }, () => {
  const health = { services: { s3: 'running' }, version: '4.9.0' };

  test('LocalStack is used and left alone', async () => {
    const place = await nowhere();
    await listen(fake({ '/_localstack/health': health }), place.port);
    expect(await place.run('start')).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    for (const name of ['stop', 'reset']) {
      const err = `The LocalStack at ${place.url} was not started from here: left alone.\n`;
      expect(await place.run(name)).toEqual({ code: 1, out: '', err });
    }
    expect((await place.run('status')).out).toContain('answers  LocalStack 4.9.0\nstarted  not from here\n');
    expect(await answers(place.url)).toBe(true);
    expect(existsSync(place.folder)).toBe(false);
  });

  test('LocalStack that is still coming up is waited for', async () => {
    const place = await newPlace();
    const server = createSocketServer((socket) => socket.resetAndDestroy());
    await listen(server, place.port);
    const start = place.run('start');
    await until(() => existsSync(place.log) && readFileSync(place.log, 'utf8').includes('in use'), 150);
    server.close();
    await listen(fake({ '/_localstack/health': health }), place.port);
    expect(await start).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    expect((await place.run('status')).out).toContain('answers  LocalStack 4.9.0\nstarted  not from here\n');
  });

  test('LocalStack that was quicker is used, and ours is ended', async () => {
    const place = await newPlace();
    const start = place.run('start');
    const mine = (line: string) => Number.parseInt(line, 10) === place.pid();
    // Between localstack.py's look at the port and LocalStack's own use of it.
    await until(() => servers(place.cookbook).some(mine) && process.kill(place.pid(), 'SIGSTOP'), 60);
    const info = { version: '4.9.0:abc', session_id: 'x' };
    await listen(fake({ '/_localstack/health': health, '/_localstack/info': info }), place.port);
    process.kill(place.pid(), 'SIGCONT');
    expect(await start).toEqual({ code: 0, out: `${place.url}\n`, err: '' });
    await until(() => !servers(place.cookbook).some(mine), 60);
    expect(await place.run('stop')).toMatchObject({ code: 1 });
  });

  test.each([
    ['an HTTP server', fake({}), 60],
    ['a server that never answers', createSocketServer(() => {}), 120],
    ['a server that talks something else', createSocketServer((socket) => socket.end('SSH-2.0-x\r\n')), 120],
  ])('%s has the port: an error', async (_, server, seconds) => {
    const place = await newPlace();
    await listen(server, place.port);
    const began = Date.now();
    const { code, out, err } = await place.run('start');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toBe(
      `${place.url} is taken by something that is not LocalStack.\nCOOKBOOK_LOCALSTACK=http://127.0.0.1:4567 chooses another port.\n`,
    );
    expect(Date.now() - began).toBeLessThan(seconds * 1000);
    expect(servers(place.cookbook)).toHaveLength(1); // that of the fresh machine
  });

  test.each(['https://127.0.0.1', 'http://[::1]', 'http://127.0.0.2'])(
    '%s: none can be started there',
    async (host) => {
      const url = `${host}:${await freePort()}`;
      const { run } = await newPlace(shared, { COOKBOOK_LOCALSTACK: url });
      const { code, err } = await run('start');
      expect(code).toBe(1);
      expect(err).toContain(`Nothing answers at ${url};`);
    },
  );
});

describe('Python', () => {
  const advice = [
    'needs Python 3.11 to 3.13',
    'apt install python3 python3-venv',
    'brew install python@3.13',
    'uv python install 3.13',
    'COOKBOOK_PYTHON=',
    'docker run --rm -d -p 127.0.0.1:',
  ];

  test('none: an error that names what to install, and Docker', async () => {
    const { run, port } = await nowhere();
    const { code, out, err } = await run('start');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    for (const text of advice) expect(err).toContain(text);
    expect(err).toContain(`127.0.0.1:${port}:4566 localstack/localstack:${pinned()}\n`);
    expect(err.trim().split('\n')).toHaveLength(3);
    expect(await run('stop')).toMatchObject({ code: 0 });
    expect((await run('status')).out).toContain('Python   none that fits\n');
  });

  test('COOKBOOK_PYTHON is used or refused, never ignored', async () => {
    const old = join(process.env.PYENV_ROOT ?? join(homedir(), '.pyenv'), 'versions/3.10.13/bin/python3');
    const misfits = [existsSync(old) ? old : command(join(root, 'old/python3'), 'echo 3.10'), '/nowhere/python3'];
    for (const misfit of misfits) {
      const { run } = await newPlace(shared, { COOKBOOK_PYTHON: misfit });
      const { code, err } = await run('start');
      expect(code).toBe(1);
      expect(err).toContain(`needs Python 3.11 to 3.13 with venv; COOKBOOK_PYTHON=${misfit} is not such a one.`);
    }
    const named = command(join(root, 'named/python3'), 'echo 3.12');
    const { run } = await newPlace(shared, { COOKBOOK_PYTHON: named });
    expect((await run('status')).out).toContain(`Python   ${named}\n`);
  });

  test('is the newest that fits, on the PATH, of pyenv or of uv', async () => {
    const pyenv = mkdtempSync(join(root, 'pyenv-'));
    const place = await nowhere({ PYENV_ROOT: pyenv });
    const bin = place.env.PATH as string;
    const found = async () => (await place.run('status')).out.match(/^Python {3}(.*)$/m)?.[1];

    command(join(bin, 'python3.14'), 'echo 3.14');
    command(join(bin, 'python3.13'), 'echo "pyenv: python3.13: command not found" >&2; exit 127');
    command(join(bin, 'python3.12'), 'echo 3.12; exit 1');
    expect(await found()).toBe('none that fits');
    const system = command(join(bin, 'python3'), 'echo 3.11');
    expect(await found()).toBe(system);
    command(join(pyenv, 'versions/3.12.9/bin/python3'), 'echo 3.12');
    const second = command(join(pyenv, 'versions/3.12.10/bin/python3'), 'echo 3.12');
    expect(await found()).toBe(second);
    const managed = command(join(root, 'managed/python3'), 'echo 3.13');
    command(join(bin, 'uv'), `[ "$5 $6" = "only-managed 3.13" ] && echo '${managed}'`);
    expect(await found()).toBe(managed);
    const first = command(join(pyenv, 'versions/3.13.0/bin/python3'), 'echo 3.13');
    expect(await found()).toBe(first);
  });
});

test('the version is the locked one', () => {
  expect(readFileSync(join(repository, 'shared/localstack-requirements.in'), 'utf8')).toContain(`==${pinned()}\n`);
  expect(readFileSync(join(repository, 'shared/localstack-requirements.txt'), 'utf8')).toMatch(
    new RegExp(`^localstack-core(\\[.*\\])?==${pinned()} `, 'm'),
  );
});
