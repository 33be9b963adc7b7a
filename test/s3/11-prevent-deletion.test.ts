import {
  type BucketVersioningStatus,
  CreateBucketCommand,
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { preventDeletion } from '../../recipes/s3/11-prevent-deletion.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { startProxy } from '../proxy.ts';

const { bucket: own, account, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const mfa = { mfaDevice: 'arn:aws:iam::123456789012:mfa/root-account-mfa-device', mfaCode: '123456' };

async function makeBucket(name: string, status?: BucketVersioningStatus): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket }));
  const VersioningConfiguration = { Status: status };
  if (status) await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  return Bucket;
}

const put = (Bucket: string, Body: string) => client.send(new PutObjectCommand({ Bucket, Key: 'key', Body }));
const remove = (Bucket: string) => client.send(new DeleteObjectCommand({ Bucket, Key: 'key' }));
const read = async (Bucket: string, VersionId?: string) => {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: 'key', VersionId }));
  return Body?.transformToString();
};

/** A client whose requests are seen on their way to LocalStack. */
async function watched(): Promise<{ proxy: Awaited<ReturnType<typeof startProxy>>; through: S3Client }> {
  const proxy = await startProxy();
  const through = new S3Client({ ...settingsOf({ account }), endpoint: proxy.url, forcePathStyle: true });
  return { proxy, through };
}

test('it is turned on, suspended and turned on again, and left alone where it is so already', async () => {
  const bucket = await makeBucket('states');
  const { client: unused, sent: asked } = withFaults(s3());
  // Suspended for the first time, it could never be as it was.
  expect(await preventDeletion(unused, { bucket, versioning: 'Suspended' })).toEqual({
    ...{ bucket, versioning: null, mfaDelete: false, changed: false },
  });
  expect(asked).toEqual(['GetBucketVersioning']);
  for (const [versioning, changed] of [
    ['Enabled', true],
    ['Enabled', false],
    ['Suspended', true],
    ['Suspended', false],
  ] as const) {
    const { client: one, sent } = withFaults(s3());
    expect(await preventDeletion(one, { bucket, versioning })).toEqual({
      ...{ bucket, versioning, mfaDelete: false, changed },
    });
    expect(sent).toEqual(['GetBucketVersioning', ...(changed ? ['PutBucketVersioning'] : [])]);
    const { Status } = await client.send(new GetBucketVersioningCommand({ Bucket: bucket }));
    expect(Status).toBe(versioning);
  }
});

test('what a deletion does is as told: a marker while it is on, the loss of the null version while suspended', async () => {
  const bucket = await makeBucket('told');
  await put(bucket, 'before versioning');
  await preventDeletion(client, { bucket });
  const { VersionId } = await put(bucket, 'first');
  await remove(bucket);
  await expect(read(bucket)).rejects.toMatchObject({ name: 'NoSuchKey' });
  expect([await read(bucket, 'null'), await read(bucket, VersionId)]).toEqual(['before versioning', 'first']);

  await preventDeletion(client, { bucket, versioning: 'Suspended' });
  await put(bucket, 'while suspended');
  expect(await read(bucket, 'null')).toBe('while suspended');
  await remove(bucket);
  const { Versions, DeleteMarkers } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  expect(Versions?.map((one) => one.VersionId)).toEqual([VersionId]);
  expect(DeleteMarkers?.map((one) => [one.VersionId, one.IsLatest])).toContainEqual(['null', true]);
});

test('the command says what it did, and how to take it back', async () => {
  const bucket = await makeBucket('command');
  const command = `npx tsx ${file} paws-example-command --local`;
  const first = await run(command, { terminal: { columns: 120 } });
  expect(first).toMatchObject({ code: 0 });
  expect(first.stdout).toMatch(
    /^Undo: npx tsx recipes\/s3\/11-prevent-deletion.ts paws-example-command --suspend --local/m,
  );
  expect(first.stdout).toContain('wait 15 minutes before you write');
  const second = await run(`${command} --json`);
  expect(second).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(second.stdout)).toEqual({
    ...{ bucket: 'paws-example-command', versioning: 'Enabled', mfaDelete: false, changed: false },
  });
  const unasked = await run(`${command} --suspend`);
  expect(unasked).toMatchObject({ code: 2, stdout: '' });
  expect(unasked.stderr).toContain('Suspend versioning of paws-example-command? What is overwritten');
  expect(await client.send(new GetBucketVersioningCommand({ Bucket: bucket }))).toMatchObject({ Status: 'Enabled' });
  expect(await run(`${command} --suspend --yes`)).toMatchObject({ code: 0, stderr: '' });
  expect(await client.send(new GetBucketVersioningCommand({ Bucket: bucket }))).toMatchObject({ Status: 'Suspended' });
});

test('MFA delete is turned on and off with device and code in one header', async () => {
  const bucket = await makeBucket('mfa');
  const { proxy, through } = await watched();
  expect(await preventDeletion(through, { bucket, mfaDelete: true, ...mfa })).toEqual({
    ...{ bucket, versioning: 'Enabled', mfaDelete: true, changed: true },
  });
  const [, on] = proxy.requests;
  expect(on).toMatchObject({ operation: 'PUT ?versioning' });
  expect(on?.headers['x-amz-mfa']).toBe('arn:aws:iam::123456789012:mfa/root-account-mfa-device 123456');

  // LocalStack does not keep MFA delete: from here on it is the test that answers.
  const had = { operation: 'GetBucketVersioning', output: { Status: 'Enabled', MFADelete: 'Enabled' } };
  const inputs: object[] = [];
  const put = { operation: 'PutBucketVersioning', output: {}, answered: (input: object) => inputs.push(input) };
  const { client: one } = withFaults(s3(), had, put);
  expect(await preventDeletion(one, { bucket, mfaDelete: false, ...mfa })).toMatchObject({ mfaDelete: false });
  expect(await preventDeletion(one, { bucket, versioning: 'Suspended', ...mfa })).toMatchObject({ mfaDelete: true });
  const MFA = `${mfa.mfaDevice} ${mfa.mfaCode}`;
  expect(inputs).toEqual([
    { Bucket: bucket, MFA, VersioningConfiguration: { Status: 'Enabled', MFADelete: 'Disabled' } },
    { Bucket: bucket, MFA, VersioningConfiguration: { Status: 'Suspended', MFADelete: 'Enabled' } },
  ]);
  // What is so already needs no code.
  expect(await preventDeletion(one, { bucket })).toMatchObject({ mfaDelete: true, changed: false });
  await expect(preventDeletion(one, { bucket, versioning: 'Suspended' })).rejects.toThrow('MFA delete is on in');
  expect(inputs).toHaveLength(2);
});

test('a change of MFA delete alone leaves versioning as it is, but where it needs it', async () => {
  const change = async (mfaDelete: boolean, Status?: string, MFADelete?: string) => {
    const inputs: object[] = [];
    const had = { operation: 'GetBucketVersioning', output: { Status, MFADelete } };
    const put = { operation: 'PutBucketVersioning', output: {}, answered: (input: object) => inputs.push(input) };
    const { client: one } = withFaults(s3(), had, put);
    const { bucket: _, ...result } = await preventDeletion(one, { bucket: own, mfaDelete, ...mfa });
    return { ...result, sent: inputs.map((input) => Reflect.get(input, 'VersioningConfiguration')) };
  };
  expect(await change(false, 'Suspended', 'Enabled')).toEqual({
    ...{ versioning: 'Suspended', mfaDelete: false, changed: true },
    sent: [{ Status: 'Suspended', MFADelete: 'Disabled' }],
  });
  expect(await change(true, 'Suspended')).toMatchObject({ sent: [{ Status: 'Suspended', MFADelete: 'Enabled' }] });
  expect(await change(true)).toMatchObject({ sent: [{ Status: 'Enabled', MFADelete: 'Enabled' }] });
  expect(await change(false)).toEqual({ versioning: null, mfaDelete: false, changed: false, sent: [] });
});

test('without MFA delete no code and no word of it is sent', async () => {
  const bucket = await makeBucket('plain');
  const inputs: object[] = [];
  const status = { operation: 'GetBucketVersioning', output: { Status: 'Enabled' }, after: 1 };
  const watch = { operation: 'PutBucketVersioning', output: {}, answered: (input: object) => inputs.push(input) };
  const { client: one } = withFaults(s3(), status, watch);
  await preventDeletion(one, { bucket, ...mfa });
  await preventDeletion(one, { bucket, mfaDelete: false, versioning: 'Suspended', ...mfa });
  expect(inputs).toEqual([
    { Bucket: bucket, VersioningConfiguration: { Status: 'Enabled' } },
    { Bucket: bucket, VersioningConfiguration: { Status: 'Suspended' } },
  ]);
});

test('a code never goes to another machine in the clear', async () => {
  const status = { operation: 's3:GetBucketVersioning', output: { Status: 'Enabled' } };
  const env = { AWS_ACCESS_KEY_ID: 'root', AWS_SECRET_ACCESS_KEY: 'secret', AWS_REGION: 'us-east-1' };
  const options = `--mfa-delete on --mfa-device GAHT12345678 --mfa-code 123456 --yes`;
  const command = `npx tsx ${file} paws-example ${options} --endpoint-url http://s3.example.com --timeout 60`;
  const refused = await run(command, { faults: [status], env });
  expect(refused).toMatchObject({ code: 2, stdout: '' });
  expect(refused.stderr).toMatch(/^Error: an MFA code is sent over HTTPS only, not to http:\/\/\S*s3\.example\.com\n$/);
  // What gets beyond that check is answered here.
  const sent: string[] = [];
  const secure = new S3Client({ ...settingsOf({ account }), endpoint: 'https://s3.example.com' });
  secure.middlewareStack.add(
    () => async (args) => {
      sent.push((args.request as { protocol: string }).protocol);
      return { output: { $metadata: {} }, response: {} } as never;
    },
    { step: 'finalizeRequest', priority: 'high' },
  );
  await preventDeletion(secure, { bucket: own, mfaDelete: true, ...mfa });
  expect(sent).toEqual(['https:', 'https:']);
});

test.each([
  [{ mfaDelete: true }, 'changing MFA delete takes mfaDevice and mfaCode'],
  [{ mfaDelete: false, mfaDevice: mfa.mfaDevice }, 'changing MFA delete takes'],
  [{ mfaDelete: true, mfaCode: '123456' }, 'changing MFA delete takes'],
  [{ mfaDelete: true, ...mfa, mfaCode: '12345' }, '"12345" is no code'],
  [{ mfaDelete: true, ...mfa, mfaCode: '123456\r\n' }, 'is no code'],
  [{ mfaDelete: true, ...mfa, mfaDevice: 'my phone' }, '"my phone" is no MFA device'],
])('%o is refused before anything is sent', async (options, message) => {
  const { client: one, sent } = withFaults(s3());
  await expect(preventDeletion(one, { bucket: own, ...options })).rejects.toThrow(message);
  await expect(preventDeletion(one, { bucket: own, ...options })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
});

test('MFA delete is told of before it is turned on, and needs a yes', async () => {
  const bucket = await makeBucket('asked');
  const options = `--mfa-delete on --mfa-device ${mfa.mfaDevice} --mfa-code 123456 --local`;
  const { code, stdout, stderr } = await run(`npx tsx ${file} paws-example-asked ${options}`);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain("Only the root user's access keys, over HTTPS, can turn MFA delete on.");
  const { Status } = await client.send(new GetBucketVersioningCommand({ Bucket: bucket }));
  expect(Status).toBeUndefined();
  const done = await run(`npx tsx ${file} paws-example-asked ${options} --yes`, { terminal: { columns: 120 } });
  expect(done).toMatchObject({ code: 0, stdout: expect.stringMatching(/mfa delete +yes\s+changed +yes/) });
  // Without device and code, --suspend would be refused.
  expect(done.stdout).not.toContain('Undo:');
});

test.each([
  ['GetBucketVersioning', 'AccessDenied'],
  ['PutBucketVersioning', 'InvalidBucketState'],
])('an error of %s goes up as it is', async (operation, error) => {
  const bucket = await makeBucket(operation.toLowerCase());
  const { client: one } = withFaults(s3(), { operation, error });
  await expect(preventDeletion(one, { bucket })).rejects.toMatchObject({ name: error });
});

test('an unknown bucket is one clear error', async () => {
  const result = await run(`npx tsx ${file} paws-example-nowhere --local`);
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toBe(
    'Error: s3:GetBucketVersioning failed: NoSuchBucket: The specified bucket does not exist\n',
  );
});
