import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateBucketCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { decodeText, encodeText } from '../../recipes/s3/04-helpers/encoded-words.ts';
import { readMetadata, storeMetadata } from '../../recipes/s3/04-store-metadata.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket, run, file, folder, s3 } = testRecipe(import.meta);
const client = s3();

type Options = Parameters<typeof storeMetadata>[1];
const store = (settings: Partial<Options>, from = client) =>
  storeMetadata(from, { bucket, key: 'key', body: 'text', metadata: {}, ...settings });

test('the bucket for what follows', async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
});

test('metadata, tags and headers are there, seen by another client as S3 has them', async () => {
  writeFileSync(join(folder, 'logo.png'), Buffer.from([0x89, 0x50, 0x4e, 0x47]));
  const words = [
    `npx tsx ${file} s3://paws-example/logo.png --file logo.png --local --json`,
    '--metadata Title="Größe: 10 €" x=a=b empty= --tag project=café "cost center=4 + 2/a"',
    '--cache-control no-cache --download-name "Größe (1) \\"x\\".png"',
  ];
  const result = await run(words.join(' '));
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toEqual({
    bucket: 'paws-example',
    key: 'logo.png',
    size: 4,
    etag: expect.stringMatching(/^"[0-9a-f]{32}"$/),
    contentType: 'image/png',
    cacheControl: 'no-cache',
    contentDisposition: `attachment; filename="Gr__e (1) _x_.png"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%281%29%20%22x%22.png`,
    metadata: { title: 'Größe: 10 €', x: 'a=b', empty: '' },
    missing: 0,
    tags: { project: 'café', 'cost center': '4 + 2/a' },
  });
  const object = { Bucket: bucket, Key: 'logo.png' };
  expect(await client.send(new HeadObjectCommand(object))).toMatchObject({
    ContentType: 'image/png',
    CacheControl: 'no-cache',
    Metadata: { title: '=?UTF-8?B?R3LDtsOfZTogMTAg4oKs?=', x: 'a=b', empty: '' },
  });
  const { TagSet } = await client.send(new GetObjectTaggingCommand(object));
  expect(TagSet).toEqual([
    { Key: 'project', Value: 'café' },
    { Key: 'cost center', Value: '4 + 2/a' },
  ]);
});

test('the content type goes by the ending of the key, unless it is given', async () => {
  const types = {
    'a.html': 'text/html; charset=utf-8',
    'A.CSV': 'text/csv; charset=utf-8',
    'b.json': 'application/json',
    'c.tar.gz': 'application/gzip',
    'd.svg': 'image/svg+xml',
    'folder.html/e': 'application/octet-stream',
    '.html': 'application/octet-stream',
    html: 'application/octet-stream',
  };
  for (const [key, type] of Object.entries(types)) {
    expect(await store({ key }), key).toMatchObject({ contentType: type, size: 4, cacheControl: null });
  }
  expect(await store({ key: 'a.html', body: Buffer.from('bytes') })).toMatchObject({ contentType: 'text/html' });
  expect(await store({ key: 'a.html', contentType: 'text/plain' })).toMatchObject({ contentType: 'text/plain' });
});

test('a second run replaces all: what is not given again is gone', async () => {
  await store({ metadata: { a: '1' }, tags: { a: '1' }, cacheControl: 'no-cache', body: 'first' });
  expect(await store({ metadata: { b: '2' } })).toMatchObject({
    metadata: { b: '2' },
    tags: {},
    cacheControl: null,
    size: 4,
  });
});

test.each([...oddKeys, ...keysBeyondXml])('the key %j keeps its metadata and tags', async (key) => {
  const [metadata, tags] = [{ of: encodeURIComponent(key).slice(0, 99) }, { a: 'b' }];
  expect(await store({ key, metadata, tags })).toMatchObject({ key, metadata, tags });
  const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  expect(await Body?.transformToString()).toBe('text');
});

test('2,048 bytes of metadata go, counted as S3 does, and no more', async () => {
  const most = { aa: 'x'.repeat(1022), bb: 'ü'.repeat(511) };
  expect((await store({ metadata: most })).metadata).toEqual(most);
  await expect(store({ metadata: { ...most, c: '' } })).rejects.toThrow(
    'metadata may have 2,048 bytes, names and values together; these are 2049',
  );
  const [key, value] = ['k'.repeat(128), 'v'.repeat(256)];
  const tags = Object.fromEntries(Array.from({ length: 10 }, (_, at) => [`${at}${key.slice(1)}`, value]));
  expect((await store({ tags })).tags).toEqual(tags);
});

test('what breaks a rule is refused with the rule, before anything is sent', async () => {
  const { client: unused, sent } = withFaults(s3());
  const refused: [string, Partial<Options>][] = [
    [`metadata can't be called "": use letters`, { metadata: { '': 'a' } }],
    [`metadata can't be called "a b": use letters`, { metadata: { 'a b': 'a' } }],
    [`metadata can't be called "größe": use letters`, { metadata: { größe: 'a' } }],
    [`metadata can't be called "a:b": use letters`, { metadata: { 'a:b': 'a' } }],
    ['S3 adds x-amz-meta- itself', { metadata: { 'X-Amz-Meta-a': 'a' } }],
    [`"Ab" is there twice: capitals don't count`, { metadata: { ab: '1', Ab: '1' } }],
    [`the value of "a" has characters that can't be printed`, { metadata: { a: 'line\nfeed' } }],
    [`the value of "a" has characters that can't be printed`, { metadata: { a: '\u0085' } }],
    [`the value of "a" has characters that can't be printed`, { metadata: { a: '\uD800' } }],
    ['an object may have 10 tags, not 11', { tags: Object.fromEntries([...'abcdefghijk'].map((one) => [one, ''])) }],
    [`a tag's name has 1 to 128 characters: ""`, { tags: { '': 'a' } }],
    [`a tag's name has 1 to 128 characters: "kkk`, { tags: { ['k'.repeat(129)]: 'a' } }],
    ['the value of the tag "a" has over 256 characters', { tags: { a: 'v'.repeat(257) } }],
    // S3 counts in UTF-16, in which these are two each.
    [`a tag's name has 1 to 128 characters: "\u{10400}`, { tags: { ['\u{10400}'.repeat(65)]: 'a' } }],
    ['the value of the tag "a" has over 256 characters', { tags: { a: '\u{10400}'.repeat(129) } }],
    [
      'S3 takes 8,192 bytes of headers: metadata, tags and the rest have ',
      { tags: Object.fromEntries([...'abcd'].map((name) => [name, 'あ'.repeat(256)])) },
    ],
    ['the download name has half a character', { downloadName: 'a\uD800' }],
    ['which only AWS may use', { tags: { 'aws:a': 'a' } }],
    ['the tag "a" may have letters, digits, spaces and + - = . _ : / @ only', { tags: { a: 'b&c' } }],
    ['the tag "😀" may have letters', { tags: { '😀': 'a' } }],
    ['the content type is empty', { contentType: '' }],
    ['"naïve" is not plain ASCII', { contentType: 'naïve' }],
    ['"no-cache\n" is not plain ASCII', { cacheControl: 'no-cache\n' }],
  ];
  for (const [message, settings] of refused) {
    await expect(store(settings, unused), message).rejects.toThrow(message);
    await expect(store(settings, unused), message).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const command = `npx tsx ${file} s3://paws-example/key text --local`;
  const [value, name, neither] = await Promise.all([
    run(`${command} --metadata title`),
    run(`${command} --metadata "a b=c"`),
    run(command.replace(' text', '')),
  ]);
  expect(value).toEqual({ code: 2, stdout: '', stderr: 'Error: "title" is not name=value\n' });
  expect(name).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('"a b"') });
  expect(neither).toEqual({ code: 2, stdout: '', stderr: 'Error: give either a text or --file\n' });
});

test('names and values of all sorts come back', async () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9!#$%&'*+.^_`|~-]{0,9}$/).filter((one) => !one.startsWith('x-amz-'));
  const value = fc.string({ unit: 'grapheme', maxLength: 60 }).filter((one) => !/[\p{Cc}\p{Cs}]/u.test(one));
  await fc.assert(
    fc.asyncProperty(fc.dictionary(name, value, { maxKeys: 3 }), async (metadata) => {
      expect((await store({ metadata })).metadata).toEqual({ ...metadata });
    }),
    { numRuns: 60 },
  );
});

test('each step that is refused is named, and what S3 can not show is counted', async () => {
  for (const operation of ['PutObject', 'HeadObject', 'GetObjectTagging']) {
    const { client: failing, sent } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(store({}, failing), operation).rejects.toMatchObject({
      name: 'AccessDenied',
      message: `${operation === 'PutObject' ? '' : `s3://${bucket}/key is stored, but could not be read back: `}AccessDenied`,
    });
    expect(sent.at(-1)).toBe(operation);
  }
  const output = { ContentLength: 4, ETag: '"e"', MissingMeta: 2 };
  const { client: hiding } = withFaults(s3(), { operation: 'HeadObject', output });
  expect(await readMetadata(hiding, { bucket, key: 'key' })).toMatchObject({
    ...{ missing: 2, metadata: {}, contentType: 'application/octet-stream' },
  });
  // Another ETag than that of what was put.
  await expect(store({}, hiding)).rejects.toThrow(`s3://${bucket}/key was stored, and overwritten since`);
  await expect(readMetadata(client, { bucket, key: 'missing' })).rejects.toMatchObject({ name: 'NotFound' });
  await expect(store({ bucket: `${bucket}-no` })).rejects.toMatchObject({ name: 'NoSuchBucket' });
  await expect(store({ signal: AbortSignal.abort() })).rejects.toThrow();
});

test('what others have encoded is read', async () => {
  const Metadata = { q: '=?iso-8859-1?q?Gr=F6=DFe_10?=', b: '=?utf-8?b?w6TDtg==?=', plain: '=?what?=', two: 'a  b' };
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'others', Metadata }));
  const { metadata } = await readMetadata(client, { bucket, key: 'others' });
  expect(metadata).toEqual({ q: 'Größe 10', b: 'äö', plain: '=?what?=', two: 'a  b' });
});

test.skipIf(!versitygw)('a server with the limit of 2 KB takes what is well within it, and refuses more', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const there = new S3Client({ region: 'us-east-1', endpoint, credentials, forcePathStyle: true });
  await there.send(new CreateBucketCommand({ Bucket: bucket }));
  const metadata = { title: 'Größe: 10 €', long: 'x'.repeat(2048 - 9 - Buffer.byteLength('Größe: 10 €') - 100) };
  const tags = { 'cost center': '4 + 2/a', ü: '' };
  expect(await store({ metadata, tags, cacheControl: 'no-cache' }, there)).toMatchObject({ metadata, tags });
  const Metadata = { long: 'x'.repeat(2100) };
  const beyond = there.send(new PutObjectCommand({ Bucket: bucket, Key: 'key', Metadata }));
  await expect(beyond).rejects.toMatchObject({ name: 'MetadataTooLarge' });
});

test('any text is encoded into words of ASCII that a header carries, and decoded again', () => {
  // Text that can be a part of an encoded word, among all sorts.
  const piece = fc.constantFrom(
    '=?UTF-8?B?',
    '=?',
    '?=',
    'w6Q=',
    ' ',
    '  ',
    'é',
    '€',
    '😀',
    '\uFEFF',
    '_',
    '=C3',
    '?Q?',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: 'grapheme' }),
    fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
  );
  fc.assert(
    fc.property(
      text.filter((one) => !/\p{Cs}/u.test(one)),
      (one) => {
        const encoded = encodeText(one);
        expect(decodeText(encoded)).toBe(one);
        expect(encoded).toMatch(/^([!-~]( ?[!-~])*)?$/);
        if (encoded !== one) for (const word of encoded.split(' ')) expect(word).toMatch(/^=\?.{1,71}\?=$/);
      },
    ),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.string(), (one) => typeof decodeText(one) === 'string'));
  for (const plain of ['', 'text', 'a b', 'a=b?', '"quoted"', '~!@#$%^&*()']) expect(encodeText(plain)).toBe(plain);
});

test('words are decoded by RFC 2047, its examples included', () => {
  const table: [string, string][] = [
    ['=?ISO-8859-1?Q?a?=', 'a'],
    ['=?ISO-8859-1?Q?a?= b', 'a b'],
    ['=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=', 'ab'],
    ['=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=', 'ab'],
    ['=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=', 'ab'],
    ['=?ISO-8859-1?Q?a_b?=', 'a b'],
    ['=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=', 'a b'],
    ['=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>', 'Keith Moore <moore@cs.utk.edu>'],
    ['=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=', 'Keld Jørn Simonsen'],
    ['=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=', 'If you can read this yo'],
    ['=?utf-8*en?q?caf=c3=a9?=', 'café'],
    // Cut within a character.
    ['=?UTF-8?Q?=E2=82?= =?utf-8?B?rA==?=', '€'],
    ['=?koi8-r?B?8w==?= and =?utf-8?q?=e2=82=ac?=', 'С and €'],
    // As S3's documentation has it.
    ['=?UTF-8?B?w4PChE3Dg8KEWsODwpXDg8KRIFMz?=', 'Ã\u0084MÃ\u0084ZÃ\u0095Ã\u0091 S3'],
  ];
  for (const [encoded, text] of table) expect(decodeText(encoded), encoded).toBe(text);
  const left = [
    '=?no-such-charset?Q?a?=',
    '=?UTF-8?Q?=FF?=',
    '=?UTF-8?Q?=G1?=',
    '=?UTF-8?Q?é?=',
    '=?UTF-8?B?a!b?=',
    '=?UTF-8?X?a?=',
    '=?UTF-8?Q?a',
    '=?UTF-8?Q?a?= =?UTF-8?Q?=FF?=',
  ];
  for (const text of left) expect(decodeText(text), text).toBe(text);
});
