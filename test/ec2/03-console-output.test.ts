import { execFileSync } from 'node:child_process';
import { EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { consoleOutput } from '../../recipes/ec2/03-console-output.ts';
import { testRecipe } from '../harness.ts';

const { run, file, folder, ec2 } = testRecipe(import.meta);
const read = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);
const instanceId = 'i-0123456789abcdef0';
const timestamp = new Date('2026-11-24T09:13:00Z');

/** A client whose calls are answered with these logs in turn, the last one for ever, and the inputs of its calls. */
function answering(...logs: (string | Buffer | undefined)[]): { client: EC2Client; inputs: object[] } {
  const client = new EC2Client({ region: 'us-east-1' });
  const inputs: object[] = [];
  client.middlewareStack.add(
    () => async (args) => {
      inputs.push(args.input);
      const log = logs.length > 1 ? logs.shift() : logs[0];
      const output = { $metadata: {}, Output: log && Buffer.from(log).toString('base64'), Timestamp: timestamp };
      return { output: output as never, response: {} };
    },
    { step: 'initialize' },
  );
  return { client, inputs };
}

const get = (log: string | Buffer, options = {}) => consoleOutput(answering(log).client, { instanceId, ...options });

const dashes = '-----';
const block = (...lines: string[]) =>
  [`${dashes}BEGIN SSH HOST KEY FINGERPRINTS${dashes}`, ...lines, `${dashes}END SSH HOST KEY FINGERPRINTS${dashes}`]
    .map((line) => `<14>Nov 24 09:12:39 cloud-init: ${line}`)
    .join('\r\n');

test("LocalStack's log is printed whole or in part, or as one JSON document", async () => {
  const launch = new RunInstancesCommand({ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 });
  const id = (await ec2().send(launch)).Instances?.[0]?.InstanceId as string;
  const [whole, part, asJson] = await Promise.all([
    read(`${id} --latest --wait`),
    read(`${id} --lines 1`),
    read(`${id} --lines 1 --json`),
  ]);
  expect(whole).toMatchObject({ code: 0, stderr: '' });
  expect(whole.stdout).toMatch(/^Linux version 2\.6\.16-xenU .*\nBIOS-provided/);
  const found = `instance id          ${id}\ntimestamp            20`;
  expect(whole.stdout).toContain(`done.\n\n${found}`);
  expect(part.stdout.startsWith(`Enabling fast FPU save and restore... done.\n\n${found}`)).toBe(true);
  expect(JSON.parse(asJson.stdout)).toEqual({
    instanceId: id,
    output: 'Enabling fast FPU save and restore... done.',
    timestamp: expect.stringMatching(/^20\d\d-/),
    cloudInitFinished: null,
    uptimeSeconds: null,
    hostKeys: [],
  });
});

test('the end of cloud-init and host keys are found in lines as cloud-init writes them', async () => {
  const keys = ['ed25519', 'rsa'].map((type) => {
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', 'root@ip-10-0-0-1', '-f', `${folder}/${type}`]);
    return execFileSync('ssh-keygen', ['-l', '-f', `${folder}/${type}.pub`], { encoding: 'utf8' }).trim();
  });
  const log = [
    "[   40.5] cloud-init[933]: Cloud-init v. 25.2-0ubuntu1~24.04.1 running 'modules:final' at Tue, 24 Nov 2026 09:12:38 +0000. Up 11.9 seconds.",
    block(...(keys as string[])),
    '[   41.1] cloud-init[963]: Cloud-init v. 25.2-0ubuntu1~24.04.1 finished at Tue, 24 Nov 2026 09:12:40 +0000. Datasource DataSourceEc2Local.  Up 12.34 seconds',
  ].join('\r\n');
  const result = await get(log, { lines: 1 });
  const [ed25519, rsa] = keys.map((line) => line.split(' ')[1]);
  expect(result).toEqual({
    instanceId,
    output: log.split('\r\n').at(-1),
    timestamp,
    cloudInitFinished: new Date('2026-11-24T09:12:40Z'),
    uptimeSeconds: 12.34,
    hostKeys: [
      { type: 'ED25519', bits: 256, fingerprint: ed25519 },
      { type: 'RSA', bits: expect.any(Number), fingerprint: rsa },
    ],
  });
});

test('the last boot counts for the end, the first for host keys; other fingerprints are passed over', async () => {
  const sha = (letter: string) => `SHA256:${letter.repeat(43)}`;
  const end = (at: string, up: string) =>
    `Cloud-init v. 22.2.2 finished at ${at}. Datasource DataSourceNone.  Up ${up} seconds`;
  const log = [
    `user: 256 ${sha('x')} planted (ED25519)`,
    block(`256 ${sha('a')} no comment (ECDSA)`, '2048 45:4d:55:26:e7:d7:bf:30:4e:cf:05:b2:36:10:2b:ef  root@old (RSA)'),
    end('Mon, 23 Nov 2026 10:00:00 +0000', '9.5'),
    block(`256 ${sha('y')} planted (ED25519)`),
    end('Tue, 24 Nov 2026 10:00:00 +0200', '8.25'),
  ].join('\n');
  expect(await get(log)).toMatchObject({
    cloudInitFinished: new Date('2026-11-24T08:00:00Z'),
    uptimeSeconds: 8.25,
    hostKeys: [
      { type: 'ECDSA', bits: 256, fingerprint: sha('a') },
      { type: 'RSA', bits: 2048, fingerprint: '45:4d:55:26:e7:d7:bf:30:4e:cf:05:b2:36:10:2b:ef' },
    ],
  });
});

test('64 KB that are made to hold up the search are read at once', async () => {
  const start = process.cpuUsage();
  const key = `1 SHA256:${'x'.repeat(43)} `;
  for (const part of ['Cloud-init v. 1 finished at x. ', 'Cloud-init v.  finished at . . . ', key]) {
    const end = part === key ? '('.repeat(32_000) : '';
    const half = part.repeat((part === key ? 32_000 : 64_000) / part.length);
    expect(await get(block(`${half}${end}`))).toMatchObject({ uptimeSeconds: null, hostKeys: [] });
  }
  expect(process.cpuUsage(start).user).toBeLessThan(10_000_000);
});

test('an end that something else is written into is none', async () => {
  const line = (at: string, up: string) => `Cloud-init v. 22.2.2 finished at ${at}. Datasource None.  Up ${up} seconds`;
  const inTime = await get(line('Tue, 24 Nov 2026 [   12.3] eth0: up', '9.5'));
  expect(inTime).toMatchObject({ cloudInitFinished: null, uptimeSeconds: 9.5 });
  const inUptime = await get(line('Tue, 24 Nov 2026 10:00:00 +0000', '1.2.3'));
  expect(inUptime).toMatchObject({ cloudInitFinished: null, uptimeSeconds: null });
});

test('what could drive a terminal is made harmless, the rest stays', async () => {
  const log =
    '\x1b[2J\x1b[1;1H\x1b[32m  OK  \x1b[0m ünï\tcode ☃\r\n\x1b]0;title\x07\x1bcbell\x07\x9b2J \u202egnirts\rover\n';
  const { output } = await get(log);
  expect(output).toContain('  OK   ünï\tcode ☃\n');
  expect(output).toContain('\\u{202e}gnirts\nover');
  expect(output).toContain('\\u{1b}]0;title\\u{7}\\u{1b}cbell\\u{7}\\u{9b}2J ');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about them
  expect(output).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/);
  // 64 KB may begin within a character.
  expect((await get(Buffer.from('é und so').subarray(1))).output).toBe('\ufffd und so');
});

test('none yet is null; with waitSeconds it is asked again until there is some', async () => {
  const none = answering(undefined);
  const result = await consoleOutput(none.client, { instanceId });
  expect(result).toMatchObject({ output: null, cloudInitFinished: null, uptimeSeconds: null, hostKeys: [] });
  expect(none.inputs).toEqual([{ InstanceId: instanceId, Latest: false }]);

  const told: string[] = [];
  const later = answering(undefined, '', 'here it is');
  const options = { instanceId, latest: true, waitSeconds: 60, onProgress: (text: string) => told.push(text) };
  expect((await consoleOutput(later.client, options)).output).toBe('here it is');
  expect(later.inputs).toEqual(Array(3).fill({ InstanceId: instanceId, Latest: true }));
  expect(told).toEqual([
    expect.stringMatching(/has console output: \d+ s$/),
    expect.stringMatching(/output: [1-9]\d* s$/),
  ]);

  const never = answering(undefined);
  expect((await consoleOutput(never.client, { instanceId, waitSeconds: 2 })).output).toBe(null);
  expect(never.inputs.length).toBeGreaterThan(1);
});

test('a wait that is aborted ends at once', async () => {
  const { client } = answering(undefined);
  const stop = new AbortController();
  const waiting = consoleOutput(client, {
    instanceId,
    waitSeconds: 3600,
    signal: stop.signal,
    onProgress: () => stop.abort(),
  });
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
});

test('a number of lines that is none is refused before anything is asked', async () => {
  for (const lines of [0, -1, Number.NaN]) {
    const { client, inputs } = answering('text');
    await expect(consoleOutput(client, { instanceId, lines })).rejects.toThrow(RangeError);
    expect(inputs).toEqual([]);
  }
});

test('none yet, a bad instance, and a type that has no latest output are one clear line', async () => {
  const operation = 'ec2:GetConsoleOutput';
  const [none, keys, unknown, refused, lines] = await Promise.all([
    read(instanceId, { faults: [{ operation, output: {} }] }),
    read(instanceId, {
      faults: [
        {
          operation,
          output: { Output: Buffer.from(block(`256 SHA256:${'a'.repeat(43)} (ED25519)`)).toString('base64') },
        },
      ],
    }),
    read(instanceId),
    read(`${instanceId} --latest`, {
      faults: [{ operation, error: { name: 'UnsupportedOperation', message: 'not on Xen' } }],
    }),
    read(`${instanceId} --lines none`),
  ]);
  expect(none).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('has no console output yet: --wait'),
  });
  expect(keys?.stdout).toMatch(/\n\ntype +bits +fingerprint\nED25519 +256 +SHA256:a{43}\n$/);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
  expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('not on Xen') });
  expect(lines).toMatchObject({ code: 2, stdout: '', stderr: 'Error: lines must be 1 or more, not NaN\n' });
});
