/**
 * What recipe 3.18 takes for 1 GiB of access logs in 10,000 files, and what it spends it on: beside it are the same files
 * only fetched, by plain http without a word of S3, and the same lines only parsed, from memory on one core. The server is
 * of the bench's own: it lists and gives out files as S3 does, from memory.
 */
import { Agent, createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import pMap from 'p-map';
import { parseLogLine } from '../recipes/s3/18-helpers/log-record.ts';
import { cleanEnvironment, compare, machine, ours, report } from './compare.ts';

const [mode = '1024', ...args] = process.argv.slice(2);
const fileBytes = 107_374;
/** A few files that come again and again under new names: of 1,000 keys, 200 addresses and 50 roles. */
const files = Array.from({ length: 50 }, (_, file) => {
  let text = '';
  for (let line = 0; text.length < fileBytes - 700; line++) {
    const at = file * 200 + line;
    const path = `photos/2026/%25C3%25A9-${at % 1000}.jpg`;
    const time = new Date(Date.UTC(2026, 10, 28) + at * 1000).toISOString().slice(11, 19);
    const role = `arn:aws:sts::123456789012:assumed-role/role-${at % 50}/i-0123456789abcdef0`;
    const client =
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36';
    text += `79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be shop [28/Nov/2026:${time} +0000] 192.0.2.${at % 200} ${role} 3E57427F${at}EXAMPLE REST.GET.OBJECT ${path} "GET /${path.replaceAll('%25', '%')} HTTP/1.1" 200 - 113 4406583 17 7 "https://shop.example/albums/${at % 100}" "${client}" - s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 TLS_AES_128_GCM_SHA256 AuthHeader shop.s3.us-east-1.amazonaws.com TLSv1.3 - - us-east-1\n`;
  }
  return Buffer.from(text);
});

/** How many files make so many MiB. */
const fileCount = (mebibytes: number) => Math.round((mebibytes * 1_048_576) / fileBytes);

if (mode === 'parse') {
  const [count] = args;
  let seen = 0;
  for (let file = 0; file < Number(count); file++) {
    for (const line of (files[file % files.length] as Buffer).toString().split('\n')) if (parseLogLine(line)) seen++;
  }
  console.log(seen);
} else if (mode === 'fetch') {
  const [url, count] = args;
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const fetchOne = (file: number) =>
    new Promise<void>((resolve, reject) => {
      get(`${url}/logs/${file}`, { agent }, (answer) => answer.on('end', resolve).on('error', reject).resume());
    });
  await pMap(Array(Number(count)).keys(), fetchOne, { concurrency: 16 });
} else {
  await bench(fileCount(Number(mode)));
}

async function bench(count: number): Promise<void> {
  const name = (file: number) => `access/2026-11-28-10-00-00-${String(file).padStart(8, '0')}`;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://server');
    const file = /(\d+)$/.exec(pathname)?.[1];
    if (file !== undefined) {
      response.end(files[Number(file) % files.length]);
      return;
    }
    const from = Number(searchParams.get('continuation-token') ?? 0);
    const to = Math.min(from + Number(searchParams.get('max-keys') ?? 1000), count);
    let contents = '';
    for (let at = from; at < to; at++) {
      const { length } = files[at % files.length] as Buffer;
      contents += `<Contents><Key>${encodeURIComponent(name(at))}</Key><Size>${length}</Size></Contents>`;
    }
    const more = to < count ? `<NextContinuationToken>${to}</NextContinuationToken>` : '';
    response.end(`<?xml version="1.0"?><ListBucketResult>${contents}${more}</ListBucketResult>`);
  }).listen(0, '127.0.0.1');
  await new Promise((ready) => server.once('listening', ready));
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const lines = files.map((file) => file.toString().trim().split('\n').length);
  const requests = Array.from({ length: count }, (_, file) => lines[file % files.length] as number).reduce(
    (a, b) => a + b,
  );

  const recipe = ours('recipes/s3/18-read-access-logs.ts');
  const command = [...recipe, 's3://logs/access/', '--by', 'key', '--endpoint-url', at, '--json'];
  const check = (printed: string) => {
    const report = JSON.parse(printed);
    if (report.requests !== requests || report.files !== count) throw new Error(printed);
  };
  const self = ours('bench/read-logs.ts');
  console.log(`${machine()}\n${count} files, ${requests} requests`);
  const measured = await compare(
    [
      { name: 'recipe 3.18', command, env: cleanEnvironment(), check },
      { name: 'fetched only', command: [...self, 'fetch', at, `${count}`] },
      { name: 'parsed only', command: [...self, 'parse', `${count}`] },
    ],
    { rounds: 3 },
  );
  report(`3.18, ${mode} MiB of access logs`, measured, { against: 'parsed only' });
  server.close();
  server.closeAllConnections();
}
