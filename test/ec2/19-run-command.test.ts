import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { EC2Client, Instance } from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, expect, onTestFinished, test as testAlways } from 'vitest';
import { runCommand } from '../../recipes/ec2/19-run-command.ts';
import { testRecipe } from '../harness.ts';
import { freePort } from '../program.ts';
import { type Sshd, sshdHint, sshdPath, startSshd } from '../sshd.ts';

const { run, file, folder, ec2 } = testRecipe(import.meta);
// CI installs the server, and fails when a test is skipped.
const test = testAlways.skipIf(!sshdPath);
if (!sshdPath) console.warn(`2.19 is tested in part only: the rest ${sshdHint}`);

const instanceId = 'i-0123456789abcdef0';
const running: Instance = { InstanceId: instanceId, State: { Name: 'running' }, PublicIpAddress: '127.0.0.1' };
const answer = (...Instances: Instance[]) => ({ Reservations: [{ Instances }] });
const faults = [{ operation: 'ec2:DescribeInstances', output: answer(running) }];
// Not with --local, which is refused: the instances of LocalStack can't be reached.
const there = { AWS_ACCESS_KEY_ID: '123456789012', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1' };
let sshd: Sshd;

beforeAll(async () => {
  if (sshdPath) sshd = await startSshd();
});
afterAll(() => sshd?.stop());

/** Runs the recipe as a reader does, where EC2 answers with the loopback address. */
function spawn(options: string, settings = {}) {
  const where = `--port ${sshd.port} --username ${sshd.username} --endpoint-url ${process.env.COOKBOOK_LOCALSTACK}`;
  return run(`npx tsx ${file} ${where} ${options}`, { env: there, faults, ...settings });
}

/** A client for which EC2 answers DescribeInstances with these in turn, and with the last of them from then on. */
function answering(...instances: Instance[]): EC2Client {
  const client = ec2();
  const left = [...instances];
  const middleware = () => async () => ({
    output: { $metadata: {}, ...answer((left.length > 1 ? left.shift() : left[0]) as Instance) },
    response: {},
  });
  client.middlewareStack.add(middleware as never, { step: 'build', priority: 'low' });
  return client;
}

let files = 0;
/** Calls the function, and collects what the command printed. */
async function call(options: Partial<Parameters<typeof runCommand>[1]> = {}, client = answering(running)) {
  const printed = { out: '', err: '' };
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  stdout.setEncoding('utf8').on('data', (text) => (printed.out += text));
  stderr.setEncoding('utf8').on('data', (text) => (printed.err += text));
  const { port, username, privateKey: keyFile } = sshd;
  const login = { port, username, keyFile, knownHosts: join(folder, `known_hosts_${files++}`), seconds: 60 };
  const result = await runCommand(client, {
    ...{ instanceId, command: 'echo hello', stdout, stderr, ...login },
    ...options,
  });
  return { ...result, ...printed };
}

const failed = (...args: Parameters<typeof call>): Promise<Error> =>
  call(...args).then(
    (result) => new Error(`it did not fail: ${JSON.stringify(result)}`),
    (error) => error,
  );

test('with the key that 2.16 saved: output apart, the exit status the recipe’s own, the host key under the id', async () => {
  await run('npx tsx recipes/ec2/16-create-key-pair.ts --local', { record: undefined });
  const key = join(folder, '.ssh/paws.pem');
  appendFileSync(join(sshd.folder, 'authorized_keys'), execFileSync('ssh-keygen', ['-y', '-f', key]));

  const command = `'echo out; echo err >&2; cat; exit 3'`;
  expect(await spawn(command)).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' });
  const fingerprint = execFileSync('ssh-keygen', ['-lf', key], { encoding: 'utf8' }).split(' ')[1];
  expect(sshd.log()).toContain(`Accepted publickey for ${sshd.username} from 127.0.0.1`);
  expect(sshd.log()).toContain(fingerprint);
  const kept = readFileSync(join(folder, '.ssh/paws_known_hosts'), 'utf8');
  expect(kept).toMatch(new RegExp(`^${instanceId} ssh-ed25519 \\S+\n$`));

  const result = await spawn(`${command} ${instanceId} --json`);
  expect(result).toMatchObject({ code: 3, stderr: 'out\nerr\n' });
  const told = { instanceId, address: '127.0.0.1', exitCode: 3, signal: null, hostKey: 'known' };
  expect(JSON.parse(result.stdout)).toEqual(told);
  expect(readFileSync(join(folder, '.ssh/paws_known_hosts'), 'utf8')).toBe(kept);
});

test('a terminal is told which instance it was and that its key was taken on trust', async () => {
  const options = `--key-file ${sshd.privateKey} --known-hosts ${folder}/terminal`;
  const result = await spawn(`'exit 4' ${options}`, { terminal: { columns: 120 } });
  expect(result.code).toBe(4);
  expect(result.stdout).toContain(`${instanceId} at 127.0.0.1, host key pinned: exit status 4`);
});

test('what a reader gets wrong is one line, and nothing is sent: exit 2', async () => {
  const connections = () => sshd.log().match(/^Connection from /gm)?.length ?? 0;
  await call();
  const before = connections();
  const key = `--key-file ${sshd.privateKey}`;
  const wrong: [string, RegExp][] = [
    [`ls /tmp ${key}`, /"\/tmp" is no instance's id; a command of several words goes into quotes/],
    [`uptime --key-file ${folder}/none.pem`, /none\.pem can't be read \(ENOENT\): 2\.16 makes one/],
    [`uptime ${key} --port ssh`, /a port is 1 to 65535, not NaN/],
    [`uptime ${key} --seconds soon`, /seconds are 0 or more, not NaN/],
  ];
  const results = await Promise.all(wrong.map(([options]) => spawn(options)));
  for (const [at, [options, message]] of wrong.entries()) {
    expect(results[at], options).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(message) });
    expect(results[at]?.stderr.trim().split('\n'), options).toHaveLength(1);
  }
  const local = await run(`npx tsx ${file} uptime --local`);
  expect(local).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('nothing boots on LocalStack') });
  expect(before).toBeGreaterThan(0);
  expect(connections()).toBe(before);
});

testAlways('guards name what was expected', async () => {
  const stream = new PassThrough();
  const login = { keyFile: import.meta.filename, knownHosts: join(folder, 'none'), stdout: stream, stderr: stream };
  const given = (options: object) =>
    runCommand(answering(running), { instanceId, command: 'true', ...login, ...options });
  await expect(given({ command: ' ' })).rejects.toThrow(new TypeError('the command is empty'));
  await expect(given({ instanceId: 'vol-0123456789abcdef0' })).rejects.toThrow(TypeError);
  await expect(given({ port: 70_000 })).rejects.toThrow(RangeError);
  await expect(given({ seconds: -1 })).rejects.toThrow(RangeError);
  await expect(given({ seconds: Number.NaN })).rejects.toThrow(RangeError);
  await expect(given({ keyFile: join(folder, 'no-key') })).rejects.toThrow(RangeError);
  expect(() => statSync(join(folder, 'none'))).toThrow('ENOENT');
});

test('an instance that does not exist is EC2’s own error', async () => {
  const result = await spawn(`uptime ${instanceId} --key-file ${sshd.privateKey}`, { faults: [] });
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
});

test('an instance that is stopped, or has no public address, is said so', async () => {
  const stopped = await failed({}, answering({ ...running, State: { Name: 'stopped' } }));
  expect(stopped.message).toBe(`${instanceId} is stopped, not running; 2.20 starts a stopped one`);
  const { PublicIpAddress: _, ...hidden } = running;
  const inside = { ...hidden, PrivateIpAddress: '127.0.0.1' };
  expect((await failed({}, answering(inside))).message).toMatch(/no public address/);
  // An IPv6 address, which costs nothing, will do; the server of this test has IPv4 only.
  const mapped = { ...inside, Ipv6Address: '::ffff:127.0.0.1' };
  expect(await call({}, answering(mapped))).toMatchObject({ address: '::ffff:127.0.0.1', exitCode: 0 });
  expect(await call({ privateAddress: true }, answering(inside))).toMatchObject({ address: '127.0.0.1', exitCode: 0 });
});

test('an instance that is starting is waited for', async () => {
  const progress: string[] = [];
  const { PublicIpAddress: _, ...pending } = { ...running, State: { Name: 'pending' as const } };
  const client = answering(pending, pending, running);
  const result = await call({ onProgress: (text) => progress.push(text) }, client);
  expect(result).toMatchObject({ out: 'hello\n', address: '127.0.0.1' });
  expect(progress[0]).toMatch(/is running: 0 s/);
  expect(progress.at(-1)).toBe('');
});

/** Passes connections on to the server, as the machine that it stands for. */
async function standIn(port: number, onData = (_socket: Socket) => {}): Promise<Server> {
  const server = createServer((socket) => {
    const onward = connect(sshd.port, '127.0.0.1').on('error', () => socket.destroy());
    socket
      .on('error', () => onward.destroy())
      .on('data', () => onData(socket))
      .pipe(onward)
      .pipe(socket);
  }).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

test('a machine that boots is waited for, and gets the command once', async () => {
  const port = await freePort();
  const marks = join(folder, 'marks');
  const progress: string[] = [];
  let server: Promise<Server> | undefined;
  const onProgress = (text: string) => {
    progress.push(text);
    // It has refused one connection by then.
    server ??= standIn(port);
  };
  const command = `echo ran >> '${marks}'; echo done`;
  const result = await call({ port, command, seconds: 60, onProgress });
  (await server)?.close();
  expect(result).toMatchObject({ out: 'done\n', exitCode: 0, hostKey: 'pinned' });
  expect(readFileSync(marks, 'utf8')).toBe('ran\n');
  expect(progress[0]).toBe(`waiting until ${instanceId} answers to SSH: 0 s`);
  expect(progress.at(-1)).toBe('');
});

test('a host key taken on trust by an attempt that failed is not told to be known', async () => {
  const knownHosts = join(folder, 'cut');
  writeFileSync(knownHosts, '');
  let cut = 0;
  // The first connection breaks once the key is written, before the log-in.
  const server = await standIn(0, (socket) => {
    if (cut === 0 && readFileSync(knownHosts, 'utf8') && ++cut) socket.destroy();
  });
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const result = await call({ port, knownHosts });
  expect([cut, result]).toEqual([1, expect.objectContaining({ out: 'hello\n', exitCode: 0, hostKey: 'pinned' })]);
  expect(await call({ knownHosts })).toMatchObject({ hostKey: 'known' });
});

test('a machine that never answers is given up at the deadline; an abort ends the wait with its reason', async () => {
  const port = await freePort();
  const start = Date.now();
  const error = await failed({ port, seconds: 1 });
  expect(error.name).toBe('SshUnreachable');
  expect(error.message).toMatch(/^not within 1 s: .*ECONNREFUSED/);
  expect(Date.now() - start).toBeGreaterThan(900);
  expect(Date.now() - start).toBeLessThan(60_000);

  const stop = new AbortController();
  const reason = new Error('enough');
  expect(await failed({ port, signal: stop.signal, seconds: 600, onProgress: () => stop.abort(reason) })).toBe(reason);
});

test('another machine under the same id is refused at once and sent nothing; under an id of its own it is trusted', async () => {
  const knownHosts = join(folder, 'one');
  const mark = join(folder, 'mark');
  expect(await call({ knownHosts })).toMatchObject({ hostKey: 'pinned' });
  const other = await startSshd();
  try {
    const { port, privateKey: keyFile } = other;
    const error = await failed({ knownHosts, port, keyFile, command: `touch '${mark}'`, seconds: 600 });
    expect(error.name).toBe('SshHostKeyChanged');
    expect(() => statSync(mark)).toThrow('ENOENT');
    const another = { ...running, InstanceId: 'i-0fedcba9876543210' };
    const options = { knownHosts, port, keyFile, instanceId: another.InstanceId };
    expect(await call(options, answering(another))).toMatchObject({ hostKey: 'pinned', exitCode: 0 });
  } finally {
    await other.stop();
  }
});

test('a key that the instance does not know is said at once', async () => {
  const keyFile = join(folder, 'stranger');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile]);
  expect(await failed({ keyFile, seconds: 600 })).toMatchObject({ name: 'SshAuthenticationFailed' });
});

test('a command whose connection is lost is not sent again', async () => {
  const marks = join(folder, 'lost');
  writeFileSync(marks, '');
  const command = `echo $$ >> '${marks}'; exec sleep 200`;
  const ending = failed({ command, seconds: 600 });
  await expect.poll(() => readFileSync(marks, 'utf8'), { timeout: 60_000 }).toMatch(/\d\n/);
  for (const session of sshd.sessions()) process.kill(session, 'SIGKILL');
  expect(await ending).toMatchObject({ name: 'SshConnectionLost' });
  const pids = readFileSync(marks, 'utf8').trim().split('\n').map(Number);
  for (const pid of pids) process.kill(pid);
  expect(pids).toHaveLength(1);
});

test('a command that a signal ends has the exit status of a shell', async () => {
  expect(await call({ command: 'kill -TERM $$' })).toMatchObject({ exitCode: 143, signal: 'SIGTERM' });
});

test('Ctrl-C and a reader that has seen enough end the command, too', async () => {
  const options = `--key-file ${sshd.privateKey} --known-hosts ${folder}/ends`;
  const chatty = `'while echo more; do sleep 0.1; done'`;
  const interrupt = { signal: 'SIGINT', after: 200 };
  const [stopped, piped] = await Promise.all([
    spawn(`${chatty} ${options}`, { interrupt }),
    spawn(`${chatty} ${options} | head -1`),
  ]);
  expect(stopped).toMatchObject({ code: 130, stderr: 'Interrupted.\n' });
  expect(stopped.stdout).toMatch(/^(more\n)+$/);
  expect(piped).toEqual({ code: 0, stdout: 'more\n', stderr: '' });
  await expect.poll(() => sshd.sessions(), { timeout: 60_000 }).toEqual([]);
});

test('nothing at the address is told in a line or two: exit 1', async () => {
  const options = `--key-file ${sshd.privateKey} --known-hosts ${folder}/closed --seconds 0`;
  const result = await spawn(`uptime ${options} --port ${await freePort()}`);
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(/^Error: .*ECONNREFUSED.* Is the instance running, the address public/);
});
