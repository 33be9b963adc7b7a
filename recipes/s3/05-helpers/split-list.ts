/** Lists a long sorted list from several places at once, without knowing beforehand what is in it, for 3.5. */

import { type EventLoopUtilization, performance } from 'node:perf_hooks';

/** One page of the list. */
export interface ListPage<Entry, Next> {
  /** In the order of their keys; entries in a row may have the same key. */
  entries: Entry[];
  /** What the list needs to go on after this page; null at its end. */
  next: Next | null;
}

/** A part of the list that is not listed yet: the keys after one, up to and with another. */
interface Range<Next> {
  /** The last key seen, or the one that the range begins after; null: from the list's beginning. */
  after: string | null;
  next: Next | null;
  /** Null: to the list's end. */
  end: string | null;
  /** How many pages may be left; 0 until a page was seen that is not the last. */
  pagesLeft: number;
}

/** The characters seen in keys, as S3 sorts them, and which one of them each is, from 1. */
interface Alphabet {
  sorted: number[];
  ranks: Map<number, number>;
}

/**
 * Hands out every entry of a sorted list once, in no order. While there is time to spare, the range with most left
 * gives up its upper half, which is listed beside it from then on.
 *
 * @param list - Gets a page: the first one after a key (null: of all), or the one that `next` stands for.
 * @param take - Is given entries, those of up to a page at a time.
 * @param options.concurrency - How many pages are asked for at once, at most.
 * @param options.hasTime - Whether another page beside those under way would make it faster.
 * @returns When all entries were handed out; after an error, when no page is under way any more.
 * @throws What `list` or `take` throws first.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ListingKeysUsingAPIs.html
 *
 * @example
 * const keys = ['a', 'b'].map((key) => ({ key }));
 * const list = async (after: string | null) => ({ entries: keys.filter(({ key }) => key > (after ?? '')), next: null });
 * await splitList(list, (entries) => console.log(entries), { concurrency: 16, hasTime: () => true });
 */
export async function splitList<Entry extends { key: string }, Next>(
  list: (after: string | null, next: Next | null) => Promise<ListPage<Entry, Next>>,
  take: (entries: Entry[]) => void,
  { concurrency, hasTime }: { concurrency: number; hasTime: () => boolean },
): Promise<void> {
  const alphabet: Alphabet = { sorted: [], ranks: new Map() };
  const ranges = new Set<Range<Next>>();
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  // A split can turn out to be none: its upper half is empty, or most of its page was another range's.
  let [full, wasted] = [0, 0];

  const listRange = async (range: Range<Next>) => {
    while (!failure) {
      const { entries, next } = await list(range.after, range.next);
      // What lies beyond the end, which may have come nearer meanwhile, is another range's.
      const { end } = range;
      const own = end === null ? entries.length : countUpTo(entries, end);
      take(own === entries.length ? entries : entries.slice(0, own));
      if (own > entries.length / 2) full++;
      else wasted++;
      if (next === null || own < entries.length) break;
      const [first, last] = [entries[0]?.key ?? '', entries.at(-1)?.key ?? range.after ?? ''];
      for (let at = 0; at < entries.length; at += 100) learn(alphabet, entries[at]?.key ?? '');
      learn(alphabet, last);
      Object.assign(range, { after: last, next, pagesLeft: ratio(alphabet, first, last, end) });
      share();
    }
    ranges.delete(range);
    share();
  };
  const begin = (range: Range<Next>) => {
    ranges.add(range);
    const work = listRange(range)
      .catch((error) => {
        failure ??= { error };
      })
      .finally(() => running.delete(work));
    running.add(work);
  };
  const share = () => {
    // Some keys can't be split well by what is known of them. Then the requests must not be many more than needed.
    while (!failure && ranges.size < concurrency && wasted <= full + 16 * concurrency && hasTime()) {
      const [most] = [...ranges].sort((a, b) => b.pagesLeft - a.pagesLeft);
      if (!most || most.pagesLeft < 1) return;
      const middle = middleKey(alphabet, most.after ?? '', most.end);
      most.pagesLeft = middle === null ? 0 : most.pagesLeft / 2;
      if (middle === null) continue;
      begin({ after: middle, next: null, end: most.end, pagesLeft: 0 });
      most.end = middle;
    }
  };

  begin({ after: null, next: null, end: null, pagesLeft: 0 });
  while (running.size > 0) await Promise.all(running);
  if (failure) throw failure.error;
}

/**
 * Compares keys as S3 sorts them: by the bytes of UTF-8. JavaScript's own order differs beyond U+FFFF.
 *
 * @param a - A key.
 * @param b - Another key.
 * @returns Below 0 when `a` comes first, above 0 when `b` does.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ListingKeysUsingAPIs.html
 *
 * @example
 * const keys = ['\u{10000}', '\uFF21'];
 * console.log(keys.sort(compareKeys)[0] === '\uFF21');
 */
export function compareKeys(a: string, b: string): number {
  if (!/[\uD800-\uDFFF]/.test(a + b)) return a < b ? -1 : Number(a > b);
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Makes a clock that tells whether this process has been waiting for most of the last moments. Then there is time to
 * ask for more at once; else that would only make it busier.
 *
 * @returns To be called now and then, for `hasTime`.
 * @see https://nodejs.org/api/perf_hooks.html#performanceeventlooputilizationutilization1-utilization2
 *
 * @example
 * const isIdle = idleClock();
 * await new Promise((done) => setTimeout(done, 100));
 * console.log(isIdle());
 */
export function idleClock(): () => boolean {
  // From 50 to 100 ms back, so that neither one page nor the beginning decides.
  const marks: EventLoopUtilization[] = [performance.eventLoopUtilization()];
  let since = performance.now();
  return () => {
    const { utilization } = performance.eventLoopUtilization(marks[0]);
    if (performance.now() - since > 50) {
      since = performance.now();
      if (marks.push(performance.eventLoopUtilization()) > 2) marks.shift();
    }
    return utilization < 0.5;
  };
}

/** How many of the entries have a key up to `end`; by halving, for they are sorted. */
function countUpTo(entries: { key: string }[], end: string): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareKeys(entries[middle]?.key ?? '', end) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function learn(alphabet: Alphabet, key: string): void {
  const fresh = [...new Set(codePoints(key))].filter((char) => !alphabet.ranks.has(char));
  if (fresh.length === 0) return;
  alphabet.sorted = [...alphabet.sorted, ...fresh].sort((a, b) => a - b);
  alphabet.ranks = new Map(alphabet.sorted.map((char, index) => [char, index + 1]));
}

const codePoints = (key: string) => Array.from(key, (char) => char.codePointAt(0) as number);

/** A key as digits in a number system with a digit for each known character, and 0 for where the key has ended. */
const digits = ({ ranks }: Alphabet, key: string) => codePoints(key).map((char) => ranks.get(char) ?? 0);

/** The shortest beginning of the key half-way between two that lies between them, too; null if there is none. */
function middleKey(alphabet: Alphabet, low: string, high: string | null): string | null {
  // Added and halved as long numbers behind a point. The end of the list is 1, so there is a rest before the first.
  const [lower, upper] = [digits(alphabet, low), high === null ? [] : digits(alphabet, high)];
  const base = alphabet.sorted.length + 1;
  const middle: number[] = [];
  let rest = high === null ? 1 : 0;
  for (let at = 0; at <= Math.max(lower.length, upper.length); at++) {
    const sum = (lower[at] ?? 0) + (upper[at] ?? 0) + rest * base;
    middle.push(sum >> 1);
    rest = sum & 1;
  }
  // The sum of two digits has not been carried over yet.
  for (let at = middle.length - 1; at > 0; at--) {
    if ((middle[at] as number) < base) continue;
    middle[at] = (middle[at] as number) - base;
    middle[at - 1] = (middle[at - 1] as number) + 1;
  }
  let key = '';
  for (const digit of middle) {
    const char = alphabet.sorted[digit - 1];
    if (char === undefined) return null;
    key += String.fromCodePoint(char);
    // S3 takes no key over 1,024 bytes.
    if (Buffer.byteLength(key) > 1024) return null;
    if (compareKeys(key, low) > 0 && (high === null || compareKeys(key, high) < 0)) return key;
  }
  return null;
}

/** How much longer the way from `last` to `end` is than the one from `first` to `last`. */
function ratio(alphabet: Alphabet, first: string, last: string, end: string | null): number {
  const [from, at, to] = [digits(alphabet, first), digits(alphabet, last), digits(alphabet, end ?? '')];
  const same = end === null ? 0 : from.findIndex((digit, index) => digit !== to[index]);
  // A number has no room for more digits than these, after those that all three share.
  const value = (key: number[]) =>
    key
      .slice(Math.max(same, 0), Math.max(same, 0) + 8)
      .reduce((sum, digit, index) => sum + digit / (alphabet.sorted.length + 1) ** (index + 1), 0);
  const page = value(at) - value(from);
  return page > 0 ? ((end === null ? 1 : value(to)) - value(at)) / page : Number.MAX_VALUE;
}
