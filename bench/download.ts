/**
 * How long recipe 3.14 takes to download 1 GiB to a file, beside s5cmd, rclone, the AWS CLI and boto3, from versitygw
 * on a memory file system, over http and https. Only the recipe compares the file with the object's checksum.
 * `npx tsx bench/download.ts [ROUNDS] [BYTES]`; https needs `openssl`, for a certificate.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { findProgram, freePort, spawnServer } from '../test/program.ts';
import { type Contender, cleanEnvironment, compare, fastFolder, findPeers, machine, ours, report } from './compare.ts';

const rounds = Number(process.argv[2] ?? 5);
const size = Number(process.argv[3] ?? 2 ** 30);
const gateway = findProgram('versitygw');
if (!gateway) throw new Error('versitygw is not here: test/install-servers');

const peers = await findPeers();
const { path: folder, remove } = fastFolder();
const [objects, file, certificate, key] = ['objects', 'file', 'cert.pem', 'key.pem'].map((name) =>
  join(folder, name),
) as [string, string, string, string];
mkdirSync(objects);
const data = Buffer.alloc(size, randomBytes(2 ** 20 + 7));
try {
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const keys = ['-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...keys, ...names], { stdio: 'ignore' });
  console.log(`\n${machine()}, ${rounds} rounds`);
  for (const scheme of ['http', 'https']) await measure(scheme);
} finally {
  remove();
}

async function measure(scheme: string): Promise<void> {
  const trust = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'AWS_CA_BUNDLE'].map((name) => [name, certificate]);
  const env: Record<string, string> = { ...cleanEnvironment(), ...(scheme === 'https' && Object.fromEntries(trust)) };
  const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = env;
  const port = await freePort();
  const server = spawnServer(
    gateway as string,
    [
      ...['--port', `127.0.0.1:${port}`, '--quiet'],
      ...(scheme === 'https' ? ['--cert', certificate, '--key', key] : []),
      ...['posix', objects],
    ],
    { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
  );
  await listening(port);
  const url = `${scheme}://127.0.0.1:${port}`;
  try {
    if (scheme === 'http') {
      const credentials = { accessKeyId, secretAccessKey };
      const s3 = new S3Client({ region: 'us-east-1', endpoint: url, forcePathStyle: true, credentials });
      await s3.send(new CreateBucketCommand({ Bucket: 'paws-example' }));
      await s3.send(new PutObjectCommand({ Bucket: 'paws-example', Key: 'big', Body: data }));
    }
    const object = 's3://paws-example/big';
    const rclone = ':s3,provider=Other,env_auth=true:paws-example/big';
    const boto = `import boto3; boto3.client('s3', endpoint_url='${url}').download_file('paws-example', 'big', '${file}')`;
    const recipe = ours('recipes/s3/14-download-large-object.ts');
    const commands: Record<string, string[]> = {
      s5cmd: ['s5cmd', '--endpoint-url', url, 'cp', object, file],
      'recipe 3.14': [...recipe, object, file, '--endpoint-url', url],
      rclone: ['rclone', '--s3-endpoint', url, '--ca-cert', certificate, 'copyto', rclone, file],
      aws: ['aws', '--endpoint-url', url, 's3', 'cp', object, file, '--no-progress'],
      boto3: ['python3', '-c', boto],
    };
    const contenders = Object.entries(commands)
      .filter(([name]) => name.startsWith('recipe') || peers.has(name))
      .map(
        ([name, command]): Contender => ({
          ...{ name, command },
          // rclone has an option for it, and fails over the AWS SDK's variable.
          env: Object.fromEntries(Object.entries(env).filter(([one]) => name !== 'rclone' || one !== 'AWS_CA_BUNDLE')),
          prepare: () => rmSync(file, { force: true }),
          check: () => {
            if (statSync(file).size !== size || !readFileSync(file).equals(data))
              throw new Error(`${name}: wrong bytes`);
          },
        }),
      );
    report(`${size / 2 ** 20} MiB to a file over ${scheme}`, await compare(contenders, { rounds }));
  } finally {
    server.kill('SIGKILL');
  }
}

/** Over https the server gives no answer to plain http, so only the connection is tried. */
async function listening(port: number): Promise<void> {
  for (const begun = Date.now(); Date.now() - begun < 60_000; await sleep(50)) {
    const socket = connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').catch(() => null);
    socket.destroy();
    if (open) return;
  }
  throw new Error('versitygw did not start');
}
