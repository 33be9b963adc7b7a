import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import type { ConnectS3 } from '../../recipes/s3/10-helpers/signer.ts';
import { formPage, type UploadForm, uploadForm } from '../../recipes/s3/23-upload-form.ts';
import { chromium, startChromium } from '../browser.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { account, bucket: own, run, file, folder, s3 } = testRecipe(import.meta, { signed: ['s3:PutObject'] });
const bucket = `${own}-form`;
const client = s3();
const connect: ConnectS3 = (more) => new S3Client({ ...settingsOf({ account }), forcePathStyle: true, ...more });
const makeBucket = () => client.send(new CreateBucketCommand({ Bucket: bucket }));
const sign = (more = {}, by = connect) => uploadForm(by, { bucket, prefix: 'in/', contentType: 'image/png', ...more });
const policyOf = ({ fields }: UploadForm) => JSON.parse(Buffer.from(fields.Policy as string, 'base64').toString());

/** Sends a form as a browser does; the server's status, and S3's code for an error. */
async function post(
  { url, fields }: UploadForm,
  body: string,
  { name = 'a.png', ...more }: Record<string, string> = {},
) {
  const form = new FormData();
  for (const [field, value] of Object.entries({ ...fields, ...more })) form.append(field, value);
  form.append('file', new Blob([body]), name);
  const answer = await fetch(url, { method: 'POST', body: form, redirect: 'manual' });
  return [answer.status, /<Code>(.*)<\/Code>/.exec(await answer.text())?.[1]].filter(Boolean).join(' ');
}

test.skipIf(!versitygw)('a server that checks takes what was signed, and nothing else', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const settings = { endpoint, region: 'us-east-1', forcePathStyle: true, credentials };
  const there: ConnectS3 = (more) => new S3Client({ ...settings, ...more });
  const looking = there({});
  await looking.send(new CreateBucketCommand({ Bucket: bucket }));
  const brief = await sign({ expiresIn: 1 }, there);
  const form = await sign({ maxSize: 5 }, there);
  const keys = async () =>
    ((await looking.send(new ListObjectsV2Command({ Bucket: bucket }))).Contents ?? []).map(({ Key }) => Key);

  expect(await post(form, '12345', { key: 'in/b.png' })).toBe('201');
  const object = await looking.send(new GetObjectCommand({ Bucket: bucket, Key: 'in/b.png' }));
  expect([await object.Body?.transformToString(), object.ContentType]).toEqual(['12345', 'image/png']);

  const policy = { ...policyOf(form), conditions: [{ bucket }, ['starts-with', '$key', '']] };
  const { maxSize: _, ...wide } = { ...form };
  const refused: [string, UploadForm, string, Record<string, string>][] = [
    ['too large', form, '123456', {}],
    ['another type', form, '1', { 'Content-Type': 'text/html' }],
    ['another place', form, '1', { key: 'out/c.png' }],
    ['a field of its own', form, '1', { 'x-amz-meta-a': 'b' }],
    ['an access control list', form, '1', { acl: 'public-read' }],
    ['a wider policy', form, '1', { Policy: Buffer.from(JSON.stringify(policy)).toString('base64'), key: 'out/c.png' }],
    ['no signature', { ...wide, maxSize: 1, fields: { key: 'in/c.png' } }, '1', {}],
    ['another signature', form, '1', { 'X-Amz-Signature': '0'.repeat(64) }],
    ['another day', form, '1', { 'X-Amz-Date': '20260101T000000Z' }],
  ];
  for (const [what, of, body, more] of refused) expect(await post(of, body, more), what).toMatch(/^40[03] /);
  const wrong = { credentials: { ...credentials, secretAccessKey: 'wrong' } };
  const told = { operation: 'HeadBucket', output: { BucketRegion: 'us-east-1' } };
  const forged = await sign({}, (more) => withFaults(there({ ...more, ...wrong }), told).client);
  expect(await post(forged, '1')).toMatch(/^403 SignatureDoesNotMatch/);

  const family = await sign({ contentType: 'image/*' }, there);
  expect(await post(family, '1', { 'Content-Type': 'image/gif', key: 'in/c.gif' })).toBe('201');
  expect(await post(family, '1', { 'Content-Type': 'imagery/x' })).toMatch(/^403/);
  expect(await post(family, '1')).toMatch(/^403/);

  await sleep(Math.max(0, brief.expires.getTime() + 1100 - Date.now()));
  expect(await post(brief, '1')).toMatch(/^403/);
  expect((await keys()).sort()).toEqual(['in/b.png', 'in/c.gif']);
});

test('the policy names all that it must, and its end', async () => {
  await makeBucket();
  const form = await sign({
    contentType: 'image/*',
    maxSize: 77,
    expiresIn: 604_800,
    redirect: 'https://paws.example/?a=b',
  });
  const { expiration, conditions } = policyOf(form);
  expect(conditions).toEqual(
    expect.arrayContaining([
      { bucket },
      ['starts-with', '$key', 'in/'],
      ['starts-with', '$Content-Type', 'image/'],
      ['content-length-range', 0, 77],
      { success_action_redirect: 'https://paws.example/?a=b' },
    ]),
  );
  expect(form.expires).toEqual(new Date(expiration));
  expect(Math.abs(form.expires.getTime() - Date.now() - 604_800_000)).toBeLessThan(60_000);
  const plain = policyOf(await sign());
  expect(plain.conditions).toContainEqual({ 'Content-Type': 'image/png' });
  expect(plain.conditions).toContainEqual(['content-length-range', 0, 10_485_760]);
});

test("it is signed in the bucket's region and never ends after the credentials", async () => {
  const elsewhere = `${own}-ireland`;
  await s3('eu-west-1').send(new CreateBucketCommand({ Bucket: elsewhere }));
  const keys = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'x', sessionToken: 'its token' };
  const expiration = new Date(Date.now() + 100_000);
  let calls = 0;
  const onAws: ConnectS3 = (more) =>
    ++calls === 1 ? client : new S3Client({ credentials: async () => ({ ...keys, expiration }), ...more });
  const form = await sign({ bucket: elsewhere }, onAws);
  expect(form.url).toBe(`https://${elsewhere}.s3.eu-west-1.amazonaws.com/`);
  expect(form.fields['X-Amz-Credential']).toContain('/eu-west-1/s3/');
  expect(form.fields['X-Amz-Security-Token']).toBe('its token');
  expect(form.endedBy).toBe('credentials');
  expect(form.expires.getTime()).toBeLessThanOrEqual(expiration.getTime());
});

test.skipIf(!chromium)('in a browser the page uploads a file, and goes where it should', async () => {
  await makeBucket();
  const picture = join(folder, `it's a "cat" é+%.png`);
  await writeFile(picture, 'no real picture');
  const options = '--html its/page.html --max-size 20 --local';
  const redirect = `${process.env.COOKBOOK_LOCALSTACK}/_localstack/health`;
  const page = await (await startChromium()).newPage();
  const open = () => page.goto(pathToFileURL(join(folder, 'its/page.html')).href);

  expect(await run(`npx tsx ${file} s3://paws-example-form/in/ "image/*" ${options}`)).toMatchObject({ code: 0 });
  await open();
  await page.getByLabel('File').setInputFiles(picture);
  await page.getByText('Upload').click();
  await page.waitForURL(/paws-.*-form/);
  const { ContentType } = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: `in/it's a "cat" é+%.png` }));
  expect(ContentType).toBe('image/png');

  // A file that is too large is not even sent.
  await writeFile(join(folder, 'large.png'), '123456789012345678901');
  await open();
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  await page.getByLabel('File').setInputFiles(join(folder, 'large.png'));
  await page.getByText('Upload').click();
  expect(
    await page.getByLabel('File').evaluate((input: { validationMessage?: string }) => input.validationMessage),
  ).toContain('20 bytes');
  await page.getByLabel('File').setInputFiles(picture);
  expect(
    await page.getByLabel('File').evaluate((input: { validationMessage?: string }) => input.validationMessage),
  ).toBe('');

  const again = `npx tsx ${file} s3://paws-example-form/in/ text/css ${options} --redirect ${redirect}`;
  const kept = await readFile(join(folder, 'its/page.html'), 'utf8');
  expect(await run(again)).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('Overwrite its/page.html?'),
  });
  expect(await readFile(join(folder, 'its/page.html'), 'utf8')).toBe(kept);
  expect(await run(`${again} --yes`)).toMatchObject({ code: 0, stderr: '' });
  await open();
  await page.getByLabel('File').setInputFiles(picture);
  await page.getByText('Upload').click();
  await page.waitForURL(`${redirect}**`);
  const { ContentType: fixed } = await client.send(
    new HeadObjectCommand({ Bucket: bucket, Key: `in/it's a "cat" é+%.png` }),
  );
  expect(fixed).toBe('text/css');
});

test('prefixes of all sorts come through, and the page is safe from them', async () => {
  await makeBucket();
  for (const key of oddKeys.filter((key) => !/[$\n]/.test(key) && Buffer.byteLength(key) < 1000)) {
    const prefix = `${key.replace(/\/$/, '')}/`;
    const form = await sign({ prefix });
    expect(await post(form, prefix), prefix).toBe('201');
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}a.png` }));
    expect(await Body?.transformToString(), prefix).toBe(prefix);
    expect(formPage(form)).toContain(
      `name="key" value="${prefix.replace(/[&<>"\n]/g, (one) => `&#${one.charCodeAt(0)};`)}$`,
    );
  }
});

test('what S3 would refuse is refused before anything is sent', async () => {
  const none: ConnectS3 = () => {
    throw new Error('asked');
  };
  const refused: [object, string][] = [
    [{ prefix: '' }, 'must be a folder'],
    [{ prefix: 'in' }, 'must be a folder'],
    [{ prefix: '/' }, 'must be a folder'],
    [{ prefix: `${'k'.repeat(1000)}/` }, 'leave room'],
    [{ prefix: 'a$/' }, 'must have no $'],
    [{ prefix: 'a\nb/' }, 'must have no line break'],
    [{ contentType: '' }, 'image/png or image/*, not ""'],
    [{ contentType: 'image' }, 'not "image"'],
    [{ contentType: '*/*' }, 'not "*/*"'],
    [{ contentType: 'image/p*' }, 'not "image/p*"'],
    [{ maxSize: 0 }, '1 to 5368709120 bytes, not 0'],
    [{ maxSize: 5 * 1024 ** 3 + 1 }, 'not 5368709121'],
    [{ maxSize: Number.NaN }, 'not NaN'],
    [{ expiresIn: 0 }, '1 to 604800 whole seconds, not 0'],
    [{ expiresIn: 604_801 }, 'not 604801'],
    [{ redirect: 'javascript:alert(1)' }, 'must be a whole URL'],
    [{ redirect: '/thanks' }, 'must be a whole URL'],
  ];
  for (const [options, words] of refused) {
    await expect(sign(options, none), words).rejects.toThrow(RangeError);
    await expect(sign(options, none), words).rejects.toThrow(words);
  }
  await expect(sign({ contentType: 'text/plain; charset=utf-8' }, none)).rejects.toThrow('asked');
  await expect(sign({ bucket: `${bucket}-nowhere` })).rejects.toThrow(`there is no bucket ${bucket}-nowhere`);
});

test('the command prints the fields as one JSON document', async () => {
  await makeBucket();
  const command = `npx tsx ${file} s3://paws-example-form/by-hand/ text/plain --json --local`;
  const { code, stdout, stderr } = await run(command);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const form = JSON.parse(stdout.replaceAll('paws-example', own));
  expect(form).toMatchObject({
    url: `${process.env.COOKBOOK_LOCALSTACK}/${bucket}`,
    prefix: 'by-hand/',
    maxSize: 10_485_760,
  });
  const bare = await run(`npx tsx ${file} s3://paws-example-form/ --local`);
  expect(bare).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('content-type') });
});
