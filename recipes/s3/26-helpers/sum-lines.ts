/** Adds up the lines of an inventory's files, by storage class and by prefix, in bounded memory. */

/** How much of something there is. */
export interface Amount {
  objects: number;
  /** In bytes. */
  size: number;
}

/** More prefixes than these are counted together. */
const mostPrefixes = 10_000;
export const others = '(others)';

/** Sums of a file, or of all. Those that are to be added must share the prefixes that are counted by name. */
export type Sums = ReturnType<typeof newSums>;
export const newSums = (named = new Set<string>()) => ({
  named,
  current: { objects: 0, size: 0 },
  noncurrent: { objects: 0, size: 0 },
  deleteMarkers: 0,
  classes: new Map<string, Amount>(),
  prefixes: new Map<string, Amount>(),
});

/**
 * Adds the lines of one file as they come.
 *
 * @param sums - What to add to.
 * @param unpacked - The file's text, in pieces.
 * @param columns - The manifest's schema.
 * @param depth - How many parts of the keys, between slashes, make a prefix.
 * @throws SyntaxError when a line has no size, as in a file of another schema.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
 *
 * @example
 * const sums = newSums();
 * const file = (async function* () { yield Buffer.from('"bucket","logs/a","5"'); })();
 * await addLines(sums, file, ['Bucket', 'Key', 'Size'], 1);
 * console.log(sums.current.size);
 */
export async function addLines(
  sums: Sums,
  unpacked: AsyncIterable<Buffer>,
  columns: string[],
  depth: number,
): Promise<void> {
  const at = (name: string) => columns.indexOf(name);
  const [key, size, storageClass] = [at('Key'), at('Size'), at('StorageClass')];
  const [isLatest, isDeleteMarker] = [at('IsLatest'), at('IsDeleteMarker')];
  const decoder = new TextDecoder();
  const addLine = (line: string) => {
    if (!line) return;
    // Each value is in quotes. Keys are URL-encoded, and no other value has a quote in it.
    const values = line.slice(1, line.endsWith('\r') ? -2 : -1).split('","');
    if (values[isDeleteMarker] === 'true') {
      sums.deleteMarkers++;
      return;
    }
    // Empty for keys that stand for folders.
    const bytes = Number(values[size]);
    if (!(bytes >= 0)) throw new SyntaxError(`a line is not as the manifest says, ${columns.join(', ')}: ${line}`);
    // Where there are current versions only, the column is missing.
    addTo(values[isLatest] === 'false' ? sums.noncurrent : sums.current, 1, bytes);
    addAmount(sums.classes, values[storageClass] ?? 'unknown', 1, bytes);
    addAmount(sums.prefixes, nameOf(prefixOf(values[key] ?? '', depth), sums.named), 1, bytes);
  };
  let rest = '';
  for await (const chunk of unpacked) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) addLine(line);
  }
  addLine(rest);
}

/** The first parts of a key: `logs/2026/a` → `logs/` */
function prefixOf(key: string, depth: number): string {
  let end = 0;
  for (let part = 0; part < depth; part++) {
    const slash = key.indexOf('/', end);
    if (slash < 0) break;
    end = slash + 1;
  }
  return key.slice(0, end);
}

/** The name a prefix is counted by: its own if it is among the first, in whichever file they are. */
function nameOf(prefix: string, named: Set<string>): string {
  if (!named.has(prefix)) {
    if (named.size === mostPrefixes) return others;
    named.add(copied(prefix));
  }
  return prefix;
}

/** To keep a piece of a long string keeps all of that in memory. */
const copied = (text: string) => Buffer.from(text).toString();

function addTo(amount: Amount, objects: number, size: number): void {
  amount.objects += objects;
  amount.size += size;
}

function addAmount(amounts: Map<string, Amount>, name: string, objects: number, size: number): void {
  const amount = amounts.get(name);
  if (amount) addTo(amount, objects, size);
  else amounts.set(copied(name), { objects, size });
}

/** Adds the sums of one file to those of others. */
export function addSums(sums: Sums, { current, noncurrent, deleteMarkers, classes, prefixes }: Sums): void {
  addTo(sums.current, current.objects, current.size);
  addTo(sums.noncurrent, noncurrent.objects, noncurrent.size);
  sums.deleteMarkers += deleteMarkers;
  for (const [name, { objects, size }] of classes) addAmount(sums.classes, name, objects, size);
  for (const [name, { objects, size }] of prefixes) addAmount(sums.prefixes, name, objects, size);
}

/** Sorts amounts by size, then by number. */
export function largestFirst(amounts: Map<string, Amount>): [string, Amount][] {
  return [...amounts].sort(([, a], [, b]) => b.size - a.size || b.objects - a.objects);
}
