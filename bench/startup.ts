/**
 * How long a recipe takes to answer `--help` and `--policy`, beside the least that such a command could take: a
 * script that imports commander and prints a line, run by tsx as well. All are run in turn, several times over, so
 * that whatever else the machine does falls on all of them. Ratios count, seconds don't.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { print } from '../shared/output.ts';

const root = join(import.meta.dirname, '..');
const rounds = Number(process.argv[2] ?? 15);
const folder = mkdtempSync(join(tmpdir(), 'paws-bench-'));
symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
const bare = join(folder, 'bare.ts');
writeFileSync(bare, `import { Command } from 'commander';\nconsole.log(new Command('bare').helpInformation());\n`);
const sdk = (service: string) => {
  const file = join(folder, `${service}.ts`);
  writeFileSync(
    file,
    `import { ${service}Client } from '@aws-sdk/client-${service.toLowerCase()}';\nconsole.log(${service}Client.name);\n`,
  );
  return file;
};

const commands: Record<string, string[]> = {
  'tsx and commander': [bare],
  'tsx and the S3 client': [sdk('S3')],
  '3.1 --help': [join(root, 'recipes/s3/01-create-bucket.ts'), '--help'],
  '3.1 --policy': [join(root, 'recipes/s3/01-create-bucket.ts'), '--policy'],
  'tsx and the EC2 client': [sdk('EC2')],
  '2.1 --help': [join(root, 'recipes/ec2/01-launch-instance.ts'), '--help'],
  '2.1 --policy': [join(root, 'recipes/ec2/01-launch-instance.ts'), '--policy'],
};
const times = new Map(Object.keys(commands).map((name) => [name, [] as number[]]));
for (let round = 0; round <= rounds; round++) {
  for (const [name, args] of Object.entries(commands)) {
    const start = performance.now();
    execFileSync(process.execPath, ['--import', 'tsx', ...args], { cwd: root, stdio: 'ignore' });
    // The first round only fills the caches.
    if (round > 0) times.get(name)?.push(performance.now() - start);
  }
}
rmSync(folder, { recursive: true });

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
const base = median(times.get('tsx and commander') ?? []);
const date = new Date().toISOString().slice(0, 10);
console.log(`${date}, Node.js ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, median of ${rounds} runs\n`);
print(
  [...times].map(([command, values]) => ({
    command,
    milliseconds: Math.round(median(values)),
    ratio: (median(values) / base).toFixed(2),
  })),
);
