/**
 * How long it takes to add up the sizes of a million objects: this cookbook's 3.5 beside s5cmd, rclone, the AWS CLI and
 * boto3, whichever are on the PATH, all as commands, from start to end. They list from a server of this file, in a
 * process of its own, that answers at once or 100 ms later, as from far away. Each is looked at for the right result.
 * Ratios count, seconds don't.
 *
 * `npx tsx bench/list.ts [KEYS] [ROUNDS] [ONLY]`; ONLY is a pattern for the names of those to run.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Contender, cleanEnvironment, compare, findPeers, machine, ours, report } from './compare.ts';

const root = join(import.meta.dirname, '..');
const [first = '1000000', second = '3', only = ''] = process.argv.slice(2);
const count = Number(first);
const sizeOf = (index: number) => (index * 7919) % 1_000_003;
let sum = 0;
for (let index = 0; index < count; index++) sum += sizeOf(index);

if (second === 'serve') serve(Number(process.argv[4]));
else await measure(Number(second));

/** A server that has one bucket with `count` keys, each with one version, and lists them as S3 does. */
function serve(delay: number): void {
  // Folders of unequal size, days, and ids, as an application might write them.
  const keys = Array.from({ length: count }, (_, index) => {
    const folder = ['backups', 'invoices', 'photos', 'photos', 'users/export'][(index * 31) % 5];
    const day = new Date(Date.UTC(2024, 0, 1) + ((index * 2_654_435_761) % 1000) * 86_400_000);
    const id = ((index * 2_654_435_761) % 4_294_967_296).toString(16).padStart(8, '0');
    return `${folder}/${day.toISOString().slice(0, 10).replaceAll('-', '/')}/${id}-${index}.bin`;
  }).sort();
  const rest = (index: number) =>
    `<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>` +
    `<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>` +
    `<Size>${sizeOf(index)}</Size>`;
  const owner = `<Owner><ID>75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a</ID></Owner>`;
  const forms = {
    Contents: (key: string, index: number) => `<Key>${key}</Key>${rest(index)}<StorageClass>STANDARD</StorageClass>`,
    Version: (key: string, index: number) =>
      `<Key>${key}</Key><VersionId>3HL4kqtJvjVBH40Nrjfkd${index}</VersionId><IsLatest>true</IsLatest>${rest(index)}` +
      `<StorageClass>STANDARD</StorageClass>${owner}`,
  };
  // Written once, and sent from there.
  const written = Object.entries(forms).map(([name, form]) => {
    const offsets = new Float64Array(count + 1);
    const chunks: Buffer[] = [];
    let length = 0;
    for (const [index, key] of keys.entries()) {
      const chunk = Buffer.from(`<${name}>${form(key, index)}</${name}>`);
      chunks.push(chunk);
      length += chunk.length;
      offsets[index + 1] = length;
    }
    return { bytes: Buffer.concat(chunks), offsets };
  });
  /** The place of the first key after one. */
  const placeAfter = (key: string) => {
    let [low, high] = [0, count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] as string) <= key) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const last = '\uFFFF';
  const server = createServer(async (request, response) => {
    const [path = '', search] = (request.url ?? '').split('?');
    const query = new URLSearchParams(search);
    if (delay > 0) await new Promise((done) => setTimeout(done, delay));
    const [, bucket, key] = /^\/([^/]*)\/?(.*)$/.exec(path) ?? [];
    response.setHeader('content-type', 'application/xml');
    if (query.has('uploads')) return response.end('<ListMultipartUploadsResult></ListMultipartUploadsResult>');
    if (!bucket || key) return response.writeHead(404).end();
    const versions = query.has('versions');
    const { bytes, offsets } = written[versions ? 1 : 0] as (typeof written)[number];
    const prefix = query.get('prefix') ?? '';
    const after = query.get('start-after') ?? query.get('key-marker') ?? query.get('marker') ?? '';
    const token = query.get('continuation-token');
    const from = token ? Number(token) : placeAfter([after, prefix].sort()[1] as string);
    const to = placeAfter(prefix + last);
    const pageSize = Math.min(Number(query.get('max-keys') ?? 1000), 1000);
    const body: Buffer[] = [];
    let at = from;
    if (query.get('delimiter')) {
      for (let entries = 0; at < to && entries < pageSize; entries++) {
        const slash = (keys[at] as string).indexOf('/', prefix.length);
        const common = (keys[at] as string).slice(0, slash + 1);
        if (slash < 0) body.push(bytes.subarray(offsets[at], offsets[at + 1]));
        else body.push(Buffer.from(`<CommonPrefixes><Prefix>${common}</Prefix></CommonPrefixes>`));
        at = slash < 0 ? at + 1 : placeAfter(common + last);
      }
    } else {
      at = Math.min(from + pageSize, to);
      body.push(bytes.subarray(offsets[from], offsets[at]));
    }
    const goesOn = at < to;
    const mark = versions
      ? `<NextKeyMarker>${keys[at - 1]}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>`
      : `<NextContinuationToken>${at}</NextContinuationToken><NextMarker>${keys[at - 1]}</NextMarker>`;
    const encoding = query.has('encoding-type') ? '<EncodingType>url</EncodingType>' : '';
    const result = versions ? 'ListVersionsResult' : 'ListBucketResult';
    const head =
      `<?xml version="1.0" encoding="UTF-8"?>\n<${result} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
      `<Name>${bucket}</Name><Prefix>${prefix}</Prefix><MaxKeys>${pageSize}</MaxKeys>${encoding}` +
      `<IsTruncated>${goesOn}</IsTruncated>${goesOn ? mark : ''}`;
    response.end(Buffer.concat([Buffer.from(head), ...body, Buffer.from(`</${result}>`)]));
  });
  server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
}

/** Runs all in turn against a server with each delay. */
async function measure(rounds: number): Promise<void> {
  console.log(`${machine()}, ${count} keys, median of ${rounds} runs`);
  const peers = await findPeers();
  for (const delay of [0, 100]) {
    const serving = [import.meta.filename, `${count}`, 'serve', `${delay}`];
    const server = spawn(process.execPath, ['--import', 'tsx', ...serving], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: root,
    });
    const [port] = await once(server.stdout, 'data');
    const measured = await compare(contenders(`http://127.0.0.1:${`${port}`.trim()}`, peers), { rounds });
    report(`${delay} ms a page`, measured, { against: 's5cmd du' });
    server.kill();
  }
}

function contenders(url: string, peers: Set<string>): Contender[] {
  const recipe = [...ours('recipes/s3/05-bucket-size.ts'), 's3://bucket', '--endpoint-url', url, '--json'];
  const s5cmd = ['s5cmd', '--endpoint-url', url, 'du'];
  const remote = `:s3,provider=Other,env_auth,endpoint="${url}",force_path_style:bucket`;
  const boto3 = `import boto3
pages = boto3.client('s3', endpoint_url='${url}').get_paginator('list_objects_v2').paginate(Bucket='bucket')
print(sum(entry['Size'] for page in pages for entry in page['Contents']))`;
  const all: Record<string, string[]> = {
    '3.5 --current': [...recipe, '--current'],
    's5cmd du': [...s5cmd, 's3://bucket/*'],
    '3.5, versions': recipe,
    's5cmd du --all-versions': [...s5cmd, '--all-versions', 's3://bucket/*'],
    'rclone size': ['rclone', 'size', remote],
    'rclone size --fast-list': ['rclone', 'size', '--fast-list', remote],
    'aws s3 ls': ['aws', '--endpoint-url', url, 's3', 'ls', '--summarize', '--recursive', 's3://bucket'],
    boto3: ['python3', '-c', boto3],
  };
  const isHere = (name: string) => name.startsWith('3.5') || peers.has(name.split(' ')[0] as string);
  const check = (printed: string) => {
    if (!new RegExp(`\\b${sum}\\b`).test(printed)) throw new Error(`not ${sum} bytes: ${printed.slice(-500)}`);
  };
  return Object.entries(all)
    .filter(([name]) => isHere(name) && new RegExp(only).test(name))
    .map(([name, command]) => ({ name, command, env: cleanEnvironment(), check }));
}
