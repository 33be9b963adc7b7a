import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  type BucketVersioningStatus,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, onTestFinished, test, vi } from 'vitest';
import { emptyBucket } from '../../recipes/s3/28-empty-bucket.ts';
import { testRecipe } from '../harness.ts';
import type { Fault } from '../preload.ts';
import { keysOf } from '../program.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket: own, run, file, folder, s3 } = testRecipe(import.meta);
const client = s3();

/** Makes a bucket for one test: `paws-example-NAME` in commands. */
async function makeBucket(name: string, { versioned = false, locks = false } = {}): Promise<string> {
  const bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: locks }));
  if (versioned) await setVersioning(bucket, 'Enabled');
  return bucket;
}

async function setVersioning(bucket: string, Status: BucketVersioningStatus): Promise<void> {
  const VersioningConfiguration = { Status };
  await client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration }));
}

async function put(bucket: string, keys: string[], more: object = {}): Promise<void> {
  const one = (Key: string) => client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'text', ...more }));
  await pMap(keys, one, { concurrency: 32 });
}

async function startUploads(bucket: string, keys: string[], { parts = 0 } = {}): Promise<void> {
  await pMap(
    keys,
    async (Key) => {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }));
      for (let PartNumber = 1; PartNumber <= parts; PartNumber++) {
        const part = { Bucket: bucket, Key, UploadId, PartNumber, Body: 'part' };
        await client.send(new UploadPartCommand(part));
      }
    },
    { concurrency: 32 },
  );
}

/** What a bucket holds: keys of versions and markers, and of unfinished uploads. Keys that need no encoding. */
async function contents(bucket: string): Promise<string[]> {
  const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return [...Versions, ...DeleteMarkers, ...Uploads].map(({ Key }) => Key as string);
}

/** Runs the command on a bucket of `makeBucket`; its result, if it printed one. */
async function empty(target: string, faults?: Fault[]) {
  const command = `npx tsx ${file} s3://paws-example-${target} --local --yes --json`;
  const { code, stdout, stderr } = await run(command, { faults });
  return { code, stderr, result: stdout ? JSON.parse(stdout) : null };
}

/**
 * A client that calls back before each request, with its operation and input, to be changed at will. What comes
 * back is called with the answer.
 */
// biome-ignore lint/suspicious/noExplicitAny: the inputs and outputs of all operations
function watched(before: (operation: string, input: any) => unknown): S3Client {
  const watching = s3();
  watching.middlewareStack.add(
    (next, context) => async (args) => {
      const input = { ...(args.input as object) };
      const after = await before(String(context.commandName).replace('Command', ''), input);
      const answer = await next({ ...args, input } as typeof args);
      if (typeof after === 'function') await after(answer.output);
      return answer;
    },
    { step: 'initialize' },
  );
  return watching;
}

/** A client that gets the answers given, and the server's own where there is none. */
function failing(answer: (operation: string) => object | null): S3Client {
  const client = s3();
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const output = answer(String(context.commandName).replace('Command', ''));
      return output ? ({ output: { $metadata: {}, ...output }, response: {} } as never) : next(args);
    },
    { step: 'build' },
  );
  return client;
}

/** As S3 encodes keys in lists: LocalStack leaves out the markers and the keys of uploads, then loses its place. */
const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+').replaceAll('%2F', '/');

const numbered = (count: number, name = 'key') => Array.from({ length: count }, (_, i) => `${name}-${i}`);

test('thousands of versions and markers of a versioned bucket go, and the answer is one JSON document', async () => {
  const bucket = await makeBucket('many', { versioned: true });
  const keys = numbered(2500);
  await put(bucket, keys);
  await put(bucket, keys.slice(0, 400));
  await put(bucket, Array(9).fill(keys[7]));
  const hide = (Key: string) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
  await pMap(keys.slice(300, 600), hide, { concurrency: 32 });

  expect(await empty('many')).toEqual({
    code: 0,
    stderr: '',
    result: {
      bucket: 'paws-example-many',
      versions: 2909,
      deleteMarkers: 300,
      uploads: 0,
      kept: 0,
      examples: [],
      empty: true,
    },
  });
  expect(await contents(bucket)).toEqual([]);
  expect(await empty('many')).toMatchObject({ code: 0, result: { versions: 0, empty: true } });
});

test('a bucket without versioning is emptied, with no markers left behind', async () => {
  const bucket = await makeBucket('plain');
  await put(bucket, numbered(300));
  expect(await empty('plain')).toMatchObject({
    code: 0,
    result: { versions: 300, deleteMarkers: 0, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('a bucket whose versioning was suspended is emptied, with its null versions and null markers', async () => {
  const bucket = await makeBucket('suspended');
  await put(bucket, ['from before']);
  await setVersioning(bucket, 'Enabled');
  await put(bucket, ['from before', 'new', 'new']);
  await setVersioning(bucket, 'Suspended');
  await put(bucket, ['new']);
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'from before' }));
  expect(await empty('suspended')).toMatchObject({
    code: 0,
    result: { versions: 4, deleteMarkers: 1, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('unfinished uploads are aborted, more than a page of them and those that have parts', async () => {
  const bucket = await makeBucket('uploads');
  await startUploads(bucket, numbered(1010));
  await startUploads(bucket, ['with parts', 'with parts', '/lead//../é😀'], { parts: 2 });
  await put(bucket, ['object']);
  expect(await empty('uploads')).toMatchObject({
    code: 0,
    result: { versions: 1, uploads: 1013, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('keys of all sorts go, those too that XML can not carry', async () => {
  const bucket = await makeBucket('odd', { versioned: true });
  const keys = [
    ...[' ', ' a b ', 'a+b', 'a%20b', '100%', '%', 'q?x=1&y', 'h#x', `it's "q"`, '<&amp;>', '\\', '😀'],
    ...['/lead', 'a//b', 'a/', '.', '..', '../x', 'a/../b', 'a/./b', 'e\u0301', '\u00E9'],
    ...['line\nfeed', 'cr\rlf\r\n', '\ttab', '\u0085', '\u2028', '\u007F', '\uFFFD', 'k'.repeat(1024)],
    ...['\u0001', 'bell\u0007bell', '\u001B[31m', 'a/../\u0002 +%', '\uFFFE', '\uFFFF'],
  ];
  await put(bucket, keys);
  const hide = (Key: string) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
  await pMap(keys, hide, { concurrency: 8 });
  const together: string[] = [];
  const refusing = watched((operation, input) => {
    if (operation === 'DeleteObjects') together.push(...input.Delete.Objects.map(({ Key }: { Key: string }) => Key));
    if (/^Delete/.test(operation)) throw Object.assign(new Error('no'), { name: 'InvalidRequest' });
  });
  await expect(emptyBucket(refusing, { bucket, prefix: 'line' })).rejects.toThrow('no (0 deleted');
  await expect(emptyBucket(refusing, { bucket, prefix: 'cr' })).rejects.toThrow('no (0 deleted');
  // A carriage return may come back from XML as a line feed.
  expect(together).toEqual(['line\nfeed', 'line\nfeed']);
  expect(await empty('odd')).toMatchObject({
    code: 0,
    result: { versions: keys.length, deleteMarkers: keys.length, kept: 0, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('keys of all sorts lead from page to page, given an encoding that is whole as it is on S3', async () => {
  const bucket = await makeBucket('pages', { versioned: true });
  const keys = [
    ...[' ', 'a b', 'a+b', 'a%20b', 'a%2Bb', 'a(b', 'a%28b', '100%', '%zz', 'q?x=1', "it's", '<&>', 'e\u0301'],
    ...['\u00E9', '\u{1F600}', '\uFFFD', '/lead', 'a//b', 'a/../b', 'line\nfeed', 'k'.repeat(1024)],
  ];
  await put(bucket, [...keys, ...keys, ...keys]);
  await startUploads(bucket, [...keys, ...keys]);
  // biome-ignore lint/suspicious/noExplicitAny: outputs of two operations
  const like = (output: any) => {
    const { Versions = [], DeleteMarkers = [], Uploads = [], NextKeyMarker } = output;
    for (const entry of [...Versions, ...DeleteMarkers, ...Uploads]) entry.Key = encode(entry.Key);
    Object.assign(output, { EncodingType: 'url', NextKeyMarker: NextKeyMarker && encode(NextKeyMarker) });
  };
  const sent: string[] = [];
  const likeS3 = watched((operation, input) => {
    sent.push(operation);
    if (!operation.startsWith('List')) return;
    expect(input.EncodingType).toBe('url');
    delete input.EncodingType;
    Object.assign(input, operation === 'ListObjectVersions' ? { MaxKeys: 2 } : { MaxUploads: 3 });
    return like;
  });
  expect(await emptyBucket(likeS3, { bucket })).toMatchObject({
    versions: keys.length * 3,
    uploads: keys.length * 2,
    empty: true,
  });
  // An upload that is completed meanwhile is an object: but for a first look, all uploads go before versions are listed.
  expect(sent[0]).toBe('ListObjectVersions');
  expect(sent.indexOf('ListObjectVersions', 1)).toBeGreaterThan(sent.lastIndexOf('AbortMultipartUpload'));
  expect(await contents(bucket)).toEqual([]);
});

test('a prefix leaves all other keys, and counts as it stands', async () => {
  const bucket = await makeBucket('prefix', { versioned: true });
  const stay = ['a b/1', 'a%20b/1', 'A+b/1', 'x/a+b/1', 'a+'];
  await put(bucket, [...stay, 'a+b/1', 'a+b/1', 'a+b2']);
  await startUploads(bucket, ['other', 'a upload']);
  expect(await empty('prefix/a+b')).toMatchObject({
    code: 0,
    result: { versions: 3, uploads: 0, empty: true },
  });
  expect((await contents(bucket)).sort()).toEqual([...stay, 'other', 'a upload'].sort());

  expect(await empty('"prefix/a "')).toMatchObject({
    code: 0,
    result: { versions: 1, uploads: 1, empty: true },
  });
  expect((await contents(bucket)).sort()).toEqual([...stay.slice(1), 'other'].sort());

  const { code, stderr } = await run(`npx tsx ${file} s3://paws-example-prefix/A --local`);
  expect(code).toBe(2);
  expect(stderr).toContain('Delete for good 1 versions and markers, and all unfinished uploads, whose keys in ');
  expect(stderr).toContain('paws-example-prefix begin with "A"?');

  await put(bucket, ['/lead', 'lead']);
  expect(await empty('prefix//')).toMatchObject({ code: 0, result: { versions: 1, empty: true } });
  expect(await contents(bucket)).toContain('lead');
});

test('locks in governance mode keep versions until they are bypassed, a legal hold keeps them even then', async () => {
  const bucket = await makeBucket('locks', { locks: true });
  const locked = {
    ObjectLockMode: 'GOVERNANCE',
    ObjectLockRetainUntilDate: new Date(Date.now() + 86_400_000),
  };
  await put(bucket, numbered(12, 'locked'), locked);
  await put(bucket, ['held'], { ObjectLockLegalHoldStatus: 'ON' });
  await put(bucket, ['free']);

  const first = await empty('locks');
  expect(first).toMatchObject({ code: 1, result: { versions: 1, kept: 13, empty: false } });
  expect(first.stderr).toBe('Error: 13 could not be deleted: Access Denied because object protected by object lock.\n');
  expect(first.result.examples).toHaveLength(10);
  expect(first.result.examples[0]).toEqual({
    key: 'held',
    versionId: expect.stringMatching(/./),
    code: 'AccessDenied',
    message: expect.stringContaining('object lock'),
  });
  expect(await contents(bucket)).toHaveLength(13);

  const command = `npx tsx ${file} s3://paws-example-locks --bypass-governance --local --yes`;
  const second = await run(command);
  expect(second).toMatchObject({ code: 1 });
  expect(second.stdout).toMatch(/^versions +12$.*^kept +1$.*^examples +held$/ms);
  expect(await contents(bucket)).toEqual(['held']);
});

test('a bypass for a bucket without locks is an error of its own', async () => {
  const bucket = await makeBucket('no-locks');
  await put(bucket, ['key']);
  await expect(emptyBucket(client, { bucket, bypassGovernance: true })).rejects.toMatchObject({
    name: 'InvalidArgument',
    message: expect.stringContaining('Object Lock'),
  });
});

test('what somebody else deletes meanwhile is neither counted nor kept', async () => {
  const bucket = await makeBucket('two', { versioned: true });
  await put(bucket, ['first', 'second']);
  const twice = watched(async (operation) => {
    if (operation === 'DeleteObjects') await emptyBucket(client, { bucket });
  });
  expect(await emptyBucket(twice, { bucket })).toMatchObject({ versions: 0, kept: 0, empty: true });
});

test('what is locked and can not go through XML is kept and bypassed alike', async () => {
  const bucket = await makeBucket('odd-locks', { locks: true });
  const ObjectLockRetainUntilDate = new Date(Date.now() + 86_400_000);
  await put(bucket, ['\u0001'], { ObjectLockMode: 'GOVERNANCE', ObjectLockRetainUntilDate });
  const kept = await emptyBucket(client, { bucket });
  expect(kept).toMatchObject({ versions: 0, kept: 1, examples: [{ key: '\u0001', code: 'AccessDenied' }] });
  expect(await emptyBucket(client, { bucket, bypassGovernance: true })).toMatchObject({
    versions: 1,
    kept: 0,
    empty: true,
  });
});

test('what passes is tried again, and reported when it does not pass', async () => {
  const bucket = await makeBucket('slow');
  await put(bucket, ['slow one', 'odd\u0001']);
  await startUploads(bucket, ['slow upload']);
  // With no version id, or an empty one, as where the id is null, it is still the same object.
  const Errors = [{ Key: 'slow one', VersionId: '', Code: 'SlowDown', Message: 'Reduce your rate.' }];
  let sent = 0;
  const slow = failing((operation) => {
    if (operation === 'DeleteObjects') sent++;
    if (operation === 'DeleteObjects') return { Errors };
    if (/^(Delete|Abort)/.test(operation)) throw Object.assign(new Error('later'), { name: 'SlowDown' });
    return null;
  });
  const pauses: number[] = [];
  const random = vi.spyOn(Math, 'random').mockImplementation(() => {
    pauses.push(sent);
    return 0;
  });
  const kept = await emptyBucket(slow, { bucket });
  random.mockRestore();
  expect(kept).toMatchObject({ versions: 0, uploads: 0, kept: 3, empty: false });
  expect(kept.examples.map(({ key, code }) => [key, code])).toEqual([
    ['slow upload', 'SlowDown'],
    ['odd\u0001', 'SlowDown'],
    ['slow one', 'SlowDown'],
  ]);
  expect(sent).toBe(8);
  expect(new Set(pauses)).toEqual(new Set([1, 2, 3, 4, 5, 6, 7]));

  // A whole call that is slowed down passes likewise.
  let calls = 0;
  vi.spyOn(Math, 'random').mockReturnValue(0);
  const refused = failing((operation) => {
    if (operation !== 'DeleteObjects') return null;
    calls++;
    if (calls > 8) throw Object.assign(new Error('at last'), { name: 'InvalidRequest' });
    throw Object.assign(new Error('later'), { name: 'SlowDown' });
  });
  const slowed = await emptyBucket(refused, { bucket });
  vi.restoreAllMocks();
  expect(calls).toBe(8);
  expect(slowed).toMatchObject({ kept: 1, examples: [{ key: 'slow one', code: 'SlowDown', message: 'later' }] });
  await put(bucket, ['odd\u0001']);
  await startUploads(bucket, ['slow upload']);

  const fault = { operation: 's3:DeleteObjects', output: { Errors } };
  expect(await empty('slow', [{ ...fault, times: 2 }])).toMatchObject({
    code: 0,
    result: { versions: 2, uploads: 1, kept: 0, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('an error that names nothing that was asked for ends the work, one without a code is kept', async () => {
  const bucket = await makeBucket('unnamed');
  await put(bucket, ['key', 'other']);
  const answer = (error: object) =>
    failing((operation) => (operation === 'DeleteObjects' ? { Errors: [error] } : null));
  for (const Key of [undefined, 'kez']) {
    const nameless = answer({ Key, VersionId: 'null', Code: 'InternalError', Message: 'no' });
    await expect(emptyBucket(nameless, { bucket })).rejects.toThrow(
      'DeleteObjects answers InternalError for a version that was not asked for: no (0 deleted, 0 kept)',
    );
  }
  expect(await emptyBucket(answer({ Key: 'key' }), { bucket })).toMatchObject({
    versions: 1,
    kept: 1,
    examples: [{ key: 'key', code: 'Unknown', message: '' }],
    empty: false,
  });
});

test('who may not list versions loses no upload', async () => {
  const bucket = await makeBucket('unlisted');
  await startUploads(bucket, ['upload']);
  const denied = failing((operation) => {
    if (operation === 'ListObjectVersions') throw Object.assign(new Error('no'), { name: 'AccessDenied' });
    return null;
  });
  await expect(emptyBucket(denied, { bucket })).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(await contents(bucket)).toEqual(['upload']);
});

test('after an error it throws when the calls beside are over, with all that they deleted', async () => {
  const bucket = await makeBucket('beside', { versioned: true });
  await put(bucket, numbered(8));
  let running = 0;
  let calls = 0;
  const one = watched((operation, input) => {
    if (operation === 'ListObjectVersions') input.MaxKeys = 1;
    if (operation !== 'DeleteObjects') return;
    if (++calls === 2) throw Object.assign(new Error('Not today'), { name: 'InvalidRequest' });
    running++;
    return async () => {
      await new Promise((done) => setTimeout(done, 300));
      running--;
    };
  });
  const failure = await emptyBucket(one, { bucket }).catch((error) => error);
  expect(running).toBe(0);
  const left = await contents(bucket);
  expect(left.length).toBeLessThan(8);
  expect(failure).toMatchObject({ name: 'InvalidRequest', message: `Not today (${8 - left.length} deleted, 0 kept)` });
  await new Promise((done) => setTimeout(done, 300));
  expect(await contents(bucket)).toEqual(left);
});

test('a list that goes on nowhere ends the work', async () => {
  const bucket = await makeBucket('endless');
  const lost = failing((operation) => (operation === 'ListObjectVersions' ? { IsTruncated: true } : null));
  await expect(emptyBucket(lost, { bucket })).rejects.toThrow('S3 does not say where the list goes on.');
});

test('only what passes is tried again, what is denied is not', async () => {
  const bucket = await makeBucket('mixed');
  await put(bucket, ['slow', 'denied']);
  const sent: string[][] = [];
  const deny = watched((operation, input) => {
    if (operation !== 'DeleteObjects') return;
    expect(input.Delete.Quiet).toBe(true);
    sent.push(input.Delete.Objects.map(({ Key }: { Key: string }) => Key));
  });
  deny.middlewareStack.add(
    (next) => async (args) => {
      const { Delete } = args.input as { Delete?: object };
      if (!Delete || sent.length > 1) return next(args);
      const Errors = ['slow', 'denied'].map((Key) => ({
        Key,
        VersionId: 'null',
        Code: Key === 'slow' ? 'InternalError' : 'AccessDenied',
        Message: 'no',
      }));
      return { output: { $metadata: {}, Errors }, response: {} } as never;
    },
    { step: 'build' },
  );
  expect(await emptyBucket(deny, { bucket })).toMatchObject({ versions: 1, kept: 1, empty: false });
  expect(sent).toEqual([['denied', 'slow'], ['slow']]);
  expect(await contents(bucket)).toEqual(['denied']);
});

test('uploads that may not be aborted are kept, those that are gone are not missed', async () => {
  const bucket = await makeBucket('refused');
  await startUploads(bucket, ['mine']);
  const operation = 's3:AbortMultipartUpload';
  const denied = await empty('refused', [{ operation, error: { name: 'AccessDenied', message: 'Not yours' } }]);
  expect(denied).toMatchObject({ code: 1, result: { uploads: 0, kept: 1, empty: false } });
  expect(denied.result.examples).toEqual([
    { key: 'mine', versionId: null, code: 'AccessDenied', message: 'Not yours' },
  ]);

  const gone = await empty('refused', [{ operation, error: { name: 'NoSuchUpload' } }]);
  expect(gone).toMatchObject({ code: 1, result: { uploads: 0, kept: 0, empty: false } });
  expect(gone.stderr).toBe('Error: Something was added meanwhile: run it again.\n');
  expect(await contents(bucket)).toEqual(['mine']);
});

test.each(['ListObjectVersions', 'ListMultipartUploads', 'AbortMultipartUpload', 'DeleteObjects', 'DeleteObject'])(
  'an unexpected error of %s ends the work and goes up as it is',
  async (operation) => {
    const name = `fails-${operation.toLowerCase()}`;
    const bucket = await makeBucket(name);
    await put(bucket, ['object', 'odd\u0001']);
    await startUploads(bucket, ['upload']);
    const error = { name: 'InvalidRequest', message: 'Not today' };
    // The command looks at the first page of versions before it asks, the function before it begins.
    const after = operation === 'ListObjectVersions' ? 2 : 0;
    expect(await empty(name, [{ operation: `s3:${operation}`, after, error }])).toEqual({
      code: 1,
      result: null,
      stderr: expect.stringMatching(
        new RegExp(`^Error: s3:${operation} failed: InvalidRequest: Not today \\(\\d deleted, 0 kept\\)\n$`),
      ),
    });
    expect(await empty(name)).toMatchObject({ code: 0, result: { empty: true } });
  },
);

test('Ctrl-C half-way ends with 130 and says how far it got; the next run finishes', async () => {
  const bucket = await makeBucket('stopped', { versioned: true });
  await put(bucket, numbered(2010));
  const stopped = await empty('stopped', [{ operation: 's3:DeleteObjects', after: 2, times: 1, signal: 'SIGINT' }]);
  expect(stopped).toMatchObject({ code: 130, result: null });
  const said = /^Interrupted\. At least (\d+) deleted, 0 kept; run it again for the rest\.\n$/.exec(stopped.stderr);
  const before = Number(said?.[1]);
  expect([0, 1000, 2000]).toContain(before);

  const finished = await empty('stopped');
  expect(finished).toMatchObject({ code: 0, result: { empty: true } });
  expect(finished.result.versions).toBeGreaterThanOrEqual(10);
  expect(finished.result.versions).toBeLessThanOrEqual(2010 - before);
  expect(await contents(bucket)).toEqual([]);
});

test('an abort during a pause ends the pause, one before the start lets nothing be deleted', async () => {
  const bucket = await makeBucket('aborted');
  await put(bucket, ['key']);
  const reason = new Error('Enough.');
  const stop = new AbortController();
  const slow = watched(() => {});
  slow.middlewareStack.add(
    (next) => async (args) => {
      if (!('Delete' in args.input)) return next(args);
      setTimeout(() => stop.abort(reason), 50);
      const Errors = [{ Key: 'key', VersionId: 'null', Code: 'ServiceUnavailable', Message: 'later' }];
      return { output: { $metadata: {}, Errors }, response: {} } as never;
    },
    { step: 'build' },
  );
  // The pause is this times half a second.
  const random = vi.spyOn(Math, 'random').mockReturnValue(1000);
  onTestFinished(() => random.mockRestore());
  await expect(emptyBucket(slow, { bucket, signal: stop.signal })).rejects.toMatchObject({
    name: 'AbortError',
    cause: { name: 'AbortError' },
    message: 'Enough. At least 0 deleted, 0 kept; run it again for the rest.',
  });
  await expect(emptyBucket(client, { bucket, signal: stop.signal })).rejects.toThrow('Enough.');
  // A reason need not be an error, and an error that comes with the abort is not lost.
  const both = new AbortController();
  const failure = Object.assign(new Error('Not today'), { name: 'InvalidRequest' });
  const broken = failing(() => {
    both.abort('stop');
    throw failure;
  });
  await expect(emptyBucket(broken, { bucket, signal: both.signal })).rejects.toMatchObject({
    message: 'stop At least 0 deleted, 0 kept; run it again for the rest.',
    cause: failure,
  });
  expect(await contents(bucket)).toEqual(['key']);
});

test('several calls delete at once, as many as allowed, while the list goes on no faster', async () => {
  const bucket = await makeBucket('parallel', { versioned: true });
  await put(bucket, [...numbered(20), ...numbered(20)]);
  // The first look at the versions hands nothing out.
  let listed = -1;
  let begun = 0;
  let running = 0;
  let most = 0;
  let ahead = 0;
  const deleted = new Set<string>();
  const lost: string[] = [];
  const small = watched((operation, input) => {
    if (operation === 'ListObjectVersions') {
      input.MaxKeys = 2;
      listed++;
      ahead = Math.max(ahead, listed - begun);
      if (deleted.has(input.VersionIdMarker)) lost.push(input.KeyMarker);
    }
    if (operation !== 'DeleteObjects') return;
    begun++;
    running++;
    most = Math.max(most, running);
    for (const { VersionId } of input.Delete.Objects) deleted.add(VersionId);
    return async () => {
      await vi.waitUntil(() => most >= 3, { timeout: 60_000 });
      // One too many would come meanwhile.
      await new Promise((done) => setTimeout(done, 30));
      running--;
    };
  });
  const told: string[] = [];
  const onProgress = (text: string) => told.push(text);
  expect(await emptyBucket(small, { bucket, concurrency: 3, onProgress })).toMatchObject({
    versions: 40,
    empty: true,
  });
  expect(most).toBe(3);
  expect(ahead).toBeLessThanOrEqual(3);
  // The mark where the next page begins is never deleted before that page is there.
  expect(lost).toEqual([]);
  expect(told.at(-1)).toBe('40 deleted, 0 kept');
});

test('one signal does for more calls at once than Node expects', async () => {
  const bucket = await makeBucket('signal', { versioned: true });
  await put(bucket, numbered(14));
  let waiting = 0;
  let release = () => {};
  const twelve = new Promise<void>((done) => {
    release = done;
  });
  const together = watched((operation, input) => {
    if (operation === 'ListObjectVersions') input.MaxKeys = 1;
    if (operation !== 'DeleteObjects') return;
    if (++waiting === 12) release();
    return twelve;
  });
  const warnings: string[] = [];
  const warn = ({ message }: Error) => warnings.push(message);
  process.on('warning', warn);
  const { signal } = new AbortController();
  expect(await emptyBucket(together, { bucket, concurrency: 12, signal })).toMatchObject({ versions: 14 });
  process.off('warning', warn);
  expect(warnings).toEqual([]);
});

test('a server that does not encode keys gets them back as they are', async () => {
  const bucket = await makeBucket('unencoded');
  await put(bucket, ['a%20b+c', '100%', 'plain']);
  await startUploads(bucket, ['a%20b+c', '100%']);
  const raw = watched((_operation, input) => {
    delete input.EncodingType;
  });
  expect(await emptyBucket(raw, { bucket })).toMatchObject({ versions: 3, uploads: 2, empty: true });
});

test('a server that knows no versions is asked to delete by key alone', async () => {
  const bucket = await makeBucket('unversioned');
  await put(bucket, ['key']);
  const page = { operation: 's3:ListObjectVersions', output: { Versions: [{ Key: 'key' }] } };
  const Errors = [{ Key: 'key', Code: 'AccessDenied', Message: 'Not yours' }];
  const denied = { operation: 's3:DeleteObjects', output: { Errors } };
  expect(await empty('unversioned', [{ ...page, times: 3 }, denied])).toMatchObject({
    code: 1,
    result: { versions: 0, kept: 1, examples: [{ key: 'key', versionId: null, code: 'AccessDenied' }] },
  });
  expect(await empty('unversioned', [{ ...page, times: 3 }])).toMatchObject({
    code: 0,
    result: { versions: 1, empty: true },
  });
  expect(await contents(bucket)).toEqual([]);
});

test('a concurrency that is none is refused before anything is deleted', async () => {
  const bucket = await makeBucket('none');
  await put(bucket, ['key']);
  await expect(emptyBucket(client, { bucket, concurrency: 0 })).rejects.toThrow(TypeError);
  expect(await contents(bucket)).toEqual(['key']);
});

test('on a terminal it asks, tells what will be lost, and does it only for a yes', async () => {
  const bucket = await makeBucket('asked', { versioned: true });
  await put(bucket, ['key', 'key', 'other']);
  const ask = (keys: string) =>
    run(`npx tsx ${file} s3://paws-example-asked --local`, {
      terminal: { columns: 120, type: [['[y/N]', keys]] },
    });
  const no = await ask('n\r');
  expect(no).toMatchObject({ code: 1, stdout: expect.stringContaining('Nothing was done.') });
  expect(no.stdout).toContain(
    'Delete for good 3 versions and markers, and all unfinished uploads, of the WHOLE BUCKET paws-example-asked?',
  );
  expect(await ask('\x03')).toMatchObject({ code: 130, stdout: expect.stringContaining('Interrupted.') });
  expect(await contents(bucket)).toHaveLength(3);
  expect(await ask('y\r')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^versions +3\r$/m) });
  expect(await contents(bucket)).toEqual([]);
});

test('without a terminal and without --yes nothing is deleted', async () => {
  const bucket = await makeBucket('unasked', { versioned: true });
  await put(bucket, ['key', 'key', 'other']);
  const { code, stdout, stderr } = await run(`npx tsx ${file} s3://paws-example-unasked --local`);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(
    '3 versions and markers, and all unfinished uploads, of the WHOLE BUCKET paws-example-unasked?',
  );
  expect(stderr).toContain('--yes');
  expect(await contents(bucket)).toHaveLength(3);
});

test.each(['paws-example', 's3://', 's3:///key', 's3://paws-example/', 'http://paws-example', '""'])(
  '%s is refused and nothing is sent',
  async (target) => {
    const record = join(folder, 'sent-for-nothing');
    const { code, stdout, stderr } = await run(`npx tsx ${file} ${target} --local --yes`, { record });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('s3://BUCKET');
    expect(existsSync(record)).toBe(false);
  },
);

test('an unknown bucket is one clear error', async () => {
  expect(await empty('nowhere')).toEqual({
    code: 1,
    result: null,
    stderr: 'Error: s3:ListObjectVersions failed: NoSuchBucket: The specified bucket does not exist\n',
  });
  await expect(emptyBucket(client, { bucket: `${own}-nowhere` })).rejects.toMatchObject({
    name: 'NoSuchBucket',
  });
});

test.skipIf(!versitygw)('another S3 server, which has versions and checks who asks, is emptied too', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const there = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  const Bucket = own;
  await there.send(new CreateBucketCommand({ Bucket }));
  await there.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  const keys = Array.from({ length: 1200 }, (_, number) => `key ${number}`);
  await pMap(keys, (Key) => there.send(new PutObjectCommand({ Bucket, Key, Body: 'text' })), { concurrency: 32 });
  await there.send(new DeleteObjectCommand({ Bucket, Key: 'key 0' }));
  await there.send(new CreateMultipartUploadCommand({ Bucket, Key: 'unfinished' }));

  const command = `npx tsx ${file} s3://paws-example --endpoint-url ${endpoint} --yes --json`;
  const result = await run(command, { env: keysOf(server) });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  // Not the number of versions: versitygw begins a page with the last version of the page before.
  expect(JSON.parse(result.stdout)).toMatchObject({
    deleteMarkers: 1,
    uploads: 1,
    kept: 0,
    empty: true,
  });
  const { Versions, DeleteMarkers } = await there.send(new ListObjectVersionsCommand({ Bucket }));
  const { Uploads } = await there.send(new ListMultipartUploadsCommand({ Bucket }));
  expect([Versions, DeleteMarkers, Uploads].flat().filter(Boolean)).toEqual([]);
});
