/**
 * A real OpenSSH server for tests: on a free port of the loopback address, for the user who runs the tests, with
 * keys of its own in a temporary folder. It touches nothing of the machine's own sshd.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { freePort } from './program.ts';

// It is seldom in the PATH, and wants to be called by its full path, for it starts itself again.
const folders = ['/usr/sbin', '/usr/local/sbin', ...(process.env.PATH ?? '').split(':'), '/opt/homebrew/sbin'];
/** Where the server is; undefined if it is not installed. */
export const sshdPath = folders.map((path) => join(path, 'sshd')).find((path) => existsSync(path));
export const sshdHint = "needs OpenSSH's server: apt install openssh-server";

export interface Sshd {
  port: number;
  /** The user who runs the tests, the only one who can log in. */
  username: string;
  /** The server's folder. Its authorized_keys may be added to. */
  folder: string;
  /** Path of an authorized private key (Ed25519, no passphrase). */
  privateKey: string;
  /** Process ids of what serves the connections that are open now. */
  sessions(): number[];
  /** What the server has logged. */
  log(): string;
  /** Ends the server, its sessions and their commands, and removes the folder unless it was given. */
  stop(): Promise<void>;
}

/** Makes a key pair with ssh-keygen, in OpenSSH's format unless `pem` is set (as EC2 gives RSA keys). */
export function makeKey(file: string, type: 'ed25519' | 'rsa', { passphrase = '', pem = false } = {}): string {
  const format = pem ? ['-m', 'PEM'] : [];
  execFileSync('ssh-keygen', ['-q', '-t', type, ...format, '-N', passphrase, '-C', 'test', '-f', file]);
  return file;
}

/** All processes under one, the children first. */
function childrenOf(parent: number, all = false): number[] {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  const pairs = lines.map((line) => line.trim().split(/\s+/).map(Number));
  const children = (of: number): number[] => pairs.flatMap(([pid = 0, ppid]) => (ppid === of ? [pid] : []));
  const below = (of: number): number[] => children(of).flatMap((pid) => [pid, ...below(pid)]);
  return all ? below(parent) : children(parent);
}

/**
 * Starts sshd and waits until it listens.
 *
 * @param options.folder - Where its keys are. A new one in the temporary folder when left out; what is there already
 *   is used again, so that a server can be started anew with the same keys.
 * @param options.hostKeys - The types of its host keys. Ed25519 and RSA by default.
 * @param options.config - More lines for its configuration, such as `RekeyLimit 1M`.
 * @throws Error that names the package to install where there is no sshd, or with sshd's own words.
 */
export async function startSshd({
  folder,
  hostKeys = ['ed25519', 'rsa'],
  config = [],
}: {
  folder?: string;
  hostKeys?: ('ed25519' | 'rsa')[];
  config?: string[];
} = {}): Promise<Sshd> {
  if (!sshdPath) throw new Error(sshdHint);
  // Where the service has never run, its folder for privilege separation is missing. Only root's sshd looks for it.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });

  const at = folder ?? mkdtempSync(join(tmpdir(), 'sshd-'));
  const privateKey = join(at, 'id_ed25519');
  const authorizedKeys = join(at, 'authorized_keys');
  if (!existsSync(privateKey)) {
    makeKey(privateKey, 'ed25519');
    appendFileSync(authorizedKeys, execFileSync('ssh-keygen', ['-y', '-f', privateKey]));
  }
  const hostKeyLines = hostKeys.map((type) => {
    const file = join(at, `ssh_host_${type}_key`);
    return `HostKey ${existsSync(file) ? file : makeKey(file, type)}`;
  });

  // Another process may take the port before sshd does.
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const settings = [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      ...hostKeyLines,
      `AuthorizedKeysFile ${authorizedKeys}`,
      'PidFile none',
      // The temporary folder is open to all, which it would refuse.
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PermitRootLogin prohibit-password',
      'LogLevel VERBOSE',
      ...config,
    ];
    const options = settings.flatMap((line) => ['-o', line]);
    const server = spawn(sshdPath, ['-D', '-e', '-f', '/dev/null', ...options], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    const listening = await new Promise<boolean>((resolve, reject) => {
      server.stderr.setEncoding('utf8').on('data', (text: string) => {
        log += text;
        if (log.includes('Server listening')) resolve(true);
      });
      server.on('error', reject);
      server.on('close', () => resolve(false));
    });
    if (!listening && attempt < 5 && log.includes('Address already in use')) continue;
    if (!listening) throw new Error(`sshd did not start: ${log}`);

    const pid = server.pid ?? 0;
    return {
      port,
      username: userInfo().username,
      folder: at,
      privateKey,
      sessions: () => childrenOf(pid),
      log: () => log,
      stop: async () => {
        // Each session has a process group of its own, so it takes its id. They come first, for the server to reap.
        for (const child of childrenOf(pid, true)) {
          try {
            process.kill(child, 'SIGKILL');
          } catch {
            // It has ended by itself.
          }
        }
        for (let i = 0; i < 40 && childrenOf(pid).length > 0; i++) await setTimeout(50);
        if (server.exitCode === null && server.signalCode === null) {
          server.kill();
          await once(server, 'exit');
        }
        if (!folder) rmSync(at, { recursive: true, force: true });
      },
    };
  }
}
