/**
 * How long recipe 3.13 takes to upload 1 GiB, beside s5cmd, rclone, the AWS CLI and boto3, each with its own defaults: to
 * versitygw on a memory file system, and to a server that throws it away, over http and https. What versitygw has
 * stored is compared with the file; of what went to the other server the bytes are counted.
 * `npx tsx bench/upload.ts [ROUNDS] [BYTES]`; https needs `openssl`, for a certificate.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import {
  type Contender,
  cleanEnvironment,
  compare,
  fastFolder,
  findPeers,
  machine,
  ours,
  report,
  type Server,
  startGateway,
} from './compare.ts';

const rounds = Number(process.argv[2] ?? 5);
const size = Number(process.argv[3] ?? 2 ** 30);
const bucket = 'bench-upload';

console.log(`${machine()}, ${size / 2 ** 20} MiB, medians of ${rounds} rounds`);
const peers = await findPeers();
const folder = fastFolder();
const [certificate, key] = [join(folder.path, 'cert.pem'), join(folder.path, 'key.pem')];
try {
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2', '-nodes'];
  const words = ['req', '-x509', '-newkey', 'rsa:2048', '-keyout', key, '-out', certificate, ...names];
  execFileSync('openssl', words, { stdio: 'ignore' });
  const file = join(folder.path, 'file.bin');
  await makeFile(file);
  const sha = await hashOf(file);

  const objects = join(folder.path, 'objects');
  mkdirSync(join(objects, bucket), { recursive: true });
  const gateway = await startGateway(objects);
  if (gateway) {
    // versitygw keeps an object as a file of its own.
    const check = async ({ name }: { name: string }) => {
      if ((await hashOf(join(objects, bucket, name))) !== sha) throw new Error(`${name} stored something else`);
    };
    const prepare = ({ name }: { name: string }) => rm(join(objects, bucket, name), { force: true });
    const all = contenders(gateway, file, { prepare, check });
    report('versitygw, http', await compare(all, { rounds }).finally(gateway.stop));
  }
  for (const isSecure of [false, true]) {
    const server = await startDiscard(isSecure);
    const check = ({ name }: { name: string }) => {
      // Some send their checksums in between.
      const came = server.came();
      if (came < size || came > size * 1.01) throw new Error(`${name} sent ${came} bytes`);
    };
    const all = contenders(server, file, { prepare: server.came, check });
    const title = `a server that throws it away, ${isSecure ? 'https' : 'http'}`;
    report(title, await compare(all, { rounds }).finally(server.stop));
  }
} finally {
  folder.remove();
}

/** The same upload by each program that is here, under its own name. */
function contenders(
  { url, env }: Server,
  file: string,
  around: { prepare: (one: { name: string }) => unknown; check: (one: { name: string }) => unknown },
): Contender[] {
  const target = (name: string) => `s3://${bucket}/${name}`;
  const boto = `import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).upload_file(*sys.argv[2:])`;
  const rcloneOptions = ['--s3-endpoint', url, '--s3-no-check-bucket', '--s3-no-head', '--ca-cert', certificate];
  const commands: Record<string, string[]> = {
    '3.13': [...ours('recipes/s3/13-upload-large-object.ts'), file, target('3.13'), '--endpoint-url', url],
    s5cmd: ['s5cmd', '--endpoint-url', url, 'cp', file, target('s5cmd')],
    // Without a look at the object afterwards, which the server that throws it away does not have.
    rclone: ['rclone', ...rcloneOptions, 'copyto', file, `:s3,provider=Other,env_auth=true:${bucket}/rclone`],
    aws: ['aws', '--endpoint-url', url, 's3', 'cp', '--no-progress', file, target('aws')],
    boto3: ['python3', '-c', boto, url, file, bucket, 'boto3'],
  };
  return Object.entries(commands)
    .filter(([name]) => name === '3.13' || peers.has(name))
    .map(([name, command]) => ({
      ...{ name, command },
      // rclone has an option for it, and fails over the AWS SDK's variable.
      env: Object.fromEntries(Object.entries(env).filter(([one]) => name !== 'rclone' || one !== 'AWS_CA_BUNDLE')),
      prepare: () => around.prepare({ name }),
      check: () => around.check({ name }),
    }));
}

/** Starts bench/discard.py; over TLS the variables make all programs trust its certificate. */
async function startDiscard(isSecure: boolean): Promise<Server & { came: () => number }> {
  const words = [join(import.meta.dirname, 'discard.py'), ...(isSecure ? [certificate, key] : [])];
  const child = spawn('python3', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let bytes = 0;
  const port = await new Promise<number>((resolve, reject) => {
    child.on('error', reject).on('exit', () => reject(new Error('bench/discard.py has ended')));
    createInterface(child.stdout).on('line', (line) => {
      if (line.startsWith('port ')) resolve(Number(line.slice(5)));
      else bytes += Number(line);
    });
  });
  const trusted = { NODE_EXTRA_CA_CERTS: certificate, SSL_CERT_FILE: certificate, AWS_CA_BUNDLE: certificate };
  return {
    url: `http${isSecure ? 's' : ''}://127.0.0.1:${port}`,
    env: { ...cleanEnvironment(), ...(isSecure && trusted) },
    /** How much came since it was last asked. */
    came: () => {
      const came = bytes;
      bytes = 0;
      return came;
    },
    stop: async () => {
      child.kill();
    },
  };
}

async function makeFile(path: string): Promise<void> {
  const handle = await open(path, 'w');
  for (let left = size; left > 0; left -= 2 ** 24) await handle.write(randomBytes(Math.min(left, 2 ** 24)));
  await handle.close();
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash);
  return hash.digest('hex');
}
