import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareKeys, type ListPage, splitList } from '../../../recipes/s3/05-helpers/split-list.ts';

interface Entry {
  key: string;
  version: number;
}

const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** A sorted list with some versions of each key, in pages; what is asked of it is counted. */
function listOf(keys: string[], { page = 3, versions = 1, wait = () => Promise.resolve() } = {}) {
  const sorted = [...new Set(keys)].sort(byBytes);
  const all = sorted.flatMap((key) => Array.from({ length: versions }, (_, version) => ({ key, version })));
  const asked = { pages: 0, now: 0, most: 0 };
  const list = async (after: string | null, next: number | null): Promise<ListPage<Entry, number>> => {
    asked.pages++;
    asked.most = Math.max(asked.most, ++asked.now);
    await wait();
    asked.now--;
    const found = all.findIndex(({ key }) => after === null || byBytes(key, after) > 0);
    const from = next ?? (found < 0 ? all.length : found);
    const to = from + page;
    return { entries: all.slice(from, to), next: to < all.length ? to : null };
  };
  return { all, list, asked };
}

const text = (characters: string, maxLength: number) =>
  fc.array(fc.constantFrom(...characters), { minLength: 1, maxLength }).map((parts) => parts.join(''));
const number = fc.nat(100_000);
/** Keys of one kind a set, as they are found in buckets, and as they are not. */
const kinds: Record<string, fc.Arbitrary<string>> = {
  'any text': fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }),
  'any characters, far apart': fc.string({ unit: 'grapheme', minLength: 1, maxLength: 6 }),
  ids: fc.uuid(),
  numbers: number.map(String),
  'numbers of one length': number.map((value) => `key-${String(value).padStart(9, '0')}`),
  dates: number.map((hour) => `logs/${new Date(hour * 3_600_000).toISOString().replaceAll('-', '/')}.gz`),
  'one deep prefix': text('0123456789abcdef', 6).map((id) => `data/production/eu-west-1/orders/backup/full/${id}`),
  'a chain of prefixes': fc.nat(60).chain((depth) => text('01', 4).map((rest) => 'a/'.repeat(depth) + rest)),
  'one character': fc.nat(300).map((length) => 'a'.repeat(length + 1)),
  'two characters': text('ab', 12),
  'two clusters': fc.boolean().chain((one) => number.map((rest) => (one ? 'aaaaaaaaaa/' : 'zzzzzzzzzz/') + rest)),
  'a cluster among few others': fc.oneof(
    { weight: 1, arbitrary: text('abcxyz', 8) },
    { weight: 20, arbitrary: number.map((rest) => `mmmmm/nnnnn-${rest}`) },
  ),
  'the longest keys': text('ab', 20).map((rest) => `${'k'.repeat(1004)}${rest}`),
  'sorted otherwise by JavaScript': text('\uFF21\uFFFD\u{10000}\u{10FFFF}a', 6),
  'slashes and dots': text('/.a', 10),
};

test.each(Object.entries(kinds))(
  '%s: every entry is handed out once, and no list asks for too much',
  async (_, kind) => {
    const sets = fc.record({
      keys: fc.array(kind, { maxLength: 200, size: 'max' }),
      page: fc.integer({ min: 1, max: 12 }),
      versions: fc.integer({ min: 1, max: 3 }),
      concurrency: fc.integer({ min: 1, max: 12 }),
      scheduler: fc.scheduler(),
      refusals: fc.infiniteStream(fc.boolean()),
    });
    await fc.assert(
      fc.asyncProperty(sets, async ({ keys, page, versions, concurrency, scheduler, refusals }) => {
        const wait = () => scheduler.schedule(Promise.resolve());
        const { all, list, asked } = listOf(keys, { page, versions, wait });
        const taken: Entry[] = [];
        const hasTime = () => refusals.next().value as boolean;
        const done = splitList(list, (entries) => taken.push(...entries), { concurrency, hasTime });
        await scheduler.waitFor(done);
        taken.sort((a, b) => byBytes(a.key, b.key) || a.version - b.version);
        expect(taken).toEqual(all);
        expect(asked.most).toBeLessThanOrEqual(concurrency);
        expect(asked.now).toBe(0);
        const needed = Math.ceil(all.length / page);
        // Wasted pages are no more than full ones, and 16 a slot; those under way are not counted yet.
        expect(asked.pages).toBeLessThanOrEqual(2 * needed + 17 * concurrency + 1);
      }),
      { numRuns: 40, interruptAfterTimeLimit: 150_000, markInterruptAsFailure: true },
    );
  },
);

test('without time to spare one page comes after the other, in order', async () => {
  const { all, list, asked } = listOf(
    Array.from({ length: 1000 }, (_, index) => `key-${index}`),
    { page: 10 },
  );
  const taken: Entry[] = [];
  await splitList(list, (entries) => taken.push(...entries), { concurrency: 16, hasTime: () => false });
  expect(taken).toEqual(all);
  expect(asked).toEqual({ pages: 100, now: 0, most: 1 });
});

const unlike = ['ids', 'numbers', 'numbers of one length', 'dates', 'one deep prefix', 'two clusters'];
test.each(unlike)('%s: 16 at once take less than a third of the turns', async (kind) => {
  const [keys = []] = fc.sample(
    fc.array(kinds[kind] as fc.Arbitrary<string>, { minLength: 2000, maxLength: 2000, size: 'max' }),
    {
      numRuns: 1,
      seed: 5,
    },
  );
  // All that are under way are answered at once, turn by turn.
  let [turns, waiting] = [0, [] as (() => void)[]];
  const wait = () => new Promise<void>((answer) => waiting.push(answer));
  const { all, list, asked } = listOf(keys, { page: 10, wait });
  let [count, done] = [0, false];
  const split = splitList(list, (entries) => (count += entries.length), { concurrency: 16, hasTime: () => true });
  split.then(() => (done = true));
  while (!done) {
    await new Promise((next) => setImmediate(next));
    if (waiting.length > 0) turns++;
    for (const answer of waiting.splice(0)) answer();
  }
  expect(count).toBe(all.length);
  expect(turns).toBeLessThan(all.length / 10 / 3);
  expect(asked.pages).toBeLessThan(all.length / 10 + 16 * 17);
});

test('where splitting leads nowhere, it ends before the requests are many more than needed', async () => {
  const keys = Array.from({ length: 2000 }, (_, index) => `${'a'.repeat(1 + (index % 90))}${index}`);
  const { all, list, asked } = listOf(keys, { page: 10 });
  let count = 0;
  const take = (entries: Entry[]) => {
    count += entries.length;
  };
  await splitList(list, take, { concurrency: 8, hasTime: () => true });
  expect(count).toBe(all.length);
  expect(asked.pages).toBeLessThan(2 * 200 + 17 * 8);
});

test('after an error nothing more is asked for, and what is under way is waited for', async () => {
  const { list, asked } = listOf(
    Array.from({ length: 1000 }, (_, index) => `${index}`),
    {
      wait: () => new Promise((done) => setTimeout(done, 5)),
    },
  );
  const failing = async (after: string | null, next: number | null) => {
    const page = await list(after, next);
    if (asked.pages > 40) throw new Error('Not today');
    return page;
  };
  const split = splitList(failing, () => {}, { concurrency: 8, hasTime: () => true });
  await expect(split).rejects.toThrow('Not today');
  expect(asked.now).toBe(0);
  expect(asked.most).toBe(8);
  const { pages } = asked;
  await new Promise((done) => setTimeout(done, 20));
  expect(asked.pages).toBe(pages);
});

test('an error of the one who takes entries ends it too', async () => {
  const { list } = listOf(['a', 'b']);
  const take = () => {
    throw new Error('Full');
  };
  await expect(splitList(list, take, { concurrency: 2, hasTime: () => true })).rejects.toThrow('Full');
});

test('keys are compared by their bytes', () => {
  const key = fc.string({ unit: 'binary', maxLength: 4 });
  const near = fc
    .tuple(key, fc.constantFrom('\uFF21', '\u{10000}', '\uD7FF', '\uE000', 'a'), key)
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(near, near, (a, b) => {
      expect(Math.sign(compareKeys(a, b))).toBe(Math.sign(byBytes(a, b)));
    }),
  );
  expect(compareKeys('\uFF21', '\u{10000}')).toBeLessThan(0);
});
