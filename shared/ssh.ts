/**
 * One command over SSH: the host key pinned on first use, the output streamed, the exit code handed back.
 * Imports nothing of this cookbook, so that it can be copied with a recipe. It reads no ~/.ssh/config, asks no
 * agent and never prompts.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { addAbortSignal, type Readable, type Writable } from 'node:stream';
// The default import, because Node.js can't tell the names that this CommonJS package exports.
import ssh2 from 'ssh2';

/** What to run where, and as whom: see the parameters of runOverSsh. */
export type SshOptions = Record<'host' | 'privateKey' | 'knownHosts' | 'hostKeyAlias' | 'command', string> &
  Record<'stdout' | 'stderr', Writable> &
  Partial<{ port: number; username: string; connectTimeout: number; signal: AbortSignal }>;

/** The exit code, or the signal (such as `SIGTERM`) that ended the command, and whether the host key is new here. */
export type SshResult = { exitCode: number | null; signal: string | null; hostKey: 'pinned' | 'known' };

// The types that EC2's images have. Not ssh-rsa, whose SHA-1 signatures are out of date: RSA keys sign with SHA-2.
const ALGORITHMS = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'rsa-sha2-512', 'rsa-sha2-256'] as const;

/** The lines that pin a key under a name. Passes over patterns, hashed names and lines with an @ marker. */
function pinnedLines(file: string, alias: string): string[] {
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line.trim().split(/\s/)[0]?.split(',').includes(alias));
}

/**
 * Runs one command on a machine over SSH and streams what it prints, no faster than the streams take it. A
 * command that fails is no error: look at the exit code.
 *
 * The first connection to an alias pins the host key, and later ones refuse any other. The key is written at the
 * key exchange, as OpenSSH does, and not after the log-in: when that fails (often a wrong user name), the next try
 * must meet the same machine. Names that an `ssh` with `HashKnownHosts` wrote (the default of Debian and Ubuntu) are
 * not recognised, and whatever key comes first is pinned beside them: give this one a file of its own. Where you edit
 * that by hand, end its last line.
 *
 * An abort closes the connection. Over there, a command that prints dies of that; a silent one runs on, as with
 * `ssh`, so put `timeout 60` before it where that matters.
 *
 * @param options - Where and as whom:
 *   `host` and `port` (22 by default) to connect to,
 *   `username` to log in as, `ec2-user` by default,
 *   `privateKey`, the path of the private key file, which has no passphrase,
 *   `knownHosts`, the path of the file that host keys are kept in, in OpenSSH's format; made when missing,
 *   `hostKeyAlias` that the host key is kept under: the instance's id, since EC2 uses addresses again.
 *   And what: the `command` for the user's shell over there, with an empty standard input,
 *   `stdout` and `stderr`, where its output goes; never ended,
 *   `connectTimeout`, the seconds until the log-in must be done, 20 by default; the command may take any time,
 *   `signal`, which ends the connection at once when aborted.
 * @returns How the command ended, once all that it printed is written. `exitCode` is null when a signal ended it.
 * @throws TypeError or RangeError for options that can't be. The signal's reason when it is aborted. What `stdout`,
 *   `stderr`, reading the private key or making the file of host keys fails with. Else an Error with one of these as `name`:
 *   `SshPrivateKeyUnusable` (with a passphrase, no key), `SshUnreachable` (refused, timed out, name not
 *   found: see `cause.code`), `SshNotAnswering` (connected, but no SSH log-in within `connectTimeout`),
 *   `SshHostKeyChanged` (nothing was sent), `SshAuthenticationFailed`, `SshConnectionLost` (the command's end is
 *   unknown), and with a `hostKey` that is `pinned` if the key was taken on trust before it failed.
 * @see https://github.com/mscdex/ssh2#client-methods
 * @see https://man.openbsd.org/sshd#SSH_KNOWN_HOSTS_FILE_FORMAT
 * @see https://man.openbsd.org/ssh_config#HostKeyAlias
 *
 * @example
 * const { stdout, stderr } = process;
 * const to = { host: '203.0.113.7', hostKeyAlias: 'i-0123456789abcdef0', knownHosts: 'known_hosts' };
 * const { exitCode } = await runOverSsh({ ...to, privateKey: 'key.pem', command: 'uptime', stdout, stderr });
 */
export async function runOverSsh(options: SshOptions): Promise<SshResult> {
  const { host, port = 22, username = 'ec2-user', privateKey, knownHosts: file, hostKeyAlias: alias } = options;
  const { command, stdout, stderr, connectTimeout = 20, signal } = options;
  // No host would mean this machine, and a comma, blank or * in an alias more than one name in the file.
  if (!host || !/^[\w.:-]+$/.test(alias)) throw new TypeError(`Not a host and an alias: '${host}', '${alias}'.`);
  signal?.throwIfAborted();
  const key = readFileSync(privateKey);

  // Made now, so that a file which can't be written is found out before anything is sent.
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  appendFileSync(file, '', { mode: 0o600 });
  // The pinned types first, for the server may have got a key of another type since.
  const known = pinnedLines(file, alias).join();
  const rank = (name: string) => Number(known.includes(` ${name.replace(/^rsa-.*/, 'ssh-rsa')} `));
  const algorithms = { serverHostKey: [...ALGORITHMS].sort((a, b) => rank(b) - rank(a)) };
  let hostKey: SshResult['hostKey'] = 'known';
  // The name of an error that comes at this stage, and what may help.
  let stage = ['SshPrivateKeyUnusable', `This takes off a passphrase: ssh-keygen -p -N '' -f '${privateKey}'`];
  const hostVerifier = (shown: Buffer) => {
    const entry = `${shown.toString('latin1', 4, 4 + shown.readUInt32BE())} ${shown.toString('base64')}`;
    // Read again, for another run may have pinned a key meanwhile.
    const pinned = pinnedLines(file, alias);
    if (pinned.length === 0) {
      appendFileSync(file, `${alias} ${entry}\n`);
      hostKey = 'pinned';
    } else if (!pinned.some((line) => line.includes(` ${entry}`))) {
      const print = createHash('sha256').update(shown).digest('base64').replace('=', '');
      stage = ['SshHostKeyChanged', `Its new key: SHA256:${print}. If trusted: ssh-keygen -R ${alias} -f '${file}'`];
      return false;
    }
    return true;
  };

  // A socket of our own: the client's end() and destroy() leave one half open when the server is silent.
  // Probed when idle, so that a machine which is gone without a word is given up within half a minute.
  const sock = connect({ host, port, keepAlive: true, keepAliveInitialDelay: 15_000 });
  if (signal) addAbortSignal(signal, sock);
  try {
    const login = { username, privateKey: key, readyTimeout: connectTimeout * 1000 };
    const client = new ssh2.Client().connect({ sock, ...login, algorithms, hostVerifier });
    stage = ['SshUnreachable', 'Is the instance running, the address public, the port open to you?'];
    const [exitCode, endedBy = null] = await new Promise<[(number | null)?, string?]>((resolve, reject) => {
      client.on('error', reject).on('close', () => reject(new Error('Closed by the other side')));
      client.on('connect', () => (stage = ['SshNotAnswering', 'An instance that is starting needs a minute.']));
      client.on('ready', () => {
        stage = ['SshConnectionLost', 'The connection was lost, and how the command ended is unknown.'];
        client.exec(command, (error, channel) => {
          if (error) return reject(error);
          // A command that reads its standard input would wait for ever.
          channel.eof();
          // The socket waits until all is written. Pausing the two streams is not enough: they share one window, and
          // what one of them reads lets the server send more for the other.
          let unwritten = 0;
          const pass = (from: Readable, to: Writable) =>
            from.on('data', (chunk: Buffer) => {
              unwritten++;
              sock.pause();
              // One listener, however many pieces wait: Node warns of more than ten.
              if (!to.listeners('error').includes(reject)) to.once('error', reject);
              to.write(chunk, (error) => {
                if (error) return reject(error);
                if (--unwritten > 0) return;
                for (const one of [stdout, stderr]) one.off('error', reject);
                sock.resume();
              });
            });
          pass(channel, stdout);
          pass(channel.stderr, stderr);
          const ends = Promise.all([once(channel, 'close'), once(channel.stderr, 'end')]);
          const written = (then: () => void) => stdout.write('', () => stderr.write('', then));
          ends.then(([[code, name]]) => written(() => resolve([code, name])), reject);
        });
      });
    });
    if (exitCode === undefined) throw new Error('No exit code came');
    return { exitCode, signal: endedBy, hostKey };
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    const cause = error as Error & { code?: string | number; level?: string };
    // Of the streams, which may also have been closed before: not the connection's failure.
    if ([stdout.errored, stderr.errored].includes(cause) || `${cause.code}`.startsWith('ERR_STREAM_')) throw cause;
    if (cause.level === 'client-authentication') stage = ['SshAuthenticationFailed', 'Is the user ec2-user or ubuntu?'];
    const [name, hint] = stage;
    // An error of several addresses has a code and no message.
    const message = `${username}@${host} port ${port} with ${privateKey}: ${cause.message || cause.code}. ${hint}`;
    throw Object.assign(new Error(message, { cause }), { name, hostKey });
  } finally {
    sock.destroy();
  }
}
