import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { EC2Client, ImportKeyPairCommand } from '@aws-sdk/client-ec2';
import { beforeAll, expect, test } from 'vitest';
import { findKeyPair } from '../../recipes/ec2/04-import-key-pair.ts';
import { type SyncedKeyPair, syncKeyPair } from '../../recipes/ec2/05-sync-key-pair.ts';
import { findEnabledRegions } from '../../recipes/setup/14-find-tagged.ts';
import { testRecipe } from '../harness.ts';
import { regionProxy, type Treatment } from '../regions.ts';

const { run, file, folder, ec2, account } = testRecipe(import.meta);
const command = `npx tsx ${file}`;
const env = { AWS_REGION: 'us-east-1', AWS_SECRET_ACCESS_KEY: 'test' };
let [mine, other] = ['', ''];

beforeAll(() => {
  [mine, other] = ['mine', 'other'].map((name) => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', `${folder}/${name}`]);
    return readFileSync(`${folder}/${name}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
  }) as [string, string];
});

const client = (region: string, accessKeyId = account, endpoint = process.env.COOKBOOK_LOCALSTACK) =>
  new EC2Client({ region, endpoint, credentials: { accessKeyId, secretAccessKey: 'test' } });
/** Puts a key under a name where it isn't ours. */
const plant = (region: string, KeyName: string, key: string, accessKeyId?: string) =>
  client(region, accessKeyId).send(
    new ImportKeyPairCommand({
      ...{ KeyName, PublicKeyMaterial: Buffer.from(key) },
      TagSpecifications: [{ ResourceType: 'key-pair', Tags: [{ Key: 'owner', Value: 'them' }] }],
    }),
  );
const keyIn = async (region: string, keyName: string) => (await findKeyPair(ec2(region), { keyName }))?.publicKey;
const outcomes = (rows: SyncedKeyPair[]) => Object.fromEntries(rows.map(({ region, outcome }) => [region, outcome]));
/** LocalStack answers for us-east-1 in regions of other partitions. */
const alone = (region: string) => !/^(cn|us-gov)-/.test(region);

let tries = 0;
// LocalStack forgets the public key in its answer when somebody else asks for key pairs without it at the same moment.
test('three accounts with 38 regions: added where missing, left where same, told where different', {
  retry: 2,
}, async () => {
  const keyName = `everywhere-${++tries}`;
  const regions = await findEnabledRegions(ec2());
  expect(regions).toHaveLength(38);
  const accounts = [1, 2, 3].map((number) => `${account.slice(0, 11)}${number}`);
  for (const one of accounts.slice(1)) await plant('eu-west-1', keyName, mine, one);
  await plant('us-west-2', keyName, other, accounts[2]);
  const sync = (accessKeyId: string) =>
    syncKeyPair((region) => client(region, accessKeyId), {
      ...{ keyName, publicKey: mine, regions, signal: new AbortController().signal },
    });
  const results = await Promise.all(accounts.map(sync));
  for (const [at, rows] of results.entries()) {
    expect(rows.map(({ region }) => region)).toEqual(regions);
    expect(rows.filter(({ problem }) => problem)).toEqual([]);
    const expected = Object.fromEntries(regions.filter(alone).map((region) => [region, 'added']));
    if (at > 0) expected['eu-west-1'] = 'same';
    if (at > 1) expected['us-west-2'] = 'different';
    // Which of the regions that are one on LocalStack comes first is not known.
    const { 'us-east-1': _, ...rest } = expected;
    expect(outcomes(rows)).toMatchObject(rest);
    for (const { region, keyPairId, outcome } of rows) {
      const known = await findKeyPair(client(region, accounts[at]), { keyName });
      expect(known?.publicKey).toBe(outcome === 'different' ? other : mine);
      // There, imports at the same moment may all succeed.
      if (!alone(region) || region === 'us-east-1') continue;
      expect(keyPairId).toBe(outcome === 'different' ? null : known?.keyPairId);
    }
  }
  const again = await sync(accounts[0] as string);
  expect(new Set(again.map(({ outcome }) => outcome))).toEqual(new Set(['same']));
});

test('all regions take as long as the slowest, and a tenth', { retry: 2 }, async () => {
  const regions = await findEnabledRegions(ec2());
  const xml = (name: string, text: string) => `<${name}Response><requestId>1</requestId>${text}</${name}Response>`;
  let scale = 0;
  const { url, load } = await regionProxy(({ region, action }) => ({
    // Two calls each: 10 s in the slowest region, 6 s in the others.
    delay: scale * (region === 'eu-west-1' ? 5000 : 3000),
    answer: xml(action, action === 'ImportKeyPair' ? '<keyPairId>key-1</keyPairId>' : '<keySet/>'),
  }));
  const seconds = async () => {
    const start = performance.now();
    const options = { keyName: 'paws', publicKey: mine, regions };
    const rows = await syncKeyPair((region) => client(region, account, url), options);
    expect(new Set(rows.map(({ outcome }) => outcome))).toEqual(new Set(['added']));
    return (performance.now() - start) / 1000;
  };
  // What a busy machine needs for the same work when no region is slow is not the regions' time.
  const work = await seconds();
  scale = 1;
  const all = await seconds();
  expect(load.most).toBeGreaterThan(30);
  expect(all).toBeGreaterThan(9.9);
  expect(all - work).toBeLessThan(11);
});

test('not more than forty regions are asked at once', async () => {
  const answer = '<DescribeKeyPairsResponse><requestId>1</requestId><keySet/></DescribeKeyPairsResponse>';
  const { url, load } = await regionProxy(() => ({ delay: 1000, answer }));
  const regions = Array.from({ length: 60 }, (_, at) => `xx-west-${at + 1}`);
  const options = { keyName: 'paws', publicKey: mine, regions, dryRun: true };
  const rows = await syncKeyPair((region) => client(region, account, url), options);
  expect(new Set(rows.map(({ outcome }) => outcome))).toEqual(new Set(['missing']));
  expect(load.most).toBeLessThanOrEqual(40);
});

test('regions that are denied, throttled or cut off are reported, the others are done, and the end is 1', async () => {
  const treatments: Record<string, Treatment> = {
    'eu-west-1': { error: 'UnauthorizedOperation' },
    'eu-west-2': { error: 'RequestLimitExceeded' },
    'eu-west-3': { cut: true },
    'us-west-1': { error: 'AuthFailure' },
  };
  const { url, seen } = await regionProxy(({ region, action }) => {
    // One may look and not import.
    if (region === 'us-west-2' && action === 'ImportKeyPair') return { error: 'UnauthorizedOperation' };
    return treatments[region] ?? {};
  });
  const words = `mine.pub --key-name partly --endpoint-url ${url}`;
  const regions = 'eu-west-1,eu-west-2,eu-west-3,eu-central-1,us-west-1,us-west-2,sa-east-1';
  const result = await run(`${command} ${words} --regions ${regions} --json`, { env });
  expect(result.code).toBe(1);
  const rows: SyncedKeyPair[] = JSON.parse(result.stdout);
  expect(rows).toMatchObject([
    { region: 'eu-west-1', outcome: 'failed', problem: 'UnauthorizedOperation: UnauthorizedOperation of eu-west-1.' },
    { region: 'eu-west-2', outcome: 'failed', problem: 'RequestLimitExceeded: RequestLimitExceeded of eu-west-2.' },
    { region: 'eu-west-3', outcome: 'failed', problem: expect.stringMatching(/ECONNRESET|socket hang up/) },
    { region: 'eu-central-1', outcome: 'added', problem: null },
    { region: 'us-west-1', outcome: 'failed', problem: 'AuthFailure: AuthFailure of us-west-1.' },
    { region: 'us-west-2', outcome: 'failed', problem: 'UnauthorizedOperation: UnauthorizedOperation of us-west-2.' },
    { region: 'sa-east-1', outcome: 'added', problem: null },
  ]);
  expect(result.stderr).toContain('eu-west-1: UnauthorizedOperation: UnauthorizedOperation of eu-west-1.\n');
  expect(result.stderr).toContain('Error: not in order in 5 of 7 regions\n');
  for (const { region, outcome } of rows) {
    expect(await keyIn(region, 'partly'), region).toBe(outcome === 'added' ? mine : undefined);
  }
  // A throttled region was tried again.
  expect(seen.filter(({ region }) => region === 'eu-west-2').length).toBeGreaterThan(1);
});

test('a dry run only looks; without --replace another key stays; with it, it is asked first', async () => {
  await plant('eu-west-1', 'shown', mine);
  await plant('eu-west-2', 'shown', other);
  const words = `mine --key-name shown --regions eu-west-1,eu-west-2,eu-west-3 --local`;
  const dry = await run(`${command} ${words} --dry-run`);
  expect(dry).toMatchObject({ code: 1, stderr: expect.stringContaining('not in order in 1 of 3 regions') });
  expect(dry.stdout).toMatch(/^eu-west-1 +same +key-\w+ +-\neu-west-2 +different +- +-\neu-west-3 +missing +- +-$/m);
  expect(await keyIn('eu-west-3', 'shown')).toBeUndefined();

  const asked = await run(`${command} ${words} --replace`);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toContain('shown is another key in eu-west-2. Replace it?');
  expect(await keyIn('eu-west-3', 'shown')).toBeUndefined();

  const left = await run(`${command} ${words}`);
  expect(left).toMatchObject({ code: 1 });
  expect(left.stderr).toContain('eu-west-2: --replace replaces the other key\nError: not in order in 1 of 3 regions\n');
  expect([await keyIn('eu-west-2', 'shown'), await keyIn('eu-west-3', 'shown')]).toEqual([other, mine]);

  const done = await run(`${command} ${words} --replace --yes --json`);
  expect(done.code).toBe(0);
  expect(outcomes(JSON.parse(done.stdout))).toEqual({
    ...{ 'eu-west-1': 'same', 'eu-west-2': 'replaced', 'eu-west-3': 'same' },
  });
  expect(await findKeyPair(ec2('eu-west-2'), { keyName: 'shown' })).toMatchObject({
    ...{ publicKey: mine, tags: { owner: 'them' }, keyPairId: JSON.parse(done.stdout)[1].keyPairId },
  });
  expect(await findKeyPair(ec2('eu-west-3'), { keyName: 'shown' })).toMatchObject({ tags: { paws: '2.5' } });
});

test('another key is only replaced in the regions that are named', async () => {
  for (const region of ['eu-west-1', 'eu-west-2']) await plant(region, 'named', other);
  // One of them is given twice, and done once.
  const regions = ['eu-west-1', 'eu-west-2', 'eu-west-2'];
  const options = { keyName: 'named', publicKey: mine, regions, replaceIn: ['eu-west-2'] };
  expect(await syncKeyPair(ec2, options)).toMatchObject([{ outcome: 'different' }, { outcome: 'replaced' }]);
  expect([await keyIn('eu-west-1', 'named'), await keyIn('eu-west-2', 'named')]).toEqual([other, mine]);
});

test('when a replacement fails, the old key is there as it was, or its loss is told', async () => {
  for (const [name, denied, kept, words] of [
    ['no delete', { DeleteKeyPair: 1 }, true, /; the old key is there$/],
    ['no import', { ImportKeyPair: 1 }, true, /; the old key is there$/],
    ['no way back', { ImportKeyPair: 2 }, false, /; the old key could not be put back: run this again$/],
  ] as const) {
    await plant('eu-west-1', name, other);
    const left: Record<string, number> = { ...denied };
    let deleted = false;
    const { url } = await regionProxy(({ action }) => {
      if (action === 'DeleteKeyPair') deleted = true;
      const counts = deleted && (left[action] ?? 0) > 0;
      if (counts) left[action] = (left[action] as number) - 1;
      return counts ? { error: 'UnauthorizedOperation' } : {};
    });
    const options = { keyName: name, publicKey: mine, regions: ['eu-west-1'], replaceIn: ['eu-west-1'] };
    const [row] = await syncKeyPair((region) => client(region, account, url), options);
    expect(row, name).toMatchObject({ outcome: 'failed', keyPairId: null });
    expect(row?.problem, name).toMatch(/^UnauthorizedOperation: /);
    expect(row?.problem, name).toMatch(words);
    const known = await findKeyPair(ec2('eu-west-1'), { keyName: name });
    if (kept) expect(known, name).toMatchObject({ publicKey: other, tags: { owner: 'them' } });
    else expect(known, name).toBeNull();
  }
});

test('a list that still shows the deleted key does not stop its replacement', async () => {
  await plant('eu-west-1', 'lag', other);
  const KeyPairs = [{ KeyName: 'lag', KeyPairId: 'key-1', KeyFingerprint: '00', PublicKey: other }];
  const lagging = (region: string) => {
    const one = client(region);
    one.middlewareStack.add(
      (next, { commandName }) =>
        async (args) =>
          commandName === 'DescribeKeyPairsCommand'
            ? { output: { $metadata: {}, KeyPairs }, response: {} }
            : next(args),
      { step: 'initialize' },
    );
    return one;
  };
  const options = { keyName: 'lag', publicKey: mine, regions: ['eu-west-1'], replaceIn: ['eu-west-1'] };
  expect(await syncKeyPair(lagging, options)).toMatchObject([{ outcome: 'replaced', problem: null }]);
  expect(await keyIn('eu-west-1', 'lag')).toBe(mine);
});

test('when the answer to a replacement is lost, a second run finds that it was done', async () => {
  await plant('eu-west-1', 'lost', other);
  const losing = () => {
    const one = client('eu-west-1');
    let imports = 0;
    one.middlewareStack.add(
      (next, { commandName }) =>
        async (args) => {
          const answer = await next(args);
          if (commandName === 'ImportKeyPairCommand' && imports++ === 0) throw new Error('socket hang up');
          return answer;
        },
      { step: 'initialize' },
    );
    return one;
  };
  const options = { keyName: 'lost', publicKey: mine, regions: ['eu-west-1'], replaceIn: ['eu-west-1'] };
  const [row] = await syncKeyPair(losing, options);
  expect(row?.problem).toBe('Error: socket hang up; the old key could not be put back: run this again');
  expect(await syncKeyPair(ec2, options)).toMatchObject([{ outcome: 'same' }]);
});

test('a key that EC2 does not show is not replaced, for it could not be put back', async () => {
  const KeyPairs = [{ KeyName: 'hidden', KeyPairId: 'key-1', KeyFingerprint: '00' }];
  const sent: string[] = [];
  const hiding = (region: string) => {
    const one = client(region);
    one.middlewareStack.add(
      (_next, { commandName = '' }) =>
        async () => {
          sent.push(commandName);
          return { output: { $metadata: {}, KeyPairs }, response: {} };
        },
      { step: 'initialize' },
    );
    return one;
  };
  const options = { keyName: 'hidden', publicKey: mine, regions: ['eu-west-1'], replaceIn: ['eu-west-1'] };
  const [row] = await syncKeyPair(hiding, options);
  expect(row).toMatchObject({ outcome: 'failed', problem: expect.stringContaining('could not be put back') });
  expect(new Set(sent)).toEqual(new Set(['DescribeKeyPairsCommand']));
});

test('Ctrl-C ends with 130, what was not reached is told, and no region is left without a key', async () => {
  const regions = ['eu-west-1', 'eu-west-2', 'eu-west-3'];
  for (const region of regions) await plant(region, 'stopped', other);
  // While one is being replaced, the others are still being looked at.
  const looked = new Set<string>();
  const { url } = await regionProxy(({ region }) => {
    // The first look is the one before the question.
    const isFirst = !looked.has(region);
    looked.add(region);
    return { delay: isFirst || region === 'eu-west-1' ? 0 : 120_000 };
  });
  const words = `mine --key-name stopped --regions ${regions} --endpoint-url ${url} --replace --yes --json`;
  const faults = [{ operation: 'ec2:DeleteKeyPair', signalAfter: 'SIGINT' as const }];
  const result = await run(`${command} ${words}`, { env, faults });
  expect(result.code).toBe(130);
  const rows: SyncedKeyPair[] = JSON.parse(result.stdout);
  expect(outcomes(rows)).toEqual({ 'eu-west-1': 'replaced', 'eu-west-2': 'failed', 'eu-west-3': 'failed' });
  for (const { region, outcome, problem } of rows) {
    expect(await keyIn(region, 'stopped'), region).toBe(outcome === 'replaced' ? mine : other);
    if (outcome === 'failed') expect(problem, region).toMatch(/interrupt|abort/i);
    else expect(problem, region).toBeNull();
  }
});

test('an aborted signal leaves everything as it is', async () => {
  const options = { keyName: 'never', publicKey: mine, regions: ['eu-west-1'], signal: AbortSignal.abort() };
  expect(await syncKeyPair(ec2, options)).toMatchObject([{ outcome: 'failed' }]);
  expect(await keyIn('eu-west-1', 'never')).toBeUndefined();
});

test('wrong names, keys and regions are refused before anything is sent', async () => {
  const never = () => {
    throw new Error('sent');
  };
  const good = { keyName: 'paws', publicKey: mine, regions: ['eu-west-1'] };
  await expect(syncKeyPair(never, { ...good, keyName: '' })).rejects.toThrow(RangeError);
  await expect(syncKeyPair(never, { ...good, publicKey: 'Dear sir' })).rejects.toThrow(TypeError);
  for (const region of ['', 'Ireland', 'eu-west-1.example.com', 'eu-west-1/']) {
    await expect(syncKeyPair(never, { ...good, regions: [region] })).rejects.toThrow('is no code of a region');
  }
  const result = await run(`${command} mine --regions eu-west-1,Ireland --local`);
  expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('"Ireland" is no code') });
});
