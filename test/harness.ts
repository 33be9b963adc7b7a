/** What a recipe's test file begins with: a LocalStack account of its own, and the tests that all recipes have. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  DescribeAddressesCommand,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeKeyPairsCommand,
  DescribeSecurityGroupsCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  EC2Client,
} from '@aws-sdk/client-ec2';
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, expect, test } from 'vitest';
import { copyPart, parseHeader, policyOf } from '../shared/header.ts';
import { checkActions, checkFile, checkOptions, checkPermissions, mask } from './checks.ts';
import { checkOpenings } from './openings.ts';
import type { Sent } from './permissions.ts';
import { type Result, root, run as runCommand, type Settings, temporaryFolder, undoCommand, undosOf } from './run.ts';

export interface Sandbox {
  /** Number of the account on LocalStack that only this test file uses. */
  account: string;
  /** The file's own name for `paws-example`, of the same length. */
  bucket: string;
  /** HOME and working folder of the commands. */
  folder: string;
  /** Runs a command as a header has it, with `paws-example` standing for the file's own bucket, and back. */
  run: (command: string, settings?: Partial<Settings>) => Promise<Result>;
  /** Clients of the same account, to look at results independently. */
  ec2: (region?: string) => EC2Client;
  s3: (region?: string) => S3Client;
}

/** Settings of a client, of any service, for the sandbox's account. */
export function settingsOf({ account }: Pick<Sandbox, 'account'>, region = 'us-east-1') {
  return {
    region,
    endpoint: process.env.COOKBOOK_LOCALSTACK as string,
    credentials: { accessKeyId: account, secretAccessKey: 'test' },
  };
}

/** Makes an account, a folder and clients for one test file. */
export function sandbox(meta: { url: string }, record?: string): Sandbox {
  const hash = createHash('sha256').update(meta.url).digest();
  const account = String(100_000_000_000 + (hash.readUIntBE(0, 6) % 900_000_000_000));
  const bucket = `paws-${hash.toString('hex').slice(0, 7)}`;
  const { path: folder, remove } = temporaryFolder();
  afterAll(remove);
  const settings = (region: string) => settingsOf({ account }, region);
  return {
    account,
    bucket,
    folder,
    run: async (command, { env, ...more } = {}) => {
      const local = (text: string) => text.replaceAll('paws-example', bucket);
      const general = (text: string) => text.replaceAll(bucket, 'paws-example').replaceAll(folder, '~');
      const where = { cwd: folder, env: { AWS_ACCESS_KEY_ID: account, ...env }, record, ...more };
      const { code, stdout, stderr } = await runCommand(local(command), where);
      return { code, stdout: general(stdout), stderr: general(stderr) };
    },
    ec2: (region = 'us-east-1') => new EC2Client(settings(region)),
    s3: (region = 'us-east-1') => new S3Client({ ...settings(region), forcePathStyle: true }),
  };
}

/**
 * The tests that all recipes have: of the header, of help and usage, of one closed cycle of `@before`, `@run`
 * and `@undo`, and of the permissions that all runs in the test file were seen to need.
 *
 * @param meta - The test file's `import.meta`; `test/s3/01-create-bucket.test.ts` tests the recipe of that name.
 * @param options.signed - Operations that the recipe doesn't send but signs for others to send, such as `s3:GetObject`.
 * @param options.retry - How often its cycle may be tried again: for a recipe that measures time, which others take.
 * @returns What the recipe's own tests use.
 */
export function testRecipe(
  meta: ImportMeta,
  { signed = [], retry = 0 }: { signed?: string[]; retry?: number } = {},
): Sandbox & { file: string } {
  const file = relative(join(root, 'test'), fileURLToPath(meta.url)).replace(/^(.*)\.test\.ts$/, 'recipes/$1.ts');
  const source = readFileSync(join(root, file), 'utf8');
  const header = parseHeader(source, file);
  const records = temporaryFolder();
  const record = join(records.path, 'sent');
  const own = sandbox(meta, record);
  const { run } = own;

  test('the header and the file are as they should be', async () => {
    expect([...checkFile(file, source), ...(await checkActions(header))]).toEqual([]);
  });

  // Of --policy and --source, cli.test.ts sees what the command line does with these texts.
  test('help, policy and source are there, wrong usage ends with 2', async () => {
    const [help, wrong] = await Promise.all(
      ['--help', '--no-such-option'].map((option) => run(`npx tsx ${file} ${option}`, { byTsx: true })),
    );
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help?.stdout).toContain(`${header.number} ${header.title}`);
    expect(checkOptions(header, help?.stdout ?? '')).toEqual([]);
    const { Statement } = JSON.parse(policyOf(header));
    expect(Statement.flatMap(({ Action }: { Action: string[] }) => Action)).toEqual(
      expect.arrayContaining(header.permissions.map(({ action }) => action)),
    );
    expect(copyPart(source, file)).not.toContain("shared/cli.ts'");
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong?.stderr).toContain('unknown option');
  });

  if (header.run.length > 0) {
    test('the commands of the header work in turn and leave nothing', { retry }, async () => {
      const before: { command: string; stdout: string }[] = [];
      for (const command of header.before) {
        const result = await run(command, { record: undefined });
        expect(result, command).toMatchObject({ code: 0 });
        before.push({ command, stdout: result.stdout });
      }
      const results: Result[] = [];
      for (const command of header.run) {
        const result = await run(command);
        expect(result, command).toMatchObject({ code: 0, stderr: '' });
        results.push(result);
      }
      const [first] = results as [Result];
      expect(mask(first.stdout)).toBe(mask(header.output ?? ''));
      const undo = header.undo ? [undoCommand(header.undo, first.stdout)] : [];
      for (const command of [...undo, ...undosOf(before)]) {
        expect(await run(command, { record: undefined }), command).toMatchObject({ code: 0 });
      }
      expect(await leftovers(own)).toEqual([]);
    });
  }

  // biome-ignore lint/correctness/noEmptyPattern: Vitest insists on it
  afterAll(({}, suite) => {
    const sent: Sent[] = existsSync(record)
      ? readFileSync(record, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : [];
    records.remove();
    sent.push(...signed.map((operation) => ({ operation, input: {} })));
    // A run of single tests can't have seen all that the recipe sends.
    const all = suite.tasks.every(({ mode, result }) => mode === 'run' && result?.state === 'pass');
    expect([...checkOpenings(header, sent), ...checkPermissions(header, sent, { all })]).toEqual([]);
  });
  return { ...own, file };
}

/** What is still there, in one region, of an account that a recipe's cycle should have left empty. */
export async function leftovers({ ec2, s3 }: Sandbox, region = 'us-east-1'): Promise<string[]> {
  const Filters = [{ Name: 'tag-key', Values: ['paws'] }];
  const client = ec2(region);
  const { Reservations = [] } = await client.send(new DescribeInstancesCommand({ Filters }));
  const instances = Reservations.flatMap(({ Instances = [] }) => Instances);
  const { Volumes = [] } = await client.send(new DescribeVolumesCommand({ Filters }));
  const { SecurityGroups = [] } = await client.send(new DescribeSecurityGroupsCommand({ Filters }));
  const { KeyPairs = [] } = await client.send(new DescribeKeyPairsCommand({ Filters }));
  const { Snapshots = [] } = await client.send(new DescribeSnapshotsCommand({ Filters }));
  const { Images = [] } = await client.send(new DescribeImagesCommand({ Filters, Owners: ['self'] }));
  const { Addresses = [] } = await client.send(new DescribeAddressesCommand({ Filters }));
  const { Buckets = [] } = await s3(region).send(new ListBucketsCommand({}));
  return [
    ...instances.filter(({ State }) => State?.Name !== 'terminated').map(({ InstanceId }) => InstanceId),
    ...Volumes.map(({ VolumeId }) => VolumeId),
    ...SecurityGroups.map(({ GroupId }) => GroupId),
    ...KeyPairs.map(({ KeyPairId }) => KeyPairId),
    ...Snapshots.map(({ SnapshotId }) => SnapshotId),
    ...Images.map(({ ImageId }) => ImageId),
    ...Addresses.map(({ AllocationId }) => AllocationId),
    ...Buckets.map(({ Name }) => `s3://${Name}`),
  ] as string[];
}
