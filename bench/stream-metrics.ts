/**
 * What recipe 2.27 takes for a million lines from standard input: how long, and how much memory at most. They go to a
 * server here that takes them as CloudWatch does, counts them back, and sees that no call breaks a limit of
 * PutMetricData. Three inputs: values that repeat, values that don't, and lines of which hardly two are of one metric
 * and minute. Every thousandth line is a bad one.
 */
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { print } from '../shared/output.ts';

const count = Number(process.argv[2] ?? 1_000_000);
const recipe = join(import.meta.dirname, '../recipes/ec2/27-stream-metrics.ts');
/** Tells at the end how much memory the process had at most, in KiB. */
const tell = `data:text/javascript,process.on('exit',()=>process.stderr.write('maxRSS '+process.resourceUsage().maxRSS))`;

interface Datum {
  Values: number[];
  Counts: number[];
}
const seen = { calls: 0, data: 0, stored: 0, sum: 0, most: { data: 0, bytes: 0, values: 0, atOnce: 0 } };
let [now, largest] = [0, seen.most];
const server = createServer(async (request, response) => {
  largest.atOnce = Math.max(largest.atOnce, ++now);
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const sent = Buffer.concat(chunks);
  const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
  const { MetricData } = JSON.parse(body.toString()) as { MetricData: Datum[] };
  seen.calls += 1;
  seen.data += MetricData.length;
  largest.data = Math.max(largest.data, MetricData.length);
  largest.bytes = Math.max(largest.bytes, body.length);
  for (const { Values, Counts } of MetricData) {
    largest.values = Math.max(largest.values, Values.length);
    for (const [at, value] of Values.entries()) {
      seen.stored += Counts[at] as number;
      seen.sum += value * (Counts[at] as number);
    }
  }
  // As far away as another region.
  setTimeout(() => {
    now -= 1;
    response.setHeader('content-type', 'application/x-amz-json-1.0').end('{}');
  }, 50);
}).listen(0, '127.0.0.1');
await new Promise((ready) => server.once('listening', ready));
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const minute = Math.floor(Date.now() / 60_000);
const inputs: Record<string, (index: number) => { host: number; ago: number; value: number }> = {
  'values repeat': (index) => ({ host: index % 20, ago: index % 60, value: index % 1000 }),
  'values differ': (index) => ({ host: index % 20, ago: index % 60, value: index / 7 }),
  'minutes differ': (index) => ({ host: index % 90, ago: Math.floor(index / 90) % 17_000, value: index / 7 }),
};

const rows: object[] = [];
for (const [input, of] of Object.entries(inputs)) {
  Object.assign(seen, { calls: 0, data: 0, stored: 0, sum: 0 });
  largest = { data: 0, bytes: 0, values: 0, atOnce: 0 };
  let [good, sum] = [0, 0];
  const start = performance.now();
  const args = ['--import', 'tsx', '--import', tell, recipe, '--endpoint-url', url, '--json', '--namespace', 'Bench'];
  const env = { ...process.env, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1' };
  const child = spawn(process.execPath, args, { cwd: join(import.meta.dirname, '..'), env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const closed = new Promise((resolve) => child.on('close', resolve));
  for (let index = 0; index < count; ) {
    let lines = '';
    for (const end = Math.min(index + 1000, count); index < end; index++) {
      const { host, ago, value } = of(index);
      const isBad = index % 1000 === 500;
      if (!isBad) [good, sum] = [good + 1, sum + value];
      const time = new Date((minute - ago) * 60_000).toISOString();
      lines += `{"metricName":"M","value":${isBad ? 'NaN' : value},"unit":"Count","time":"${time}","dimensions":{"Host":"host-${host}"}}\n`;
    }
    if (!child.stdin.write(lines)) await new Promise((drained) => child.stdin.once('drain', drained));
  }
  child.stdin.end();
  await closed;

  const seconds = (performance.now() - start) / 1000;
  const said = JSON.parse(stdout);
  const peak = Number(/maxRSS (\d+)/.exec(stderr)?.[1]) / 1024;
  const bad = (stderr.match(/^line \d*501: /gm) ?? []).length;
  const checks: Record<string, boolean> = {
    'the lines are all counted': said.lines === count && said.stored === good && said.bad === count - good,
    'the bad ones are named': bad === count - good,
    'the values that were sent have arrived': seen.stored === good && Math.abs(seen.sum / sum - 1) < 1e-9,
    'no call is over a limit': largest.data <= 1000 && largest.bytes <= 1_000_000 && largest.values <= 150,
    'no more than 2 calls ran at once': largest.atOnce <= 2,
    'the memory is under 200 MB': peak * 1.048576 < 200,
  };
  for (const [check, holds] of Object.entries(checks)) {
    if (holds) continue;
    console.error(`${input}: not true that ${check}`);
    process.exitCode = 1;
  }
  rows.push({
    input,
    stored: seen.stored,
    bad,
    calls: seen.calls,
    data: seen.data,
    ...{ most: `${largest.data} data, ${Math.round(largest.bytes / 1000)} KB, ${largest.values} values` },
    peak: `${Math.round(peak * 1.048576)} MB`,
    seconds: seconds.toFixed(1),
  });
}
server.close();
const date = new Date().toISOString().slice(0, 10);
console.log(`${date}, Node.js ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, ${count} lines\n`);
print(rows);
