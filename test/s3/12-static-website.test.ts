import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { dirname, join } from 'node:path';
import {
  CreateBucketCommand,
  DeleteBucketPolicyCommand,
  DeletePublicAccessBlockCommand,
  GetBucketPolicyCommand,
  GetBucketWebsiteCommand,
  GetObjectCommand,
  GetPublicAccessBlockCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutBucketWebsiteCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { expect, test, vi } from 'vitest';
import { isPublic } from '../../recipes/s3/12-helpers/bucket-settings.ts';
import { closeWebsite, staticWebsite, websiteUrl } from '../../recipes/s3/12-static-website.ts';
import { chromium, startChromium } from '../browser.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

/** The recipe's pauses, in milliseconds. They are not slept through. */
const pauses = vi.hoisted((): number[] => []);
vi.mock('node:timers/promises', async (original) => {
  const { setTimeout: sleep, ...rest } = await original<typeof import('node:timers/promises')>();
  const brief: typeof sleep = (milliseconds = 0, ...more) => {
    pauses.push(milliseconds);
    return sleep(10, ...more);
  };
  return { ...rest, setTimeout: brief };
});

const { bucket: own, run, file, folder, s3 } = testRecipe(import.meta);
const client = s3();
const port = new URL(process.env.COOKBOOK_LOCALSTACK as string).port;
const hostOf = (bucket: string) => `${bucket}.s3-website.localhost.localstack.cloud:${port}`;
const allBlocked = {
  BlockPublicAcls: true,
  IgnorePublicAcls: true,
  BlockPublicPolicy: true,
  RestrictPublicBuckets: true,
};
const opened = { ...allBlocked, BlockPublicPolicy: false, RestrictPublicBuckets: false };

/** Makes a bucket for one test: `paws-example-NAME` in commands. */
async function makeBucket(name: string): Promise<string> {
  await client.send(new CreateBucketCommand({ Bucket: `${own}-${name}` }));
  return `${own}-${name}`;
}

/** Writes files into a new folder. */
function makeFolder(name: string, files: Record<string, string> = { 'index.html': '<h1>Home</h1>' }): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name, path)), { recursive: true });
    writeFileSync(join(folder, name, path), text);
  }
  return join(folder, name);
}

/** What stands in a bucket's settings: policy, the four settings, website. Null for what doesn't. */
async function settings(Bucket: string) {
  const ask = <Output>(asked: Promise<Output>) => asked.catch(() => null);
  const policy = (await ask(client.send(new GetBucketPolicyCommand({ Bucket }))))?.Policy;
  const access = await ask(client.send(new GetPublicAccessBlockCommand({ Bucket })));
  const site = await ask(client.send(new GetBucketWebsiteCommand({ Bucket })));
  if (site) Reflect.deleteProperty(site, '$metadata');
  return { policy: policy ? JSON.parse(policy) : null, block: access?.PublicAccessBlockConfiguration ?? null, site };
}
const untouched = { policy: null, block: allBlocked, site: null };

async function keysIn(Bucket: string): Promise<string[]> {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, EncodingType: 'url' }));
  return Contents.map(({ Key = '' }) => decodeURIComponent(Key.replaceAll('+', ' ')));
}

/** Asks the website, as a browser without credentials. */
function visit(bucket: string, path: string): Promise<{ status?: number; type?: string; to?: string; text: string }> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, headers: { host: hostOf(bucket) }, agent: false }, (answer) => {
      let text = '';
      const { statusCode: status, headers } = answer;
      answer.on('data', (chunk) => (text += chunk));
      answer.on('end', () => resolve({ status, type: headers['content-type'], to: headers.location, text }));
    }).on('error', reject);
  });
}

/** A statement of ours, as it should be. */
const ours = (bucket: string) => ({
  Sid: 'PawsStaticWebsite',
  Effect: 'Allow',
  Principal: '*',
  Action: 's3:GetObject',
  Resource: `arn:aws:s3:::${bucket}/*`,
});

test('pages, folders and what is missing are shown as they should be, with their types', async () => {
  const bucket = await makeBucket('pages');
  const directory = makeFolder('pages', {
    'index.html': '<h1>Home</h1>',
    '404.html': '<h1>Lost</h1>',
    'sub/index.html': '<h1>Sub</h1>',
    'style.css': 'h1 { color: green }',
    'a/b/c.js': '1',
    'picture.svg': '<svg/>',
    'data.unknownkind': 'x',
  });
  const result = await staticWebsite(client, { bucket, directory });
  expect(result).toEqual({
    bucket,
    url: `http://${bucket}.s3-website-us-east-1.amazonaws.com`,
    indexDocument: 'index.html',
    errorDocument: '404.html',
    files: 7,
  });
  const html = 'text/html; charset=utf-8';
  expect(await visit(bucket, '/')).toMatchObject({ status: 200, type: html, text: '<h1>Home</h1>' });
  expect(await visit(bucket, '/sub/')).toMatchObject({ status: 200, text: '<h1>Sub</h1>' });
  expect(await visit(bucket, '/sub')).toMatchObject({ status: 302, to: '/sub/' });
  expect(await visit(bucket, '/no/such')).toMatchObject({ status: 404, type: html, text: '<h1>Lost</h1>' });
  const types = await Promise.all(
    ['/style.css', '/a/b/c.js', '/picture.svg', '/data.unknownkind'].map(
      async (path) => (await visit(bucket, path)).type,
    ),
  );
  expect(types).toEqual([
    'text/css; charset=utf-8',
    'text/javascript; charset=utf-8',
    'image/svg+xml',
    'application/octet-stream',
  ]);
});

test.skipIf(!chromium)('a browser shows the pages', async () => {
  await makeBucket('seen');
  makeFolder('seen', {
    'index.html':
      '<!doctype html><link rel="stylesheet" href="/style.css"><h1>Home</h1><a href="sub">to the sub-page</a>',
    '404.html': '<!doctype html><h1>Lost</h1>',
    'sub/index.html': '<!doctype html><h1>Sub é</h1>',
    'style.css': 'h1 { color: rgb(0, 128, 0) }',
  });
  const { stdout, code } = await run(`npx tsx ${file} paws-example-seen seen --local --yes --json`);
  expect(code).toBe(0);
  const { url } = JSON.parse(stdout.replaceAll('paws-example', own));
  const page = await (await startChromium()).newPage();
  const heading = () => page.textContent('h1');
  expect((await page.goto(url))?.status()).toBe(200);
  expect(await heading()).toBe('Home');
  const color = await page.locator('h1').evaluate((one) => Reflect.get(globalThis, 'getComputedStyle')(one).color);
  expect(color).toBe('rgb(0, 128, 0)');
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  await page.getByText('to the sub-page').click();
  await page.waitForURL('**/sub/');
  expect(await heading()).toBe('Sub é');
  expect((await page.goto(`${url}/nowhere`))?.status()).toBe(404);
  expect(await heading()).toBe('Lost');
});

test('hidden files, and what lies outside of the folder, are not uploaded; file names of all sorts are', async () => {
  const bucket = await makeBucket('files');
  const odd = [
    'it\'s "q"',
    'a b+c',
    '100%',
    '[x]',
    '{a,b}',
    '!(no)',
    '*',
    'q?x#h',
    'e\u0301',
    '\u00E9',
    'new\nline',
    '\\',
    '@(a)',
  ];
  const directory = makeFolder('files', {
    'index.html': 'x',
    '.env': 'SECRET',
    '.git/config': 'SECRET',
    'sub/.hidden/x.html': 'SECRET',
    ...Object.fromEntries(odd.map((name) => [`odd/${name}`, name])),
  });
  makeFolder('outside', { secret: 'SECRET' });
  symlinkSync('../outside', join(directory, 'linked-folder'));
  symlinkSync('../outside/secret', join(directory, 'linked-file'));
  symlinkSync('..', join(directory, 'sub/loop'));
  expect(await staticWebsite(client, { bucket, directory })).toMatchObject({ files: odd.length + 1 });
  expect((await keysIn(bucket)).sort()).toEqual(['index.html', ...odd.map((name) => `odd/${name}`)].sort());
  for (const name of odd) {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: `odd/${name}` }));
    expect(await Body?.transformToString()).toBe(name);
  }
});

test('a policy that is there is kept, ours is in it once, and all is as before when the site is off', async () => {
  const bucket = await makeBucket('policy');
  const directory = makeFolder('policy');
  const other = {
    Sid: 'Other',
    Effect: 'Deny',
    Principal: '*',
    Action: 's3:*',
    Resource: '*',
    Condition: { Bool: { a: 'b' } },
  };
  const before = { Version: '2008-10-17', Id: 'mine', Statement: other };
  await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(before) }));
  for (const _ of ['first', 'again']) {
    await staticWebsite(client, { bucket, directory });
    expect(await settings(bucket)).toEqual({
      policy: { ...before, Statement: [other, ours(bucket)] },
      block: opened,
      site: { IndexDocument: { Suffix: 'index.html' } },
    });
  }
  expect(await closeWebsite(client, { bucket })).toEqual({ bucket, public: false });
  const after = { policy: { ...before, Statement: [other] }, block: allBlocked, site: null };
  expect(await settings(bucket)).toEqual(after);
  const { client: watched, sent } = withFaults(s3());
  expect(await closeWebsite(watched, { bucket })).toEqual({ bucket, public: false });
  expect(sent.filter((operation) => !operation.startsWith('Get'))).toEqual([]);
});

test('what somebody adds to the policy while files are uploaded is kept, and a policy without a version gets none', async () => {
  const bucket = await makeBucket('meanwhile');
  const other = { Sid: 'Other', Effect: 'Deny', Principal: '*', Action: 's3:DeleteObject', Resource: '*' };
  const Policy = JSON.stringify({ Statement: [other] });
  const { client: watched } = withFaults(s3(), {
    ...{ operation: 'PutObject', times: 1 },
    answered: () => client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy })),
  });
  await staticWebsite(watched, { bucket, directory: makeFolder('meanwhile') });
  expect((await settings(bucket)).policy).toEqual({ Statement: [other, ours(bucket)] });
});

test("a bucket that is public by somebody's own statement stays so, and one without settings gets none opened", async () => {
  const bucket = await makeBucket('open');
  await client.send(new DeletePublicAccessBlockCommand({ Bucket: bucket }));
  const site = {
    RoutingRules: [{ Condition: { KeyPrefixEquals: 'old/' }, Redirect: { ReplaceKeyPrefixWith: 'new/' } }],
  };
  const WebsiteConfiguration = { IndexDocument: { Suffix: 'start.html' }, ...site };
  await client.send(new PutBucketWebsiteCommand({ Bucket: bucket, WebsiteConfiguration }));
  const other = {
    Sid: 'Other',
    Effect: 'Allow',
    Principal: { AWS: '*' },
    Action: 's3:GetObject',
    Resource: `arn:aws:s3:::${bucket}/a`,
    // For S3, this is public: anybody can send such a header.
    Condition: { StringLike: { 'aws:Referer': 'https://example.com/*' } },
  };
  const policy = { Version: '2012-10-17', Statement: [other] };
  await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(policy) }));
  const { client: watched, sent } = withFaults(s3());
  await staticWebsite(watched, { bucket, directory: makeFolder('open') });
  expect(sent).not.toContain('PutPublicAccessBlock');
  expect((await settings(bucket)).site).toEqual({ IndexDocument: { Suffix: 'index.html' }, ...site });
  expect(await closeWebsite(client, { bucket })).toEqual({ bucket, public: true });
  // Not ours alone: it stays.
  const left = { IndexDocument: { Suffix: 'index.html' }, ...site };
  expect(await settings(bucket)).toEqual({ policy, block: null, site: left });
});

test('a website that is there keeps its page for what is missing, and its redirections when ours is off', async () => {
  const bucket = await makeBucket('there');
  const RoutingRules = [{ Condition: { KeyPrefixEquals: 'old/' }, Redirect: { ReplaceKeyPrefixWith: 'new/' } }];
  const there = { IndexDocument: { Suffix: 'index.html' }, ErrorDocument: { Key: 'lost.html' } };
  const put = (WebsiteConfiguration: object) =>
    client.send(new PutBucketWebsiteCommand({ Bucket: bucket, WebsiteConfiguration }));
  await put(there);
  const directory = makeFolder('there');
  expect(await staticWebsite(client, { bucket, directory })).toMatchObject({ errorDocument: 'lost.html' });
  expect((await settings(bucket)).site).toEqual(there);
  await put({ ...there, RoutingRules });
  await closeWebsite(client, { bucket });
  expect(await settings(bucket)).toEqual({ ...untouched, site: { ...there, RoutingRules } });
});

test('a bucket is not opened where that would free another statement, or its policy denies plain HTTP', async () => {
  const bucket = await makeBucket('held');
  const directory = makeFolder('held');
  const put = (statement: object) => {
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [{ Principal: '*', ...statement }] });
    return client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  };
  const writing = { Effect: 'Allow', Action: 's3:PutObject', Resource: `arn:aws:s3:::${bucket}/*` };
  await put({ Sid: 'Drop', ...writing });
  const { client: watched, sent } = withFaults(s3());
  await expect(staticWebsite(watched, { bucket, directory })).rejects.toThrow(
    `the policy of ${bucket} has public statements (Drop) that only RestrictPublicBuckets holds back: take them out`,
  );
  const Condition = { Bool: { 'aws:SecureTransport': 'false' } };
  await put({ Effect: 'Deny', Action: 's3:*', Resource: '*', Condition });
  await expect(staticWebsite(watched, { bucket, directory })).rejects.toThrow(
    `the policy of ${bucket} denies HTTP without TLS (one without Sid), and a website has nothing else: use CloudFront`,
  );
  expect(sent.filter((operation) => /^(Put|Delete)/.test(operation))).toEqual([]);
  // One that came while the files were uploaded is seen, too.
  await client.send(new DeleteBucketPolicyCommand({ Bucket: bucket }));
  const answered = () => put({ Sid: 'Late', ...writing });
  const { client: meanwhile } = withFaults(s3(), { operation: 'PutObject', times: 1, answered });
  await expect(staticWebsite(meanwhile, { bucket, directory })).rejects.toThrow('public statements (Late)');
  expect(await settings(bucket)).toMatchObject({ block: allBlocked, site: null });
  // Where it is in force already, nothing is freed.
  await client.send(new DeletePublicAccessBlockCommand({ Bucket: bucket }));
  await staticWebsite(client, { bucket, directory });
});

test('whatever fails, the bucket is as closed as before, or the error says what is left', async () => {
  const bucket = await makeBucket('fails');
  const directory = makeFolder('fails');
  const attempt = (...faults: ClientFault[]) =>
    staticWebsite(withFaults(s3(), ...faults).client, { bucket, directory });
  const lost = () => {
    throw Object.assign(new Error('lost'), { name: 'TimeoutError' });
  };

  await expect(attempt({ operation: 'PutObject', error: 'InternalError' })).rejects.toThrow(
    '1 failed, the first one index.html: InternalError',
  );
  expect(await settings(bucket)).toEqual(untouched);

  const denied = { operation: 'PutBucketPolicy', error: 'AccessDenied' };
  await expect(attempt(denied)).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringContaining('the account or the organization'),
  });
  expect(await settings(bucket)).toEqual(untouched);
  // Whoever may not put a policy may not take one away either, and need not.
  const helpless = { operation: 'DeleteBucketPolicy', error: 'AccessDenied' };
  await expect(attempt(denied, helpless)).rejects.toThrow(/^AccessDenied \([^;]*$/);
  expect(await settings(bucket)).toEqual(untouched);
  const operations = ['PutBucketWebsite', 'PutPublicAccessBlock', 'PutBucketPolicy'];
  for (const operation of operations) {
    await expect(attempt({ operation, error: 'InternalError', times: 1 }), operation).rejects.toThrow(
      /^InternalError$/,
    );
    expect(await settings(bucket), operation).toEqual(untouched);
    await expect(attempt({ operation, answered: lost, times: 1 }), operation).rejects.toThrow(/^lost$/);
    expect(await settings(bucket), operation).toEqual(untouched);
  }
  // The first opens, the second would close again.
  const stuck = { operation: 'PutPublicAccessBlock', error: 'InternalError', after: 1 };
  await expect(attempt(denied, stuck)).rejects.toThrow(/; left are open Block Public Access, website configuration$/);
  expect(await settings(bucket)).toMatchObject({ policy: null, block: opened });
});

test('a policy that is denied just after opening is tried again for a while, and not where nothing was opened', async () => {
  const bucket = await makeBucket('late');
  const directory = makeFolder('late');
  const attempt = async (...faults: ClientFault[]) => {
    pauses.length = 0;
    const { client: one, sent } = withFaults(s3(), ...faults);
    const name = await staticWebsite(one, { bucket, directory }).then(
      () => 'done',
      (error) => error.name,
    );
    return [name, sent.filter((operation) => operation === 'PutBucketPolicy').length, ...pauses];
  };
  const denied = { operation: 'PutBucketPolicy', error: 'AccessDenied' };
  expect(await attempt(denied)).toEqual(['AccessDenied', 6, 3000, 3000, 3000, 3000, 3000]);
  expect(await settings(bucket)).toEqual(untouched);
  expect(await attempt({ ...denied, error: 'MalformedPolicy' })).toEqual(['MalformedPolicy', 1]);
  expect(await attempt({ ...denied, times: 2 })).toEqual(['done', 3, 3000, 3000]);
  expect(await settings(bucket)).toMatchObject({ block: opened, policy: { Statement: [ours(bucket)] } });
  expect(await attempt(denied)).toEqual(['AccessDenied', 1]);
});

test('a policy that is there without an answer, and may not be taken out, is shut in', async () => {
  const bucket = await makeBucket('shut');
  const answered = () => {
    throw new Error('lost');
  };
  const faults = [
    { operation: 'PutBucketPolicy', times: 1, answered },
    { operation: 'DeleteBucketPolicy', error: 'AccessDenied' },
  ];
  const { client: one } = withFaults(s3(), ...faults);
  await expect(staticWebsite(one, { bucket, directory: makeFolder('shut') })).rejects.toThrow(
    'lost; left are bucket policy, open Block Public Access, website configuration',
  );
  const { block, policy } = await settings(bucket);
  expect(policy).not.toBeNull();
  expect(block).toEqual(untouched.block);
});

test('an interrupt while it waits closes what was opened, though the policy may not be taken back', async () => {
  const bucket = await makeBucket('waiting');
  const stop = new AbortController();
  const denied = { operation: 'PutBucketPolicy', error: 'AccessDenied' };
  const helpless = { operation: 'DeleteBucketPolicy', error: 'AccessDenied' };
  const { client: one } = withFaults(s3(), denied, helpless);
  const onProgress = (text: string) => text === 'bucket policy' && setTimeout(() => stop.abort());
  const publishing = staticWebsite(one, { bucket, directory: makeFolder('waiting'), signal: stop.signal, onProgress });
  await expect(publishing).rejects.toThrow(/^AccessDenied \([^;]*$/);
  expect(await settings(bucket)).toEqual(untouched);
});

test.each([
  [{}, true],
  [{ Principal: { AWS: ['*'] } }, true],
  [{ Principal: { AWS: 'arn:aws:iam::123456789012:root' } }, false],
  [{ Effect: 'Deny' }, false],
  [{ Condition: { StringLike: { 'aws:Referer': 'https://example.com/*' } } }, true],
  [{ Condition: { StringEquals: { 'aws:UserAgent': 'fixed' } } }, true],
  [{ Condition: { Bool: { 'aws:SecureTransport': 'true' } } }, true],
  [{ Condition: { StringEquals: { 'aws:SourceVpc': 'vpc-91237329' } } }, false],
  [{ Condition: { stringEquals: { 'AWS:sourcevpce': ['vpce-1', 'vpce-2'] } } }, false],
  [{ Condition: { StringLike: { 'aws:SourceVpc': 'vpc-*' } } }, true],
  [{ Condition: { StringEquals: { 'aws:SourceVpce': ['vpce-1', 'vpce-?'] } } }, true],
  [{ Condition: { StringNotEquals: { 'aws:SourceVpc': 'vpc-91237329' } } }, true],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of IAM's
  [{ Condition: { StringEquals: { 'aws:userid': '${aws:username}' } } }, true],
  [{ Condition: { IpAddress: { 'aws:SourceIp': ['192.0.2.0/24', '2001:db8::/32'] } } }, false],
  [{ Condition: { IpAddress: { 'aws:SourceIp': '0.0.0.0/1' } } }, true],
  [{ Condition: { IpAddress: { 'aws:SourceIp': ['192.0.2.0/24', '::/0'] } } }, true],
  [{ Condition: { IpAddress: { 'aws:SourceIp': '2001::/16' } } }, true],
  [{ Condition: { Bool: { a: 'b' }, StringEquals: { 'aws:PrincipalOrgID': 'o-1234567890' } } }, false],
])('whether a statement is public: %o %s', (more, result) => {
  expect(isPublic({ Effect: 'Allow', Principal: '*', ...more })).toBe(result);
});

test('an interrupt closes what was opened', async () => {
  const bucket = await makeBucket('stopped');
  const stop = new AbortController();
  const onProgress = (text: string) => text === 'bucket policy' && stop.abort();
  const publishing = staticWebsite(s3(), { bucket, directory: makeFolder('stopped'), signal: stop.signal, onProgress });
  await expect(publishing).rejects.toMatchObject({ name: 'AbortError' });
  expect(await settings(bucket)).toEqual(untouched);
});

test('what does not fit is refused before anything is sent', async () => {
  const bucket = await makeBucket('refused');
  const directory = makeFolder('refused', {
    'page.html': 'x',
    'sub/page.html': 'x',
    '.hidden.html': 'x',
    'sub/.404.html': 'x',
  });
  symlinkSync('sub', join(directory, 'linked'));
  const { client: watched, sent } = withFaults(s3());
  const refused: [object, string][] = [
    [{}, 'there is no file index.html in'],
    [{ directory: `${directory}-not` }, 'there is no file index.html in'],
    [{ indexDocument: 'page.html', errorDocument: 'lost.html' }, 'there is no file lost.html in'],
    [{ indexDocument: 'sub/page.html' }, 'without slashes, not "sub/page.html"'],
    [{ indexDocument: 'sub' }, 'there is no file sub in'],
    // These files are there, but 3.16 leaves them out, or they have another key.
    [{ indexDocument: '.hidden.html' }, '.hidden.html" is no page'],
    [{ indexDocument: 'page.html', errorDocument: 'sub/.404.html' }, 'sub/.404.html" is no page'],
    [{ indexDocument: 'page.html', errorDocument: 'linked/page.html' }, 'there is no file linked/page.html in'],
    [{ indexDocument: 'page.html', errorDocument: './page.html' }, './page.html" is no page'],
    [{ indexDocument: 'page.html', errorDocument: '../refused/page.html' }, 'is no page'],
    [{ indexDocument: 'page.html', errorDocument: '/page.html' }, '/page.html" is no page'],
  ];
  for (const [options, words] of refused) {
    await expect(staticWebsite(watched, { bucket, directory, ...options }), words).rejects.toThrow(RangeError);
    await expect(staticWebsite(watched, { bucket, directory, ...options }), words).rejects.toThrow(words);
  }
  for (const region of ['eusc-de-east-1', 'us-iso-east-1', 'us-isob-west-1', 'eu-isoe-west-1']) {
    const { client: far, sent } = withFaults(s3(region));
    const publishing = staticWebsite(far, { bucket, directory, indexDocument: 'page.html' });
    await expect(publishing, region).rejects.toThrow(`websites in ${region} have other addresses`);
    expect(sent, region).toEqual([]);
  }
  expect(sent).toEqual([]);
  // The folder itself may be a link.
  symlinkSync('refused', `${directory}-linked`);
  const elsewhere = {
    bucket,
    directory: `${directory}-linked`,
    indexDocument: 'page.html',
    errorDocument: 'sub/page.html',
  };
  expect(await staticWebsite(client, elsewhere)).toMatchObject({ errorDocument: 'sub/page.html' });
  expect(await visit(bucket, '/sub/')).toMatchObject({ status: 200 });

  const redirecting = await makeBucket('redirecting');
  const WebsiteConfiguration = { RedirectAllRequestsTo: { HostName: 'example.com' } };
  await client.send(new PutBucketWebsiteCommand({ Bucket: redirecting, WebsiteConfiguration }));
  const publishing = staticWebsite(client, { bucket: redirecting, directory, indexDocument: 'page.html' });
  await expect(publishing).rejects.toThrow('redirects all requests');
  expect(await keysIn(redirecting)).toEqual([]);
});

test('the address has the form that its region has', () => {
  const urls = {
    'us-east-1': '-us-east-1.amazonaws.com',
    'us-east-2': '.us-east-2.amazonaws.com',
    'us-west-1': '-us-west-1.amazonaws.com',
    'us-west-2': '-us-west-2.amazonaws.com',
    'eu-west-1': '-eu-west-1.amazonaws.com',
    'eu-west-2': '.eu-west-2.amazonaws.com',
    'eu-central-1': '.eu-central-1.amazonaws.com',
    'ap-southeast-1': '-ap-southeast-1.amazonaws.com',
    'ap-southeast-2': '-ap-southeast-2.amazonaws.com',
    'ap-southeast-3': '.ap-southeast-3.amazonaws.com',
    'ap-northeast-1': '-ap-northeast-1.amazonaws.com',
    'ap-northeast-2': '.ap-northeast-2.amazonaws.com',
    'sa-east-1': '-sa-east-1.amazonaws.com',
    'us-gov-west-1': '-us-gov-west-1.amazonaws.com',
    'us-gov-east-1': '.us-gov-east-1.amazonaws.com',
    'cn-north-1': '.cn-north-1.amazonaws.com.cn',
  };
  for (const [region, end] of Object.entries(urls)) {
    expect(websiteUrl({ bucket: 'paws', region })).toBe(`http://paws.s3-website${end}`);
  }
});

test('the command opens nothing without a yes, and tells what it opens', async () => {
  const bucket = await makeBucket('asked');
  makeFolder('asked');
  const command = `npx tsx ${file} paws-example-asked asked --local`;
  const unasked = await run(command);
  expect(unasked).toMatchObject({ code: 2, stdout: '' });
  expect(unasked.stderr).toContain('Let anybody read EVERYTHING in paws-example-asked, now and later?');
  const no = await run(command, { terminal: { columns: 120, type: [['[y/N]', 'n\r']] } });
  expect(no).toMatchObject({ code: 1, stdout: expect.stringContaining('Nothing was done.') });
  expect(await settings(bucket)).toEqual(untouched);
  expect(await keysIn(bucket)).toEqual([]);

  // What is there is not sent again; what differs, or is large, is looked at more closely.
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'index.html', Body: '<h1>Old!</h1>' }));
  writeFileSync(join(folder, 'asked', 'film.bin'), Buffer.alloc(17 * 2 ** 20));
  const opened = await run(`${command} --yes --json`);
  expect(JSON.parse(opened.stdout)).toMatchObject({ files: 2 });
  expect(await visit(bucket, '/')).toMatchObject({ text: '<h1>Home</h1>' });

  const nothing = await run(`npx tsx ${file} paws-example-asked --local --yes`);
  expect(nothing).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('name a folder, or give --off'),
  });
  const nowhere = await run(`npx tsx ${file} paws-example-nowhere asked --local --yes`);
  expect(nowhere).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('NoSuchBucket') });
});
