import { execFileSync, spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test as testAlways } from 'vitest';
import { runOverSsh, type SshOptions, type SshResult } from '../../shared/ssh.ts';
import { makeKey, type Sshd, sshdHint, sshdPath, startSshd } from '../sshd.ts';

const alias = 'i-0123456789abcdef0';
const repository = fileURLToPath(new URL('../..', import.meta.url));
// On a reader's machine there may be none; CI installs it, and fails when a test is skipped.
const test = testAlways.skipIf(!sshdPath);
if (!sshdPath) console.warn(`shared/ssh.ts is not tested: that ${sshdHint}`);
let sshd: Sshd;
let folder: string;
let knownHosts: string;

beforeAll(async () => {
  if (sshdPath) sshd = await startSshd();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ssh-test-'));
  knownHosts = join(folder, 'made', 'known_hosts');
  return () => rmSync(folder, { recursive: true, force: true });
});
afterAll(() => sshd?.stop());

interface Run extends Partial<SshOptions> {
  server?: Sshd;
  onOutput?: (text: string) => void;
}

/** Runs a command and collects what it prints. */
async function run({
  server = sshd,
  onOutput,
  ...options
}: Run = {}): Promise<SshResult & { out: string; err: string }> {
  const printed = { out: '', err: '' };
  const collect = (to: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        printed[to] += chunk;
        onOutput?.(printed[to]);
        done();
      },
    });
  const { port, username, privateKey } = server;
  const result = await runOverSsh({
    ...{
      host: '127.0.0.1',
      port,
      username,
      privateKey,
      knownHosts,
      hostKeyAlias: alias,
      command: 'echo hello',
      connectTimeout: 120,
    },
    ...{ stdout: collect('out'), stderr: collect('err') },
    ...options,
  });
  return { ...result, ...printed };
}

/** The error that a run ends with. */
async function failed(options: Run): Promise<Error> {
  const error = await run(options).then(
    (result) => new Error(`It did not fail: ${JSON.stringify(result)}`),
    (error: Error) => error,
  );
  // Nothing of a key may get into a message.
  expect(error.message).not.toContain('PRIVATE KEY');
  return error;
}

/** Waits for something that the server does a moment later. */
const soon = (check: () => unknown) => expect.poll(check, { timeout: 60_000 });

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A process that has ended may still be there as a zombie where nobody reaps it.
    return !execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).startsWith('Z');
  } catch {
    return false;
  }
}

test('runs a command, and pins the host key on first use', async () => {
  expect(await run()).toEqual({ exitCode: 0, signal: null, hostKey: 'pinned', out: 'hello\n', err: '' });

  const line = readFileSync(knownHosts, 'utf8');
  const publicKey = readFileSync(join(sshd.folder, 'ssh_host_ed25519_key.pub'), 'utf8').split(' ');
  expect(line).toBe(`${alias} ${publicKey[0]} ${publicKey[1]}\n`);
  expect(statSync(knownHosts).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'made')).mode & 0o777).toBe(0o700);

  expect(await run()).toMatchObject({ exitCode: 0, hostKey: 'known' });
  expect(readFileSync(knownHosts, 'utf8')).toBe(line);
});

test.each([
  ['ed25519', false],
  ['rsa', false],
  ['rsa', true],
] as const)('logs in with an %s key made by ssh-keygen (PEM: %s)', async (type, pem) => {
  const privateKey = makeKey(join(folder, 'key'), type, { pem });
  expect(await failed({ privateKey })).toMatchObject({ name: 'SshAuthenticationFailed' });
  appendFileSync(join(sshd.folder, 'authorized_keys'), readFileSync(`${privateKey}.pub`));
  expect(await run({ privateKey })).toMatchObject({ exitCode: 0, out: 'hello\n' });
});

test('a wrong key or user: says which user, and which users there are; the host key stays pinned', async () => {
  const privateKey = makeKey(join(folder, 'key'), 'ed25519');
  const error = await failed({ privateKey });
  expect(error).toMatchObject({ name: 'SshAuthenticationFailed', hostKey: 'pinned' });
  expect(error.message).toContain(sshd.username);
  expect(error.message).toContain(privateKey);
  expect(error.message).toMatch(/ec2-user.*ubuntu/);
  expect((await failed({ username: 'nobody-here' })).message).toContain('nobody-here');
  expect(await run()).toMatchObject({ hostKey: 'known' });
  await soon(() => sshd.sessions()).toEqual([]);
});

test('refuses a host key that has changed, sends nothing, and says how to forget the old one', async () => {
  await run();
  const before = readFileSync(knownHosts, 'utf8');
  const other = await startSshd();
  try {
    const error = await failed({ server: other });
    expect(error.name).toBe('SshHostKeyChanged');
    const shown = execFileSync('ssh-keygen', ['-lf', join(other.folder, 'ssh_host_ed25519_key')], {
      encoding: 'utf8',
    });
    expect(error.message).toContain(shown.split(' ')[1]);
    expect(readFileSync(knownHosts, 'utf8')).toBe(before);
    await soon(() => other.sessions()).toEqual([]);
    expect(other.log()).toContain('Connection from 127.0.0.1');
    // The log-in begins with the user's name.
    expect(other.log()).not.toMatch(/publickey|user/i);

    const forget = /ssh-keygen -R .*$/.exec(error.message)?.[0] ?? 'false';
    execFileSync('sh', ['-c', forget], { stdio: 'ignore' });
    expect(await run({ server: other })).toMatchObject({ hostKey: 'pinned', exitCode: 0 });
  } finally {
    await other.stop();
  }
});

test('keeps to the pinned key when the server gets one of another type', async () => {
  const keys = mkdtempSync(join(tmpdir(), 'sshd-keys-'));
  let server = await startSshd({ folder: keys, hostKeys: ['rsa'] });
  try {
    expect(await run({ server })).toMatchObject({ hostKey: 'pinned' });
    expect(readFileSync(knownHosts, 'utf8')).toContain(' ssh-rsa ');
    await server.stop();
    server = await startSshd({ folder: keys, hostKeys: ['ed25519', 'rsa'] });
    expect(await run({ server })).toMatchObject({ hostKey: 'known', exitCode: 0 });
    // The pinned one gone, the other is not taken for it.
    await server.stop();
    server = await startSshd({ folder: keys, hostKeys: ['ed25519'] });
    expect(await failed({ server })).toMatchObject({ name: 'SshHostKeyChanged' });
  } finally {
    await server.stop();
    rmSync(keys, { recursive: true });
  }
});

/** OpenSSH's own client, with the file that was written here. */
function realSsh(strictHostKeyChecking: string): string {
  const options = {
    ...{ HostKeyAlias: alias, UserKnownHostsFile: knownHosts, GlobalKnownHostsFile: '/dev/null' },
    ...{ StrictHostKeyChecking: strictHostKeyChecking, HashKnownHosts: 'no', BatchMode: 'yes' },
    ...{ IdentitiesOnly: 'yes' },
  };
  const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const to = ['-p', String(sshd.port), '-i', sshd.privateKey, `${sshd.username}@127.0.0.1`];
  return execFileSync('ssh', ['-F', '/dev/null', ...flags, ...to, 'echo from ssh'], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
}

test('ssh accepts the file that was written, beside entries of others', async () => {
  knownHosts = join(folder, 'known_hosts');
  writeFileSync(knownHosts, '# mine\ni-other,10.0.0.1 ssh-ed25519 AAAA\n\nlast ssh-rsa AAAA\n');
  expect(await run()).toMatchObject({ hostKey: 'pinned' });
  expect(readFileSync(knownHosts, 'utf8')).toContain('\nlast ssh-rsa AAAA\n');
  expect(realSsh('yes')).toBe('from ssh\n');
  writeFileSync(knownHosts, `${alias} ssh-ed25519 ${readFileSync(`${sshd.privateKey}.pub`, 'utf8').split(' ')[1]}\n`);
  expect(() => realSsh('yes')).toThrow(/Host key verification failed/);
});

test('accepts what ssh wrote, names unhashed', async () => {
  knownHosts = join(folder, 'known_hosts');
  realSsh('accept-new');
  const written = readFileSync(knownHosts, 'utf8');
  expect(await run()).toMatchObject({ hostKey: 'known' });
  expect(readFileSync(knownHosts, 'utf8')).toBe(written);
});

test('several first connections at once pin one line', async () => {
  const results = await Promise.all([run(), run(), run(), run()]);
  expect(results.filter(({ hostKey }) => hostKey === 'pinned')).toHaveLength(1);
  expect(readFileSync(knownHosts, 'utf8').trim().split('\n')).toHaveLength(1);
});

test('a host key that can not be kept is an error, and nothing is sent', async () => {
  writeFileSync(join(folder, 'file'), '');
  const error = await failed({ knownHosts: join(folder, 'file', 'known_hosts') });
  expect(error).toMatchObject({ code: expect.stringMatching(/ENOTDIR|EEXIST/) });
  await soon(() => sshd.sessions()).toEqual([]);
});

/** Runs Node.js without what the tests load into it, and returns what it printed. */
async function node(args: string[]): Promise<string> {
  const env = { ...process.env, NODE_OPTIONS: '' };
  const child = spawn(process.execPath, args, { cwd: repository, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    printed += text;
  });
  await once(child, 'close');
  return printed;
}

const unknownHost = `
import { runOverSsh } from ${JSON.stringify(new URL('../../shared/ssh.ts', import.meta.url).href)};
const options = JSON.parse(process.argv[2]);
runOverSsh({ ...options, stdout: process.stdout, stderr: process.stderr }).catch(({ name, message, cause }) =>
  console.log(JSON.stringify({ name, message, code: cause.code })));
`;

test('unreachable: a closed port, a name that does not exist', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address() as AddressInfo;
  closed.close();
  const refused = await failed({ port });
  expect(refused).toMatchObject({ name: 'SshUnreachable', cause: { code: 'ECONNREFUSED' } });
  expect(refused.message).toContain(`127.0.0.1 port ${port} with ${sshd.privateKey}: connect ECONNREFUSED`);

  // In a process of its own, for in this one the tests refuse all names but localhost before they are looked up.
  const script = join(folder, 'unknown.mts');
  writeFileSync(script, unknownHost);
  const { privateKey } = sshd;
  const options = {
    host: 'no-such-host.invalid',
    privateKey,
    knownHosts,
    hostKeyAlias: alias,
    command: 'true',
  };
  const unknown = JSON.parse(await node(['--import', 'tsx', script, JSON.stringify(options)]));
  expect(unknown.name).toBe('SshUnreachable');
  expect(unknown.code).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/);
  expect(unknown.message).toContain('no-such-host.invalid');
  expect(readFileSync(knownHosts, 'utf8')).toBe('');
});

test('a server that takes the connection and stays silent, or speaks another language', async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket.on('error', () => {}).resume())).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const start = Date.now();
  const error = await failed({ port, connectTimeout: 3 });
  expect(Date.now() - start).toBeGreaterThan(2950);
  expect(Date.now() - start).toBeLessThan(19_000);
  expect(error.name).toBe('SshNotAnswering');
  expect(error.message).toContain('Timed out while waiting for handshake');
  await soon(() => sockets.every((socket) => socket.readableEnded || socket.destroyed)).toBe(true);

  silent.on('connection', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  expect(await failed({ port, connectTimeout: 5 })).toMatchObject({ name: 'SshNotAnswering' });
  for (const socket of sockets) socket.destroy();
  silent.close();
});

test('a command that fails is no error: its exit code comes back', async () => {
  expect(await run({ command: 'exit 3' })).toMatchObject({ exitCode: 3, signal: null });
  expect(await run({ command: 'no-such-command' })).toMatchObject({ exitCode: 127 });
  // The exit code comes long after the end of the output.
  expect(await run({ command: 'exec >&- 2>&-; sleep 0.5; exit 4' })).toMatchObject({ exitCode: 4 });
});

test('a command that is ended by a signal', async () => {
  expect(await run({ command: 'kill -TERM $$' })).toMatchObject({ exitCode: null, signal: 'SIGTERM' });
});

test('keeps standard output and standard error apart, and gives an empty standard input', async () => {
  const command = 'cat; for i in 1 2 3; do echo out $i; echo err $i >&2; done';
  const result = await run({ command });
  expect(result).toMatchObject({ out: 'out 1\nout 2\nout 3\n', err: 'err 1\nerr 2\nerr 3\n', exitCode: 0 });
});

test('keys are exchanged again on the way, without a second pin', async () => {
  const server = await startSshd({ config: ['RekeyLimit 1M'] });
  try {
    const result = await run({ server, command: 'head -c 8000000 /dev/zero' });
    expect(result).toMatchObject({ exitCode: 0, hostKey: 'pinned' });
    expect(result.out).toHaveLength(8_000_000);
    expect(readFileSync(knownHosts, 'utf8').trim().split('\n')).toHaveLength(1);
  } finally {
    await server.stop();
  }
});

// In a process of its own, so that its memory is its own. At every 40 MB the consumer stalls: what is not held back
// at the source piles up, and is counted after a garbage collection.
const slowConsumer = `
import { Writable } from 'node:stream';
import { runOverSsh } from ${JSON.stringify(new URL('../../shared/ssh.ts', import.meta.url).href)};
const { run, stalls } = JSON.parse(process.argv[2]);
const sizes = { stdout: 0, stderr: 0 };
let held = 0;
const consumer = (name) => new Writable({
  write(chunk, encoding, done) {
    const before = sizes[name];
    sizes[name] += chunk.length;
    if (name !== stalls || Math.floor(before / 4e7) === Math.floor(sizes[name] / 4e7)) return setImmediate(done);
    setTimeout(async () => {
      // The least of several: buffers are freed some time after the collection that finds them.
      let least = Infinity;
      for (let i = 0; i < 10; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 50));
        least = Math.min(least, process.memoryUsage().arrayBuffers);
      }
      held = Math.max(held, least);
      done();
    }, 1000);
  },
});
const result = await runOverSsh({ ...run, stdout: consumer('stdout'), stderr: consumer('stderr') });
const done = Date.now();
process.on('exit', () => console.log(JSON.stringify({ ...result, ...sizes, held, lingered: Date.now() - done })));
`;

test.each([
  ['one stream', 'head -c 100000000 /dev/zero', 'stdout', 0],
  [
    'two streams, of which one stalls',
    'head -c 100000000 /dev/zero >&2 & head -c 100000000 /dev/zero; wait',
    'stdout',
    1e8,
  ],
])(
  '100 MB for a slow consumer are not held in memory, and nothing keeps the process: %s',
  async (_, command, stalls, stderr) => {
    const script = join(folder, 'slow.mts');
    writeFileSync(script, slowConsumer);
    const { port, username, privateKey } = sshd;
    const run = { host: '127.0.0.1', port, username, privateKey, knownHosts, hostKeyAlias: alias, command };
    const input = JSON.stringify({ run, stalls });
    const result = JSON.parse(await node(['--expose-gc', '--import', 'tsx', script, input]));
    expect(result).toMatchObject({ exitCode: 0, stdout: 1e8, stderr });
    expect(result.held).toBeGreaterThan(0);
    expect(result.held).toBeLessThan(20e6);
    expect(result.lingered).toBeLessThan(10_000);
  },
);

test('an abort half-way closes the connection at once and rejects with the reason', async () => {
  const abort = new AbortController();
  const reason = new Error('enough');
  let pid = 0;
  const error = await failed({
    command: 'echo $$; while echo more; do sleep 0.1; done',
    signal: abort.signal,
    onOutput: (text) => {
      if (pid || !text.includes('\n')) return;
      pid = Number.parseInt(text, 10);
      abort.abort(reason);
    },
  });
  expect(error).toBe(reason);
  await soon(() => sshd.sessions()).toEqual([]);
  await soon(() => isRunning(pid)).toBe(false);
});

test('an abort rejects at once while the consumer stalls, before anything is sent, and while connecting', async () => {
  const abort = new AbortController();
  const stalled = new Writable({ write: () => abort.abort() });
  const error = await failed({ command: 'echo x; sleep 5', stdout: stalled, signal: abort.signal });
  expect(error).toBe(abort.signal.reason);
  await soon(() => sshd.sessions()).toEqual([]);

  const before = sshd.log().length;
  expect(await failed({ signal: abort.signal })).toBe(abort.signal.reason);
  expect(sshd.log()).toHaveLength(before);

  const soonAborted = new AbortController();
  const connecting = failed({ signal: soonAborted.signal });
  soonAborted.abort();
  expect(await connecting).toBe(soonAborted.signal.reason);
});

test('a connection that is lost half-way', async () => {
  let pid = 0;
  const error = await failed({
    command: 'echo $$; exec sleep 200',
    onOutput: (text) => {
      pid = Number.parseInt(text, 10);
      for (const session of sshd.sessions()) process.kill(session, 'SIGKILL');
    },
  });
  process.kill(pid);
  expect(error.name).toBe('SshConnectionLost');
  expect(error.message).toMatch(/lost.*unknown/);
});

test('an output that fails ends the run with its error', async () => {
  const full = new Error('disk full');
  const broken = new Writable({ write: (_chunk, _encoding, done) => done(full) });
  expect(await failed({ command: 'echo x; sleep 5', stdout: broken })).toBe(full);
  expect(await failed({ stdout: new Writable().destroy() })).toMatchObject({ code: 'ERR_STREAM_DESTROYED' });
  await soon(() => sshd.sessions()).toEqual([]);
});

test('a slow output has one listener, however much waits for it', async () => {
  let most = 0;
  const slow = new Writable({
    write(_chunk, _encoding, done) {
      most = Math.max(most, this.listenerCount('error'));
      setTimeout(done, 1);
    },
  });
  await run({ command: 'head -c 1000000 /dev/zero', stdout: slow });
  expect(most).toBe(1);
});

test('leaves the streams open, and no listener on them or the signal', async () => {
  const output = new Writable({ write: (_chunk, _encoding, done) => done() });
  const { signal } = new AbortController();
  await run({ stdout: output, stderr: output, signal });
  expect(output.writable).toBe(true);
  expect(output.eventNames()).toEqual([]);
  await soon(() => getEventListeners(signal, 'abort')).toEqual([]);
});

test('a server that says good-bye with a number', async () => {
  // The message SSH_MSG_DISCONNECT, not encrypted yet: protocol error (2), and why.
  const why = Buffer.from('go away');
  const payload = Buffer.concat([Buffer.from([1, 0, 0, 0, 2, 0, 0, 0, why.length]), why, Buffer.alloc(4)]);
  const padding = 16 - ((payload.length + 5) % 8);
  const packet = Buffer.concat([Buffer.alloc(4), Buffer.from([padding]), payload, Buffer.alloc(padding)]);
  packet.writeUInt32BE(packet.length - 4);
  const server = createServer((socket) => {
    socket.on('error', () => {}).write('SSH-2.0-test\r\n');
    socket.once('data', () => socket.write(packet));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const error = await failed({ server: { ...sshd, port } });
  server.close();
  expect(error).toMatchObject({ name: 'SshNotAnswering', cause: { code: 2 } });
});

test('it returns once all is written, also where output and end come at once', async () => {
  // What the server says is handed on when it has been silent for 300 ms, all of it in one piece.
  const proxy = createServer((socket) => {
    const server = connect(sshd.port, '127.0.0.1');
    const said: Buffer[] = [];
    let quiet: NodeJS.Timeout | undefined;
    const handOn = () => socket.write(Buffer.concat(said.splice(0)));
    server
      .on('error', () => {})
      .on('data', (chunk) => {
        said.push(chunk);
        clearTimeout(quiet);
        quiet = setTimeout(handOn, 300);
      });
    socket
      .on('error', () => {})
      .on('close', () => {
        clearTimeout(quiet);
        server.destroy();
      });
    socket.pipe(server);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  onTestFinished(() => void proxy.close());
  const { port } = proxy.address() as AddressInfo;
  const written: string[] = [];
  const slow = () =>
    new Writable({
      write(chunk, _encoding, done) {
        setTimeout(() => {
          written.push(`${chunk}`);
          done();
        }, 500);
      },
    });
  const command = 'printf out; printf err >&2';
  await run({ server: { ...sshd, port }, command, stdout: slow(), stderr: slow() });
  expect(written.filter(Boolean).sort()).toEqual(['err', 'out']);
});

test('a private key that can not be used: missing, encrypted, public, not a key', async () => {
  const missing = await failed({ privateKey: join(folder, 'missing') });
  expect(missing).toMatchObject({ code: 'ENOENT', syscall: 'open' });
  for (const pem of [false, true]) {
    const privateKey = makeKey(join(folder, `encrypted-${pem}`), 'rsa', { passphrase: 'hidden words', pem });
    const encrypted = await failed({ privateKey });
    expect(encrypted).toMatchObject({ name: 'SshPrivateKeyUnusable' });
    expect(encrypted.message).toMatch(/passphrase.*ssh-keygen -p/);
    expect(encrypted.message).not.toContain('hidden');
  }
  expect(await failed({ privateKey: `${sshd.privateKey}.pub` })).toMatchObject({
    name: 'SshPrivateKeyUnusable',
  });
  writeFileSync(join(folder, 'text'), 'secret text');
  const text = await failed({ privateKey: join(folder, 'text') });
  expect(text).toMatchObject({ name: 'SshPrivateKeyUnusable' });
  expect(text.message).not.toContain('secret');
});

test('options that can not be are refused', async () => {
  expect(await failed({ host: '' })).toBeInstanceOf(TypeError);
  expect(await failed({ hostKeyAlias: 'i-1,*' })).toBeInstanceOf(TypeError);
  expect(await failed({ hostKeyAlias: 'i-1 ssh-rsa' })).toBeInstanceOf(TypeError);
  expect(await failed({ port: 70_000 })).toBeInstanceOf(RangeError);
});
