/** What is written from the headers: the README's index, `@output`, and the tour. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseHeader } from '../shared/header.ts';
import { checkBook } from './checks.ts';
import { withDocs } from './docs.ts';
import { sandbox } from './harness.ts';
import { withOutput } from './outputs.ts';
import { listRecipes, root } from './run.ts';

const { run } = sandbox(import.meta);
const readme = readFileSync(`${root}README.md`, 'utf8');
const recipes = listRecipes();

test('the README has every recipe, each call of the book, and the commands of today', () => {
  expect(withDocs(readme, recipes)).toBe(readme);
  for (const { number, title, file, book } of recipes) {
    expect(readme).toContain(`[${number} ${title}](${file})`);
    for (const line of book) expect(readme).toContain(`| \`${line.split(' → ')[0]}\` | [${number}`);
  }
  expect(readme).toMatch(/`ec2.run_instances` .*`RunInstancesCommand`/);
});

/** The texts of a file and of all that it builds on. */
function textsOf(path: string, seen = new Map<string, string>()): string[] {
  if (seen.has(path)) return [];
  const text = readFileSync(path, 'utf8');
  seen.set(path, text);
  for (const [, other = ''] of text.matchAll(/^(?:import|\}) .*?from '(\.[^']+)';$/gm))
    textsOf(join(path, '..', other), seen);
  return [...seen.values()];
}

test('what a recipe names for a call of the book is what it uses', () => {
  for (const { file, book } of recipes) expect(checkBook({ book }, textsOf(`${root}${file}`)), file).toEqual([]);
});

test('a README that is behind a header is noticed', () => {
  const [first, ...others] = recipes;
  expect(withDocs(readme, [{ ...(first as (typeof recipes)[0]), title: 'Another title' }, ...others])).not.toBe(readme);
  expect(() => withDocs('# no place', recipes)).toThrow('README.md has no place for index');
});

test('an output is written where the old one stood, and nothing else changes', () => {
  for (const { file, source, output } of recipes) {
    if (output === null) continue;
    const written = withOutput(source, 'one\n\nthree $& lines');
    expect(parseHeader(written, file)).toEqual({ ...parseHeader(source, file), output: 'one\n\nthree $& lines' });
    expect(withOutput(written, output)).toBe(source);
  }
});

test('the tour shows each command as a reader types it, with what it printed', async () => {
  const tour = await run('npx tsx test/tour.ts s3/create-bucket', { byTsx: true });
  expect(tour).toMatchObject({ code: 0, stderr: '' });
  expect(tour.stdout).toContain('3.1 Create a bucket\n$ npx tsx recipes/s3/01-create-bucket.ts paws-example --local\n');
  expect(tour.stdout).toContain('$ npx tsx recipes/setup/09-clean-up.ts s3://paws-example --local --yes\n');
  expect(tour.stdout).toMatch(/1 of 1 recipes worked on LocalStack\.\n$/);
});

test('the tour says what needs AWS, and what there is instead of an unknown name', async () => {
  const needsAws = await run('npx tsx test/tour.ts setup/measure-latency');
  expect(needsAws).toMatchObject({ code: 0, stdout: expect.stringContaining('needs AWS itself') });
  const unknown = await run('npx tsx test/tour.ts s3/nothing');
  expect(unknown).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('s3/create-bucket') });
});

test('the machinery stays smaller than the book', () => {
  const files = readdirSync(`${root}shared`).filter((name) => name.endsWith('.ts'));
  const code = files.flatMap((name) =>
    readFileSync(`${root}shared/${name}`, 'utf8')
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .split('\n')
      .filter((line) => line.trim() && !line.trim().startsWith('//')),
  );
  expect(code.length).toBeLessThanOrEqual(820);
});
