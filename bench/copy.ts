/**
 * How long it takes to copy 10,000 small objects from one bucket to another within the server: this cookbook's 3.15,
 * which keeps all that an object has, and with `--plain`, beside s5cmd, rclone and the AWS CLI, which send one request
 * for most objects as `--plain` does. From versitygw on a memory file system, with connections kept open as S3 does.
 * All are commands, from start to end; afterwards every copy is compared. Ratios count, seconds don't.
 *
 * `npx tsx bench/copy.ts [ROUNDS] [OBJECTS] [ONLY]`; ONLY is a pattern for the names of those to run.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import pMap from 'p-map';
import {
  type Contender,
  cleanEnvironment,
  compare,
  fastFolder,
  findPeers,
  machine,
  ours,
  report,
  startGateway,
} from './compare.ts';

const [first = '3', second = '10000', only = ''] = process.argv.slice(2);
const [rounds, count] = [Number(first), Number(second)];
const [source, target] = ['bench-source', 'bench-target'];
const names = Array.from({ length: count }, (_, index) => `${index % 100}/${index}.txt`);
const textOf = (name: string) => `Dear ${name}, `.repeat(40);

console.log(`${machine()}, ${count} objects, medians of ${rounds} rounds`);
const peers = await findPeers();
const { path: folder, remove } = fastFolder();
try {
  for (const bucket of [source, target]) mkdirSync(join(folder, bucket));
  const gateway = await startGateway(folder, { keepAlive: true });
  if (gateway) await measure(gateway.url).finally(gateway.stop);
} finally {
  remove();
}

async function measure(url: string): Promise<void> {
  const env = cleanEnvironment();
  const credentials = { accessKeyId: `${env.AWS_ACCESS_KEY_ID}`, secretAccessKey: `${env.AWS_SECRET_ACCESS_KEY}` };
  const s3 = new S3Client({ endpoint: url, region: 'us-east-1', forcePathStyle: true, credentials });
  const put = (name: string) =>
    s3.send(new PutObjectCommand({ Bucket: source, Key: `letters/${name}`, Body: textOf(name) }));
  await pMap(names, put, { concurrency: 32 });

  const from = `s3://${source}/letters/`;
  const to = `s3://${target}/letters/`;
  const remote = ':s3,provider=Other,env_auth=true';
  const recipe = [...ours('recipes/s3/15-copy-prefix.ts'), from, to, '--endpoint-url', url];
  const rclone = ['rclone', '--s3-endpoint', url, '--s3-no-check-bucket', 'copy'];
  const commands: Record<string, string[]> = {
    '3.15 --plain': [...recipe, '--plain'],
    '3.15': recipe,
    s5cmd: ['s5cmd', '--endpoint-url', url, 'cp', `${from}*`, to],
    rclone: [...rclone, `${remote}:${source}/letters`, `${remote}:${target}/letters`],
    aws: ['aws', '--endpoint-url', url, 's3', 'cp', '--recursive', '--only-show-errors', from, to],
  };
  const contenders = Object.entries(commands)
    .filter(([name]) => (name.startsWith('3.15') || peers.has(name)) && new RegExp(only).test(name))
    .map(
      ([name, command]): Contender => ({
        ...{ name, command, env },
        prepare: () => rmSync(join(folder, target, 'letters'), { recursive: true, force: true }),
        check: () => {
          // versitygw keeps an object as a file of its own.
          for (const one of names)
            if (readFileSync(join(folder, target, 'letters', one), 'utf8') !== textOf(one))
              throw new Error(`${name} made another ${one}`);
        },
      }),
    );
  report(`${count} small objects`, await compare(contenders, { rounds }));
}
