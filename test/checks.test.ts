/** The checks of all recipes, each shown to see what it is there for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseHeader } from '../shared/header.ts';
import { checkActions, checkBook, checkFile, checkOptions, checkPermissions, examplesIn, mask } from './checks.ts';
import { checkOpenings, opensAccess } from './openings.ts';

const file = 'recipes/s3/01-create-bucket.ts';
const good = `/**
 * 3.1 Create a bucket
 *
 * ## Problem
 * You want one.
 *
 * ## Solution
 * Create it. In your own code console.log and process.exit are yours to call, and shared/cli.ts is not needed.
 *
 * ## Discussion
 * None.
 *
 * @run npx tsx recipes/s3/01-create-bucket.ts s3://paws-example/a --local
 * @output
 *   bucket  paws-example
 * @permission s3:CreateBucket on *
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts s3://paws-example --local --yes
 * @book s3.create_bucket
 * @see https://example.com
 */
import { S3Client } from '@aws-sdk/client-s3';
import { waitFor } from '../../shared/wait.ts';

/**
 * Creates a bucket.
 *
 * @param s3 - Where.
 * @see https://example.com
 *
 * @example
 * const s3 = new S3Client({});
 * const { bucket } = await createBucket(s3);
 * console.log(bucket);
 */
export async function createBucket(s3: S3Client): Promise<{ bucket: string }> {
  // Not console.log.
  const windows = process.platform === 'win32';
  return waitFor(s3, windows);
}

// ---- command line: leave out when copying ----
import { recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) => command.action(() => console.log(process.env)));
`;

/** The good recipe with a part replaced that is really there. */
function changed(part: string, other: string): string {
  expect(good).toContain(part);
  return good.replace(part, () => other);
}

test('a recipe as it should be has nothing wrong with it', () => {
  expect(checkFile(file, good)).toEqual([]);
});

test.each([
  ['the wrong number', '3.1 Create', '3.2 Create', 'is 3.1 by its name and 3.2 in its header'],
  ['the wrong chapter', '3.1 Create', '2.1 Create', 'is 3.1 by its name and 2.1 in its header'],
  ['no @book', ' * @book s3.create_bucket\n', '', '@book is for the recipes of the book and for each of them'],
  ['300 lines too many', '  // Not', `${'\n'.repeat(300)}  // Not`, 'has 345 lines, over 300: split it'],
  [
    'shared/ above the line',
    '../../shared/wait.ts',
    '../../shared/cli.ts',
    'imports more of shared/ than wait.ts, undo.ts, ssh.ts and wire-log.ts above the copy line',
  ],
  ['printing', '  return', '  console.log(1);\n  return', 'prints, exits or reads the environment above the copy line'],
  ['an exit', '  return', '  process.exit();\n  return', 'prints, exits or reads the environment above the copy line'],
  [
    'the environment',
    'process.platform',
    'process.env.A',
    'prints, exits or reads the environment above the copy line',
  ],
  ['no function of its name', 'function createBucket', 'function makeBucket', 'exports no function createBucket'],
  ['a function that is not exported', 'export async', 'async', 'exports no function createBucket'],
  ['no doc comment', '*/\nexport', '*/\nconst a = 1;\nexport', 'createBucket has no doc comment'],
  ['no @param', ' * @param s3 - Where.\n', '', 'the doc comment of createBucket lacks @param'],
  ['no @see', '\n * @see https://example.com\n *\n', '\n *\n', 'the doc comment of createBucket lacks @see'],
  ['no @example', '@example', 'Example:', 'the doc comment of createBucket lacks @example'],
  ['a bucket in @run', 's3://paws-example/a', 's3://mine/a', 'names a bucket mine, not paws-example…'],
  [
    'a bucket in @undo',
    's3://paws-example --local',
    's3://my.logs --local',
    'names a bucket my.logs, not paws-example…',
  ],
])('%s is seen', (_what, part, other, problem) => {
  expect(checkFile(file, changed(part, other))).toEqual([`${file}: ${problem}`]);
});

test('up to 300 lines, and a few less than 30 below the line, are allowed', () => {
  const { length } = good.trimEnd().split('\n');
  expect(checkFile(file, changed('  // Not', `${'\n'.repeat(300 - length)}  // Not`))).toEqual([]);
  expect(checkFile(file, changed('recipe(import', `${'\n'.repeat(25)}recipe(import`))).toEqual([]);
});

test('more than 30 lines below the line are seen', () => {
  expect(checkFile(file, changed('recipe(import', `${'\n'.repeat(28)}recipe(import`))).toEqual([
    expect.stringMatching(/ has \d+ lines below the copy line, over 30$/),
  ]);
});

test('@book on a recipe that is not of the book is seen', () => {
  expect(checkFile('recipes/s3/14-create-bucket.ts', changed('3.1 ', '3.14 '))).toEqual([
    'recipes/s3/14-create-bucket.ts: @book is for the recipes of the book and for each of them',
  ]);
});

test.each(['recipes/s3/1-create-bucket.ts', 'recipes/s3/01-createBucket.ts', 'recipes/sqs/01-a.ts', 's3/01-a.ts'])(
  'the file name %s is seen',
  (name) => expect(checkFile(name, good)).toEqual([`${name}: is not named chapter/NN-verb-noun.ts`]),
);

test('a file without a header or without the copy line is an error', () => {
  expect(() => checkFile(file, good.replace('/**', '//'))).toThrow('header: must open the file');
  expect(() => checkFile(file, changed('// ---- command line', '// ---- command'))).toThrow('lacks the line');
});

test('an action that AWS does not have is seen, and so is a service', async () => {
  const check = (...actions: string[]) =>
    checkActions({ permissions: actions.map((action) => ({ action, resource: '*' })) });
  expect(await check('s3:CreateBucket', 'ec2:RunInstances', 'iam:PassRole', 's3:ListAllMyBuckets')).toEqual([]);
  expect(await check('s3:ListBuckets', 's3:CreateBucket')).toEqual(['AWS has no action s3:ListBuckets']);
  expect(String(await check('s4:GetObject').catch((error) => error))).toContain('s4');
});

test('a permission that is missing is seen, and one that nothing needed when all has run', () => {
  const { permissions } = parseHeader(good, file);
  const create = { operation: 's3:CreateBucket', input: {} };
  const tagged = { operation: 's3:CreateBucket', input: { CreateBucketConfiguration: { Tags: [] } } };
  const identity = { operation: 'sts:GetCallerIdentity', input: {} };
  expect(checkPermissions({ permissions }, [create, identity])).toEqual([]);
  expect(checkPermissions({ permissions }, [tagged])).toEqual(['@permission lacks s3:TagResource']);
  expect(checkPermissions({ permissions }, [])).toEqual(['nothing needed s3:CreateBucket']);
  expect(checkPermissions({ permissions }, [], { all: false })).toEqual([]);
});

test('what an operation needs is told by its name and its input', () => {
  const needs = (operation: string, input: object, ...actions: string[]) => {
    const permissions = actions.map((action) => ({ action, resource: '*' }));
    expect(checkPermissions({ permissions }, [{ operation, input }]), operation).toEqual([]);
  };
  needs('s3:ListBuckets', {}, 's3:ListAllMyBuckets');
  needs('s3:HeadBucket', {}, 's3:ListBucket');
  needs('s3:ListObjectsV2', {}, 's3:ListBucket');
  needs('s3:GetObject', {}, 's3:GetObject');
  needs('s3:GetObject', { VersionId: '1' }, 's3:GetObjectVersion');
  needs('s3:HeadObject', { VersionId: '1' }, 's3:GetObjectVersion');
  needs('s3:DeleteObject', { VersionId: '1' }, 's3:DeleteObject', 's3:DeleteObjectVersion');
  const Objects = [{ Key: 'a' }, { Key: 'a', VersionId: '1' }];
  needs('s3:DeleteObjects', { Delete: { Objects } }, 's3:DeleteObject', 's3:DeleteObjectVersion');
  needs('s3:UploadPart', {}, 's3:PutObject');
  needs('s3:CopyObject', { CopySource: 'b/k' }, 's3:GetObject', 's3:PutObject', 's3:GetObjectTagging');
  const replaced = { CopySource: 'b/k?versionId=1', TaggingDirective: 'REPLACE', Tagging: 'a=b' };
  needs('s3:CopyObject', replaced, 's3:GetObjectVersion', 's3:PutObject', 's3:PutObjectTagging');
  needs('s3:UploadPartCopy', { CopySource: 'b/k' }, 's3:GetObject', 's3:PutObject');
  needs('s3:PutObject', { Tagging: 'a=b' }, 's3:PutObject', 's3:PutObjectTagging');
  needs('s3:PutObject', { ObjectLockLegalHoldStatus: 'ON' }, 's3:PutObject', 's3:PutObjectLegalHold');
  needs('s3:GetObjectAttributes', {}, 's3:GetObject', 's3:GetObjectAttributes');
  needs('s3:GetObjectTagging', { VersionId: '1' }, 's3:GetObjectVersionTagging');
  needs('s3:PutBucketLifecycleConfiguration', {}, 's3:PutLifecycleConfiguration');
  needs('s3:PutPublicAccessBlock', {}, 's3:PutBucketPublicAccessBlock');
  needs('ec2:RunInstances', {}, 'ec2:RunInstances');
  const tags = [{ ResourceType: 'instance' }];
  needs('ec2:RunInstances', { TagSpecifications: tags }, 'ec2:RunInstances', 'ec2:CreateTags');
  needs('ec2:RunInstances', { IamInstanceProfile: {} }, 'ec2:RunInstances', 'iam:PassRole');
});

const help = `Options:
${['local', 'profile', 'region', 'endpoint-url', 'json', 'calls', 'debug', 'timeout', 'policy', 'source', 'yes']
  .map((name) => `  --${name}  does so, unlike --others`)
  .join('\n')}
  -h, --help  this
  --own <number>  its own
`;

test("options that the recipe doesn't have are seen in its commands", () => {
  const commands = { run: ['npx tsx recipes/a.ts --own 1 --local'], aws: ['npx tsx recipes/a.ts --own 2'] };
  expect(checkOptions(commands, help)).toEqual([]);
  expect(checkOptions({ ...commands, run: ['a --onw 1'] }, help)).toEqual([
    '"a --onw 1" has an option --onw that does not exist',
  ]);
  expect(checkOptions({ ...commands, aws: ['a --onw 1'] }, help)).toEqual([
    '"a --onw 1" has an option --onw that does not exist',
  ]);
});

test('a common option that is lacking is seen, and a ninth option of its own', () => {
  const none = { run: [], aws: [] };
  expect(checkOptions(none, help.replace('--timeout', '--deadline'))).toEqual(['--help lacks --timeout']);
  const more = (count: number) => [...'abcdefgh'].slice(0, count).map((letter) => `  --${letter}  more\n`);
  expect(checkOptions(none, help + more(7).join(''))).toEqual([]);
  expect(checkOptions(none, help + more(8).join(''))).toEqual(['has 9 options of its own, over 8']);
});

test.each([
  ['an id', 'i-0abcdef1234567890', 'i-…'],
  ['a short id', 'sg-1a2b3c4d in vpc-0123456789abcdef0', 'sg-… in vpc-…'],
  ['an account', 'arn:aws:iam::123456789012:role/reader', 'arn:aws:iam::<account>:role/reader'],
  ['a time', 'launched  2026-03-01 09:08:07 UTC', 'launched  <time>'],
  ['a time of JSON', '"2026-03-01T09:08:07.123Z"', '"<time>"'],
  ['how long it took', 'after 12 s, 3.5 ms and 4 min', 'after <n> s, <n> ms and <n> min'],
  ['an address', '192.0.2.17/32', '<address>/32'],
  ['a version within a row', 'npm   11.4.2  supported', 'npm  <version>  supported'],
  ['a public name', 'ec2-54-1-2-3.compute-1.amazonaws.com', 'ec2-<address>.compute-1.amazonaws.com'],
  ['a request id', '2ec62d16-b1fd-4cd7-8f4d-ddd59363d9ef', '<request id>'],
  ['a fingerprint', `SHA256:${'aB3/+'.repeat(8)}xyz`, '<fingerprint>'],
  ['a fingerprint of bytes', Array(20).fill('0f').join(':'), '<fingerprint>'],
  ['how wide a column is', 'id       state', 'id  state'],
])('mask hides %s', (_what, text, masked) => expect(mask(text)).toBe(masked));

test.each([
  'bucket  paws-example',
  'region  us-east-1',
  'type  t3.micro, arm64, 8 GiB, 3 volumes',
  'key  2026/03/01/report-2026-03-01.csv',
  'version  1.2.3',
  'image  al2023-ami-2023.5.20240701.0-kernel-6.1-x86_64',
  'number  1234567890123',
  'cost  $0.0104 an hour',
  'key name  paws-ed25519',
])('mask leaves "%s" as it is', (text) => expect(mask(text)).toBe(text));

test('what differs in more than what is masked goes on differing', () => {
  const word = fc.stringMatching(/^[g-z]{1,12}$/);
  fc.assert(
    fc.property(word, word, (one, other) => {
      const shown = (state: string) => mask(`id     i-0abcdef1234567890\nstate  ${state}`);
      expect(shown(one) === shown(other)).toBe(one === other);
    }),
  );
});

test('examples become files that import what they use', () => {
  expect(examplesIn(good)).toEqual([
    `import { S3Client } from '@aws-sdk/client-s3';
import { createBucket } from './FILE';
const s3 = new S3Client({});
const { bucket } = await createBucket(s3);
console.log(bucket);
`,
  ]);
  const two = good.replace(
    /^export.*$/m,
    '$&\n}\n/**\n * @example\n * a(new EC2Client({}));\n */\nexport function a() {',
  );
  expect(examplesIn(two)[1]).toBe(
    `import { EC2Client } from '@aws-sdk/client-ec2';\nimport { a } from './FILE';\na(new EC2Client({}));\n`,
  );
  expect(examplesIn('export function a() {}')).toEqual([]);
});

test('a call that lets the world in is seen, whatever way it does so', () => {
  const statement = (Principal: unknown, Effect = 'Allow') => JSON.stringify({ Statement: [{ Effect, Principal }] });
  const shut = { BlockPublicAcls: true, IgnorePublicAcls: true, BlockPublicPolicy: true, RestrictPublicBuckets: true };
  const opens: [string, object][] = [
    ['s3:DeletePublicAccessBlock', {}],
    ['s3:PutPublicAccessBlock', { PublicAccessBlockConfiguration: { ...shut, BlockPublicPolicy: undefined } }],
    ['s3:PutBucketPolicy', { Policy: statement('*') }],
    ['s3:PutBucketPolicy', { Policy: statement({ AWS: ['111122223333', '*'] }) }],
    ['s3:PutObject', { ACL: 'public-read' }],
    ['s3:CopyObject', { GrantRead: 'uri=http://acs.amazonaws.com/groups/global/AllUsers' }],
    ['s3:PutBucketAcl', { AccessControlPolicy: { Grants: [{ Grantee: { URI: 'http://a/groups/global/AllUsers' } }] } }],
    ['s3:PutBucketOwnershipControls', { OwnershipControls: { Rules: [{ ObjectOwnership: 'ObjectWriter' }] } }],
    ['ec2:AuthorizeSecurityGroupIngress', { IpPermissions: [{ IpRanges: [{ CidrIp: '0.0.0.0/0' }] }] }],
    ['ec2:AuthorizeSecurityGroupIngress', { IpPermissions: [{ Ipv6Ranges: [{ CidrIpv6: '::/0' }] }] }],
    ['ec2:ModifySnapshotAttribute', { CreateVolumePermission: { Add: [{ Group: 'all' }] } }],
    ['ec2:ModifyImageAttribute', { UserGroups: ['all'] }],
    ['sns:SetTopicAttributes', { AttributeName: 'Policy', AttributeValue: statement('*') }],
    ['iam:CreateRole', { AssumeRolePolicyDocument: statement({ AWS: '*' }) }],
  ];
  const shuts: [string, object][] = [
    ['s3:PutPublicAccessBlock', { PublicAccessBlockConfiguration: shut }],
    ['s3:PutBucketPolicy', { Policy: statement('*', 'Deny') }],
    ['s3:PutBucketPolicy', { Policy: statement({ Service: 'logging.s3.amazonaws.com' }) }],
    ['s3:PutObject', { ACL: 'bucket-owner-full-control', Metadata: { text: '{ no json' } }],
    ['ec2:AuthorizeSecurityGroupIngress', { IpPermissions: [{ IpRanges: [{ CidrIp: '10.0.0.0/8' }] }] }],
  ];
  for (const [operation, input] of opens) expect(opensAccess({ operation, input }), JSON.stringify(input)).toBe(true);
  for (const [operation, input] of shuts) expect(opensAccess({ operation, input }), JSON.stringify(input)).toBe(false);
  const call = { operation: 's3:DeletePublicAccessBlock', input: {}, confirmed: true };
  expect(checkOpenings({ number: '3.8' }, [call])).toEqual(['s3:DeletePublicAccessBlock lets the world in']);
  expect(checkOpenings({ number: '3.12' }, [call])).toEqual([]);
  const asked = checkOpenings({ number: '3.12' }, [{ ...call, confirmed: false }]);
  expect(asked).toEqual(['s3:DeletePublicAccessBlock was not confirmed']);
});

test('a command that is said to replace a call of the book, and is not imported, is seen', () => {
  const text = "// GetObjectCommand\nimport {\n  PutObjectCommand,\n  S3Client,\n} from '@aws-sdk/client-s3';\n";
  const check = (...book: string[]) => checkBook({ book }, ['', text]);
  expect(check('key.write → PutObjectCommand, S3Client', 'the debug setting')).toEqual([]);
  expect(check('key.write → PutObjectCommand', 'key.read → GetObjectCommand, PutObject')).toEqual([
    '@book names GetObjectCommand, which nothing imports',
    '@book names PutObject, which nothing imports',
  ]);
});
