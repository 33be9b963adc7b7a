import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { beforeAll, expect, test, vi } from 'vitest';
import { downloadLargeObject, fileFor } from '../../recipes/s3/14-download-large-object.ts';
import { checksumOf } from '../../recipes/s3/14-helpers/checksum.ts';
import { openPartial } from '../../recipes/s3/14-helpers/partial-file.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { keysOf } from '../program.ts';
import { type Mishap, type S3Request, startProxy } from '../proxy.ts';
import { tsx } from '../run.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket: own, run, file: recipe, folder, account: first } = testRecipe(import.meta);
const bucket = `${own}-data`;
// Another account's, so that nothing is left in the one that the commands of the header work in.
const account = `${Number(first) - 1}`;
const s3 = () => new S3Client({ ...settingsOf({ account }), forcePathStyle: true });
const client = s3();
const data = randomBytes(10_000);
/** Enough ranges to matter, of few bytes. */
const small = { partSize: 1000, concurrency: 3 };

beforeAll(async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  await put('data', data);
});

async function put(key: string, body: Buffer, more: object = {}): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, ...more }));
}

/** A folder of its own for one test, and what is in it. */
function newFolder() {
  const path = join(folder, randomBytes(6).toString('hex'));
  mkdirSync(path);
  return { path, file: join(path, 'file'), names: () => readdirSync(path).sort() };
}

/** A client through a proxy where things go wrong, with patience for a busy machine. */
async function through(mishap: (seen: S3Request) => Mishap | null | undefined, socketTimeout = 10_000) {
  const proxy = await startProxy(mishap);
  const { config } = client;
  const wrong = new S3Client({
    ...{ region: 'us-east-1', endpoint: proxy.url, forcePathStyle: true, credentials: config.credentials },
    requestHandler: { socketTimeout },
    maxAttempts: 2,
  });
  const ranges = () =>
    proxy.requests.filter(({ operation }) => operation === 'GetObject').map(({ headers }) => headers.range as string);
  return { proxy, client: wrong, ranges };
}

test.each([
  ['nothing', 0, 0],
  ['one byte', 1, 1],
  ['a byte less than a range', 999, 1],
  ['one range', 1000, 1],
  ['a range and a byte', 1001, 2],
  ['many ranges', 9999, 10],
])('%s is downloaded and compared', async (_, size, requests) => {
  const { file, names } = newFolder();
  await put('sized', data.subarray(0, size));
  const { client, ranges } = await through(() => null);
  const onProgress = vi.fn();
  expect(await downloadLargeObject(client, { bucket, key: 'sized', file, ...small, onProgress })).toEqual({
    ...{ bucket, key: 'sized', file, size, resumed: 0, checksum: 'CRC32', verified: true },
    etag: `"${createHash('md5').update(data.subarray(0, size)).digest('hex')}"`,
  });
  expect(readFileSync(file).equals(data.subarray(0, size))).toBe(true);
  expect(names()).toEqual(['file']);
  expect(new Set(ranges()).size).toBe(requests);
  expect(ranges()).toHaveLength(requests);
  expect(onProgress).toHaveBeenLastCalledWith({ bytes: size, total: size });
});

test('keys of all sorts are found, and keep their last part as name in a folder', async () => {
  const { path } = newFolder();
  for (const key of [...oddKeys, ...keysBeyondXml]) {
    const body = Buffer.from(key);
    await put(key, body);
    const last = key.split('/').at(-1) as string;
    const bad = ['', '.', '..'].includes(last);
    if (bad) await expect(fileFor({ key, to: path }), key).rejects.toThrow('ends in no name');
    // A name of a file has at most 255 bytes.
    const file = bad || body.length > 255 ? join(path, 'other') : await fileFor({ key, to: path });
    if (file !== join(path, 'other')) expect(file).toBe(`${path}/${last}`);
    await downloadLargeObject(client, { bucket, key, file, overwrite: true });
    expect(readFileSync(file).equals(body), key).toBe(true);
  }
});

test('the file stays in the folder that is named, and names of up to 255 bytes do', async () => {
  const { path } = newFolder();
  const refused = ['..', 'a/..', '/', 'a/', '.', 'a/../..', 'nul\0', 'x/nul\0y'];
  for (const key of refused) await expect(fileFor({ key, to: path }), key).rejects.toThrow(RangeError);
  await expect(fileFor({ key: 'a', to: `${path}/no/` })).rejects.toThrow(`there is no folder ${path}/no/`);
  expect(await fileFor({ key: '../../x', to: path })).toBe(`${path}/x`);
  expect(await fileFor({ key: 'x', to: `${path}/y` })).toBe(`${path}/y`);
  for (const name of ['n'.repeat(255), '\u{1F600}'.repeat(63)]) {
    const file = join(path, name);
    await downloadLargeObject(client, { bucket, key: 'data', file });
    expect(readFileSync(file).equals(data)).toBe(true);
  }
});

test.each<[string, Mishap, number]>([
  ['500', 500, 12],
  ['503', 503, 12],
  ['reset', 'reset', 12],
  ['cut in the body', 'cut', 12],
  ['silence', 'stall', 12],
])('a range that is answered with %s is tried again', async (_, mishap, most) => {
  const { file, names } = newFolder();
  let bad = 0;
  // More often than the SDK tries by itself.
  const { client, ranges } = await through(
    ({ headers }) => (headers.range?.endsWith('-3999') && bad++ < 3 ? mishap : null),
    mishap === 'stall' ? 5000 : undefined,
  );
  await downloadLargeObject(client, { bucket, key: 'data', file, ...small });
  expect(readFileSync(file).equals(data)).toBe(true);
  expect(names()).toEqual(['file']);
  const others = ranges().filter((range) => !range.endsWith('-3999'));
  expect(new Set(others).size).toBe(9);
  expect(bad).toBeGreaterThanOrEqual(4);
  // Where silence is given up, another range may be, too, on a busy machine.
  if (mishap === 'stall') return;
  expect(bad).toBe(4);
  expect(others).toHaveLength(9);
  expect(ranges().length).toBeLessThanOrEqual(9 + most);
});

test('an answer that is cut is taken up where it ended', async () => {
  const { file } = newFolder();
  const large = randomBytes(3_000_000);
  await put('large', large);
  let cut = 0;
  const { client, ranges } = await through(({ operation }) => (operation === 'GetObject' && cut++ < 1 ? 'cut' : null));
  await downloadLargeObject(client, { bucket, key: 'large', file, partSize: 1_500_000, concurrency: 1 });
  expect(readFileSync(file).equals(large)).toBe(true);
  expect(ranges()).toHaveLength(3);
});

test('after five failures in a row what is there is kept, said, and not fetched again', async () => {
  const { path, file, names } = newFolder();
  vi.spyOn(Math, 'random').mockReturnValue(0);
  const { client: wrong } = await through(({ headers }) => (headers.range === 'bytes=4000-4999' ? 'reset' : null));
  const failed = downloadLargeObject(wrong, { bucket, key: 'data', file, partSize: 1000, concurrency: 1 });
  await expect(failed).rejects.toThrow(
    new RegExp(`; 4 of 10 ranges are in ${path}/file.[0-9a-f]{8}.part; the same again goes on from there`),
  );
  vi.restoreAllMocks();
  expect(names()).toEqual([expect.stringMatching(/\.part$/), expect.stringMatching(/\.part\.done$/)]);

  const { client, ranges } = await through(() => null);
  const result = await downloadLargeObject(client, { bucket, key: 'data', file, ...small });
  expect(result).toMatchObject({ resumed: 4000, verified: true });
  expect(ranges().sort()).toEqual([4, 5, 6, 7, 8, 9].map((part) => `bytes=${part}000-${part}999`));
  expect(readFileSync(file).equals(data)).toBe(true);
  expect(names()).toEqual(['file']);
});

/** Leaves some ranges of `data` behind, as a run that was killed does. */
async function leave(file: string, { key = 'data', ranges = 4 } = {}): Promise<{ part: string; done: string }> {
  const stop = new AbortController();
  let there = 0;
  const onProgress = ({ bytes }: { bytes: number }) => {
    there = bytes;
    if (there >= (ranges + 1) * 1000) stop.abort();
  };
  const one = { partSize: 1000, concurrency: 1, signal: stop.signal, onProgress };
  await downloadLargeObject(client, { bucket, key, file, ...one }).catch(() => null);
  const [part = '', done = ''] = readdirSync(join(file, '..')).filter((name) => name.includes('.part'));
  return { part: join(file, '..', part), done: join(file, '..', done) };
}

test('what is left counts only for the same object in the same ranges', async () => {
  const { file, names } = newFolder();
  await put('changing', data);
  await leave(file, { key: 'changing' });
  const other = Buffer.from(data.toReversed());
  await put('changing', other);
  expect(await downloadLargeObject(client, { bucket, key: 'changing', file, ...small })).toMatchObject({ resumed: 0 });
  expect(readFileSync(file).equals(other)).toBe(true);
  rmSync(file);

  await leave(file);
  const finer = { bucket, key: 'data', file, partSize: 500 };
  expect(await downloadLargeObject(client, finer)).toMatchObject({ resumed: 0, verified: true });
  expect(names()).toEqual(['file']);
});

test('a note that is torn, or lost, or without its bytes is no harm', async () => {
  const { file, names } = newFolder();
  const again = async () => {
    const result = await downloadLargeObject(client, { bucket, key: 'data', file, ...small, overwrite: true });
    expect(readFileSync(file).equals(data)).toBe(true);
    expect(names()).toEqual(['file']);
    rmSync(file);
    return result.resumed;
  };
  const torn = await leave(file);
  const notes = readFileSync(torn.done, 'utf8');
  writeFileSync(torn.done, notes.slice(0, -1));
  expect(await again()).toBe((notes.split('\n').length - 3) * 1000);

  rmSync((await leave(file)).done);
  expect(await again()).toBe(0);
  rmSync((await leave(file)).part);
  expect(await again()).toBe(0);
  writeFileSync((await leave(file)).done, 'something else\n0\n');
  expect(await again()).toBe(0);
});

test('bytes that are not the object\u2019s are seen by the checksum, and thrown away', async () => {
  const { file, names } = newFolder();
  const { part } = await leave(file);
  const bytes = readFileSync(part);
  bytes[1500] = (bytes[1500] as number) ^ 1;
  writeFileSync(part, bytes);
  const bad = downloadLargeObject(client, { bucket, key: 'data', file, ...small });
  await expect(bad).rejects.toMatchObject({ name: 'ChecksumMismatch', message: expect.stringContaining('CRC32') });
  expect(names()).toEqual([]);
});

test('each checksum that S3 has is compared, and seen to differ', async () => {
  const { file } = newFolder();
  for (const [algorithm, value] of Object.entries({
    CRC32: 'DUoRhQ==',
    CRC32C: 'yZRlqg==',
    CRC64NVME: 'jSnVw/bqjr4=',
    SHA1: 'Kq5sNclPz7QV2+lfQIuc6R7oRu0=',
    SHA256: 'uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=',
    SHA512: createHash('sha512').update('hello world').digest('base64'),
    MD5: createHash('md5').update('hello world').digest('base64'),
    XXHASH64: 'RatnNLIeaWg=',
  })) {
    const known = { [`Checksum${algorithm}`]: value };
    for (const [text, same] of [
      ['hello world', true],
      ['hello worle', false],
    ] as const) {
      const checksum = checksumOf(known);
      expect(checksum).toMatchObject({ algorithm, ofWholeObject: true });
      checksum?.update(Buffer.from(text.slice(0, 3)));
      checksum?.update(Buffer.from(text.slice(3)));
      expect(await checksum?.matches(), algorithm).toBe(same);
    }
  }
  expect(checksumOf({})).toBe(null);

  for (const ChecksumAlgorithm of ['CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const) {
    await put('summed', data, { ChecksumAlgorithm });
    const summed = { bucket, key: 'summed', file, overwrite: true, ...small };
    expect(await downloadLargeObject(client, summed)).toMatchObject({ checksum: ChecksumAlgorithm, verified: true });
  }
});

test('a composite checksum and none at all are said', async () => {
  const { file } = newFolder();
  const upload = { Bucket: bucket, Key: 'parts' };
  const create = new CreateMultipartUploadCommand({ ...upload, ChecksumAlgorithm: 'SHA256' });
  const { UploadId } = await client.send(create);
  const part = { ...upload, UploadId, PartNumber: 1, Body: data, ChecksumAlgorithm: 'SHA256' } as const;
  const { ETag, ChecksumSHA256 } = await client.send(new UploadPartCommand(part));
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag, ChecksumSHA256 }] };
  await client.send(new CompleteMultipartUploadCommand({ ...upload, UploadId, MultipartUpload }));
  const composite = { bucket, key: 'parts', file, ...small };
  expect(await downloadLargeObject(client, composite)).toMatchObject({ checksum: 'SHA256', verified: false });
  expect(readFileSync(file).equals(data)).toBe(true);

  const output = { ContentLength: 10_000, ETag: `"${createHash('md5').update(data).digest('hex')}"` };
  const { client: none } = withFaults(s3(), { operation: 'HeadObject', output });
  const old = { bucket, key: 'data', file, overwrite: true, ...small };
  expect(await downloadLargeObject(none, old)).toMatchObject({ checksum: null, verified: false });
});

test('an object that changes meanwhile is an error, and nothing is left', async () => {
  const { file, names } = newFolder();
  writeFileSync(file, 'former');
  await put('moving', data);
  const { client } = await through(({ headers }) =>
    headers.range === 'bytes=5000-5999' ? () => put('moving', randomBytes(10_000)) : null,
  );
  const moving = { bucket, key: 'moving', file, overwrite: true, partSize: 1000, concurrency: 1 };
  await expect(downloadLargeObject(client, moving)).rejects.toMatchObject({ name: 'PreconditionFailed' });
  expect(names()).toEqual(['file']);
  expect(readFileSync(file, 'utf8')).toBe('former');
});

test('a server that ignores ranges is not believed', async () => {
  const { file, names } = newFolder();
  vi.spyOn(Math, 'random').mockReturnValue(0);
  const whole = s3();
  whole.middlewareStack.add((next) => (args) => next({ ...args, input: { ...args.input, Range: undefined } }), {
    step: 'initialize',
  });
  const ignored = downloadLargeObject(whole, { bucket, key: 'data', file, ...small });
  await expect(ignored).rejects.toThrow(/^bytes=\d+-\d+ brought undefined/);
  vi.restoreAllMocks();
  expect(names()).toEqual([]);
});

test('what S3 refuses is refused at once, and the others stop', async () => {
  const { file, names } = newFolder();
  const { client, ranges } = await through(({ headers }) => (headers.range === 'bytes=0-999' ? 403 : null));
  const denied = downloadLargeObject(client, { bucket, key: 'data', file, ...small, concurrency: 1 });
  await expect(denied).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(ranges()).toHaveLength(1);
  expect(names()).toEqual([]);

  // The answer to HEAD has no words of its own.
  const { client: blind } = await through(({ operation }) => (operation === 'HeadObject' ? 403 : null));
  const unseen = downloadLargeObject(blind, { bucket, key: 'data', file });
  await expect(unseen).rejects.toMatchObject({
    name: 'AccessDenied',
    message: 'data may not be read, or is not there',
  });
});

test('what an ousted run still notes is not taken for a part of the next', async () => {
  const { file } = newFolder();
  const old = await openPartial({ file, contents: { etag: 'old' } });
  const next = await openPartial({ file, contents: { etag: 'new' } });
  await next.keep(0);
  await old.keep(1);
  await Promise.all([old.close(), next.close()]);
  const { kept, discard } = await openPartial({ file, contents: { etag: 'new' } });
  expect([...kept]).toEqual([0]);
  await discard();
});

test('two runs for one file do not mix: the first that is whole wins', async () => {
  const { file, names } = newFolder();
  await put('twice', data);
  const other = randomBytes(10_000);
  let second: Promise<unknown> | undefined;
  const { client: slow } = await through(({ headers }) => {
    if (headers.range !== 'bytes=9000-9999') return null;
    return async () => {
      await put('twice-2', other);
      second ??= downloadLargeObject(client, { bucket, key: 'twice-2', file, ...small });
      await second;
    };
  });
  const first = downloadLargeObject(slow, { bucket, key: 'twice', file, overwrite: true, ...small });
  await expect(first).rejects.toThrow('another run has taken or finished');
  expect(readFileSync(file).equals(other)).toBe(true);
  expect(names().filter((name) => name.endsWith('.part'))).toEqual([]);
});

test('bad input is refused before anything is sent', async () => {
  const { path, file } = newFolder();
  const { client, proxy } = await through(() => null);
  const one = { bucket, key: 'data', file };
  for (const partSize of [0, -1, 1.5, Number.NaN]) {
    await expect(downloadLargeObject(client, { ...one, partSize })).rejects.toThrow(RangeError);
  }
  await expect(downloadLargeObject(client, { ...one, concurrency: 0 })).rejects.toThrow('concurrency must be');
  await expect(downloadLargeObject(client, { ...one, file: path })).rejects.toThrow(TypeError);
  // A regular file in its place would break the machine.
  const pipe = join(path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const replacing = downloadLargeObject(client, { ...one, file: pipe, overwrite: true });
  await expect(replacing).rejects.toThrow(new TypeError(`${pipe} is a folder or a device, not a file`));
  rmSync(pipe);
  writeFileSync(file, 'former');
  await expect(downloadLargeObject(client, one)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(proxy.requests).toEqual([]);
  rmSync(file);
  await expect(downloadLargeObject(client, { ...one, file: `${path}/no/file` })).rejects.toThrow('ENOENT');
  await expect(downloadLargeObject(client, { ...one, key: 'none' })).rejects.toThrow(
    `there is no bucket ${bucket}, or no none in it`,
  );
  expect(readdirSync(path)).toEqual([]);
});

test('a file that comes to be meanwhile is not replaced', async () => {
  const { file } = newFolder();
  const onProgress = () => writeFileSync(file, 'new');
  const late = downloadLargeObject(client, { bucket, key: 'data', file, ...small, onProgress });
  await expect(late).rejects.toMatchObject({ code: 'EEXIST' });
  expect(readFileSync(file, 'utf8')).toBe('new');
});

test('a link is replaced, not what it leads to', async () => {
  const { path, file } = newFolder();
  writeFileSync(join(path, 'elsewhere'), 'former');
  symlinkSync(join(path, 'elsewhere'), file);
  await downloadLargeObject(client, { bucket, key: 'data', file, ...small, overwrite: true });
  expect(readFileSync(join(path, 'elsewhere'), 'utf8')).toBe('former');
  expect(readFileSync(file).equals(data)).toBe(true);
});

test('the command asks before it replaces a file, and Ctrl-C leaves what is there for the next time', async () => {
  const { path, file, names } = newFolder();
  const big = randomBytes(33 * 2 ** 20);
  await put('big', big);
  const command = `npx tsx ${recipe} s3://paws-example-data/big ${path} --endpoint-url`;
  const env = { ...keysOf({ accessKeyId: account, secretAccessKey: 'test' }) };
  const stalled = await startProxy(({ headers }) => (headers.range?.startsWith('bytes=0-') ? 'stall' : null));
  // Once the second range is there, and noted.
  const when = () => {
    const name = names().find((one) => one.endsWith('.done'));
    return name !== undefined && readFileSync(join(path, name), 'utf8').endsWith('\n1\n');
  };
  const interrupt = { signal: 'SIGINT' as const, after: 0, when };
  const stopped = await run(`${command} ${stalled.url} --calls`, { env, interrupt });
  expect(stopped).toMatchObject({ code: 130, stdout: '' });
  expect(stopped.stderr).toMatch(
    /^Interrupted. 1 of 2 ranges are in .*big\.[0-9a-f]{8}\.part; the same again goes on/m,
  );

  const { url, count } = await startProxy();
  const again = await run(`${command} ${url} --json`, { env });
  expect(again).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(again.stdout)).toMatchObject({ resumed: 2 ** 20, size: 33 * 2 ** 20, verified: true });
  expect(count('GetObject')).toBe(1);
  expect(readFileSync(join(path, 'big')).equals(big)).toBe(true);
  expect(names()).toEqual(['big']);

  const asked = await run(`${command} ${url}`, { env });
  expect(asked.code).toBe(2);
  expect(asked.stderr).toContain('add --yes');
  expect(existsSync(file)).toBe(false);
});

/** A program that waits for a word, then downloads `big` to the path that it is given. */
const program = `
  import { createInterface } from 'node:readline';
  import { S3Client } from '@aws-sdk/client-s3';
  import { downloadLargeObject } from '${new URL('../../recipes/s3/14-download-large-object.ts', import.meta.url)}';
  const s3 = new S3Client({ forcePathStyle: true, endpoint: process.env.URL });
  console.log('ready');
  process.stdin.once('data', async () => {
    const options = { bucket: 'paws-example', key: 'big', file: process.env.FILE, overwrite: true };
    const more = { partSize: Number(process.env.PART_SIZE), concurrency: Number(process.env.CONCURRENCY ?? 4) };
    try { console.log(JSON.stringify(await downloadLargeObject(s3, { ...options, ...more }))); process.exit(); }
    catch (error) { console.log(error.name + ': ' + error.message); process.exit(1); }
  });`;

/** Starts it: it is ready long before it is needed. */
function startProgram(env: Record<string, string>, { shell = '' } = {}) {
  const node = `${shell} exec '${process.execPath}' --import '${tsx}' --input-type=module-typescript`;
  const words = ['-c', `${node.replace('-typescript', '')} -e "$PROGRAM"`];
  const cwd = new URL('../..', import.meta.url);
  const child = spawn('sh', words, {
    cwd,
    env: { PATH: process.env.PATH, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true', PROGRAM: program, ...env },
  });
  let printed = '';
  child.stdout.on('data', (text) => (printed += text));
  child.stderr.on('data', (text) => (printed += text));
  child.stdin.on('error', () => {});
  const ready = once(child.stdout, 'data');
  const ended = once(child, 'close');
  return { child, ended, start: () => ready.then(() => child.stdin.write('go\n')), printed: () => printed };
}

test.skipIf(!versitygw)(
  'kill -9 at twenty moments: no range that is there comes twice, and the former file is whole until the end',
  async () => {
    const gateway = await startVersitygw();
    const { path, file, names } = newFolder();
    try {
      const big = randomBytes(96 * 2 ** 20);
      const direct = new S3Client({
        ...{ region: 'us-east-1', endpoint: gateway.url, forcePathStyle: true, credentials: gateway },
      });
      await direct.send(new CreateBucketCommand({ Bucket: 'paws-example' }));
      await direct.send(new PutObjectCommand({ Bucket: 'paws-example', Key: 'big', Body: big }));
      writeFileSync(file, 'former');

      // Numbers that are the same each time.
      let seed = 14;
      const random = (most: number) => {
        seed = (seed * 48_271) % 2_147_483_647;
        return seed % most;
      };
      let [left, delay, kill] = [0, 0, () => {}];
      const proxy = await startProxy(
        ({ operation }) => {
          if (operation !== 'GetObject') return null;
          if (--left === 0) setTimeout(() => kill(), delay);
          // However fast the machine is, no run gets further than one range more.
          return left < -1 ? 'stall' : null;
        },
        { target: gateway.url },
      );
      const env = { URL: proxy.url, FILE: file, PART_SIZE: `${2 ** 20}`, ...keysOf(gateway) };
      const noted = () => {
        const name = names().find((one) => one.endsWith('.done'));
        return name ? readFileSync(join(path, name), 'utf8').split('\n').slice(1, -1).map(Number) : [];
      };
      const programs = [startProgram(env), startProgram(env)];
      let killed = 0;
      for (let moment = 0; moment <= 20; moment++) {
        if (moment < 19) programs.push(startProgram(env));
        const { child, ended, start, printed } = programs[moment] as ReturnType<typeof startProgram>;
        const before = noted();
        const from = proxy.requests.length;
        left = moment === 20 ? Number.POSITIVE_INFINITY : 1 + random(5);
        delay = random(20);
        kill = () => child.kill('SIGKILL');
        await start();
        const [code, signal] = await ended;
        // What it sent before it died has come.
        for (let turn = 0; turn < 5; turn++) await setImmediate();
        const asked = proxy.requests
          .slice(from)
          .filter(({ operation }) => operation === 'GetObject')
          .map(({ headers }) => Number(/=(\d+)/.exec(headers.range as string)?.[1]) / 2 ** 20);
        expect(new Set(asked).size, printed()).toBe(asked.length);
        expect(asked.filter((part) => before.includes(part))).toEqual([]);
        if (moment === 20) {
          expect([code, JSON.parse(printed().replace('ready', '')).verified]).toEqual([0, true]);
          expect(asked).toHaveLength(96 - before.length);
        } else {
          if (signal === 'SIGKILL') killed++;
          expect(noted()).toEqual(expect.arrayContaining(before));
          expect(readFileSync(file, 'utf8').slice(0, 10)).toBe('former');
        }
      }
      expect(killed).toBe(20);
      expect(readFileSync(file).equals(big)).toBe(true);
      expect(names()).toEqual(['file']);
    } finally {
      await gateway.stop();
    }
  },
  900_000,
);

test.skipIf(!versitygw)('a full disk is said, and what is there is kept', async () => {
  const gateway = await startVersitygw();
  const { file, names } = newFolder();
  try {
    const body = randomBytes(20 * 2 ** 20);
    const direct = new S3Client({
      ...{ region: 'us-east-1', endpoint: gateway.url, forcePathStyle: true, credentials: gateway },
    });
    await direct.send(new CreateBucketCommand({ Bucket: 'paws-example' }));
    await direct.send(new PutObjectCommand({ Bucket: 'paws-example', Key: 'big', Body: body }));
    const env = { URL: gateway.url, FILE: file, PART_SIZE: `${4 * 2 ** 20}`, ...keysOf(gateway) };
    // A limit on the size of a file, 10 MB, stands for a disk that is full: EFBIG for ENOSPC.
    const full = startProgram({ ...env, CONCURRENCY: '1' }, { shell: 'trap "" XFSZ; ulimit -f 20000;' });
    await full.start();
    expect((await full.ended)[0]).toBe(1);
    expect(full.printed()).toMatch(
      /Error: EFBIG: file too large, write; 2 of 5 ranges are in .*\.part; the same again/,
    );

    const roomy = startProgram(env);
    await roomy.start();
    expect((await roomy.ended)[0]).toBe(0);
    expect(JSON.parse(roomy.printed().replace('ready', ''))).toMatchObject({ resumed: 8 * 2 ** 20, verified: true });
    expect(readFileSync(file).equals(body)).toBe(true);
    expect(names()).toEqual(['file']);
  } finally {
    await gateway.stop();
  }
});
