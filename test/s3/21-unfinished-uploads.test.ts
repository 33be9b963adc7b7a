import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { abortUnfinished, unfinishedUploads } from '../../recipes/s3/21-unfinished-uploads.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';

const { bucket: own, run, file, s3 } = testRecipe(import.meta);
const client = s3();

/** A bucket for one test, with an upload to each key, of so many parts of 10 bytes. */
async function makeUploads(name: string, uploads: Record<string, number>): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket }));
  for (const [Key, parts] of Object.entries(uploads)) {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }));
    for (let PartNumber = 1; PartNumber <= parts; PartNumber++) {
      await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body: '0123456789' }));
    }
  }
  return Bucket;
}

async function count(Bucket: string): Promise<number> {
  return (await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads?.length ?? 0;
}

/** A client whose lists are encoded, as S3's are, and have pages of this size. LocalStack's are neither. */
function likeS3(pageSize: number) {
  const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+').replaceAll('%2F', '/');
  const encoding = s3();
  encoding.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName !== 'ListMultipartUploadsCommand') return next(args);
        const { EncodingType, ...input } = args.input as { EncodingType: string };
        expect(EncodingType).toBe('url');
        const answer = await next({ ...args, input: { ...input, MaxUploads: pageSize } } as typeof args);
        const output = answer.output as { Uploads?: { Key: string }[]; NextKeyMarker?: string };
        for (const upload of output.Uploads ?? []) upload.Key = encode(upload.Key);
        Object.assign(output, { EncodingType, NextKeyMarker: output.NextKeyMarker && encode(output.NextKeyMarker) });
        return answer;
      },
    { step: 'initialize' },
  );
  return encoding;
}

test('uploads are listed with what their parts take, under a prefix or all', async () => {
  const bucket = await makeUploads('list', { 'logs/a': 3, 'logs/b': 0, other: 1 });
  const all = await unfinishedUploads(client, { bucket });
  expect(all).toMatchObject([
    { key: 'logs/a', parts: 3, size: 30, storageClass: 'STANDARD' },
    { key: 'logs/b', parts: 0, size: 0 },
    { key: 'other', parts: 1, size: 10 },
  ]);
  expect(Math.abs(Date.now() - (all[0]?.initiated.getTime() ?? 0))).toBeLessThan(120_000);
  const some = await unfinishedUploads(client, { bucket, prefix: 'logs/' });
  expect(some.map(({ key }) => key)).toEqual(['logs/a', 'logs/b']);
});

test('parts of all pages are counted, and the last page ends it', async () => {
  const bucket = await makeUploads('parts', { a: 5 });
  const paged = s3();
  const sent: string[] = [];
  paged.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName !== 'ListPartsCommand') return next(args);
        const input = { ...(args.input as object), MaxParts: 2 };
        sent.push(`${Reflect.get(input, 'PartNumberMarker')}`);
        const answer = await next({ ...args, input } as typeof args);
        // As S3 has it on every page.
        const output = answer.output as { Parts?: { PartNumber: number }[]; NextPartNumberMarker?: string };
        output.NextPartNumberMarker = `${output.Parts?.at(-1)?.PartNumber}`;
        return answer;
      },
    { step: 'initialize' },
  );
  expect(await unfinishedUploads(paged, { bucket })).toMatchObject([{ parts: 5, size: 50 }]);
  expect(sent).toEqual(['undefined', '2', '4']);
});

test('keys of all sorts lead from page to page, and are aborted', async () => {
  const bucket = await makeUploads('odd', Object.fromEntries(oddKeys.map((key) => [key, 0])));
  const like = likeS3(3);
  const uploads = await unfinishedUploads(like, { bucket });
  expect(uploads.map(({ key }) => key).sort()).toEqual([...oddKeys].sort());
  expect(await abortUnfinished(like, { bucket, uploads })).toEqual({ aborted: oddKeys.length, left: [] });
  expect(await count(bucket)).toBe(0);
});

test('only what is old enough is aborted, after a question', async () => {
  const bucket = await makeUploads('abort', { a: 1, b: 0 });
  const command = `npx tsx ${file} s3://paws-example-abort --local --json`;
  const { client: watched, sent } = withFaults(s3());
  expect(await unfinishedUploads(watched, { bucket, until: new Date(Date.now() - 86_400_000) })).toEqual([]);
  expect(sent).not.toContain('ListParts');
  const young = await run(`${command} --abort-days 1 --yes`);
  expect(young).toMatchObject({ code: 0, stdout: '[]\n', stderr: '' });
  const asked = await run(`${command} --abort-days 0`);
  expect(asked).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Abort these 2 uploads for good, with 10 B of parts?'),
  });
  expect(await count(bucket)).toBe(2);
  const done = await run(`${command} --abort-days 0 --yes`);
  expect(JSON.parse(done.stdout)).toMatchObject([{ key: 'a', parts: 1 }, { key: 'b' }]);
  expect(await count(bucket)).toBe(0);
  for (const days of ['soon', '""', '-1']) {
    const wrong = await run(`${command} --abort-days ${days} --yes`);
    expect(wrong, days).toMatchObject({ code: 2, stdout: '', stderr: 'Error: --abort-days takes a number of days\n' });
  }
});

test('an upload whose parts may not be seen is listed all the same', async () => {
  const bucket = await makeUploads('hidden', { a: 1, b: 1 });
  const { client: blind } = withFaults(s3(), { operation: 'ListParts', times: 1, error: 'AccessDenied' });
  expect(await unfinishedUploads(blind, { bucket, concurrency: 1 })).toMatchObject([
    { key: 'a', parts: null, size: null },
    { key: 'b', parts: 1, size: 10 },
  ]);
  const faults = [{ operation: 's3:ListParts', times: 1, error: { name: 'AccessDenied' } }];
  const command = `npx tsx ${file} s3://paws-example-hidden --local`;
  const { code, stdout } = await run(command, { faults, terminal: { columns: 300 } });
  expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining('s3:ListMultipartUploadParts') });
  expect(stdout).toMatch(/ -\s+-\s/);
});

test('what others complete or abort meanwhile is neither listed nor an error', async () => {
  const bucket = await makeUploads('meanwhile', { a: 1, b: 1 });
  const uploads = await unfinishedUploads(client, { bucket });
  const [first, second] = uploads as [(typeof uploads)[0], (typeof uploads)[0]];
  const { client: faulty } = withFaults(s3(), { operation: 'ListParts', times: 1, error: 'NoSuchUpload' });
  expect(await unfinishedUploads(faulty, { bucket, concurrency: 1 })).toMatchObject([{ key: 'b' }]);
  await abortUnfinished(client, { bucket, uploads: [first] });
  expect(await abortUnfinished(client, { bucket, uploads: [first, second] })).toEqual({ aborted: 1, left: [] });
});

test('an upload that has parts after it was aborted is told; a refusal goes up', async () => {
  const bucket = await makeUploads('late', { a: 1 });
  const uploads = await unfinishedUploads(client, { bucket });
  const late = withFaults(s3(), { operation: 'ListParts', output: { Parts: [{ PartNumber: 1, Size: 10 }] } });
  expect(await abortUnfinished(late.client, { bucket, uploads })).toEqual({ aborted: 1, left: ['a'] });
  const others = await makeUploads('denied', { a: 0, b: 0, c: 0 });
  const three = { bucket: others, uploads: await unfinishedUploads(client, { bucket: others }), concurrency: 1 };
  const denied = withFaults(s3(), { operation: 'AbortMultipartUpload', after: 1, error: 'AccessDenied' });
  await expect(abortUnfinished(denied.client, three)).rejects.toMatchObject({
    name: 'AccessDenied',
    message: 'AccessDenied (1 aborted)',
  });
  expect(denied.sent.filter((operation) => operation === 'AbortMultipartUpload')).toHaveLength(2);
  const endless = withFaults(s3(), { operation: 'ListMultipartUploads', output: { IsTruncated: true } });
  await expect(unfinishedUploads(endless.client, { bucket })).rejects.toThrow('does not say where');
  await expect(unfinishedUploads(client, { bucket: 'paws-no-such' })).rejects.toMatchObject({ name: 'NoSuchBucket' });
  const zonal = unfinishedUploads(client, { bucket: 'paws--usw2-az1--x-s3' });
  await expect(zonal).rejects.toThrow(
    new RangeError('paws--usw2-az1--x-s3 is a directory bucket, whose uploads are not sorted'),
  );
  const stop = new AbortController();
  stop.abort(new Error('enough'));
  await expect(unfinishedUploads(client, { bucket, signal: stop.signal })).rejects.toThrow();
});
