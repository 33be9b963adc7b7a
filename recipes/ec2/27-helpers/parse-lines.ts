/** Reads lines of JSON or CSV as data, for 2.27. */
import type { Datum } from '../14-store-metrics.ts';

export type Single = Datum & { value: number };

/** In characters. A line that is longer is a bad one. */
export const longestLine = 100_000;

/** Cuts chunks into lines. Of a line that is far too long only the beginning is kept. */
export async function* linesOf(input: AsyncIterable<string | Uint8Array>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of input) {
    const lines = (rest + (typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true }))).split(/\r?\n/);
    rest = (lines.pop() as string).slice(0, longestLine + 1);
    yield lines;
  }
  rest += decoder.decode();
  if (rest) yield [rest];
}

/** Finds out by the first line what the lines are. The names of CSV's columns are no datum, but null. */
export function parserFor(first: string): (line: string) => Single | null {
  if (first.trimStart().startsWith('{')) return parseJson;
  const names = cellsOf(first);
  if (!names.includes('metricName') || !names.includes('value')) {
    throw new RangeError(`the first line is neither JSON nor names with metricName and value: ${first.slice(0, 60)}`);
  }
  return (line) => {
    if (line === first) return null;
    const cells = cellsOf(line);
    if (cells.length !== names.length) throw new RangeError(`has ${cells.length} cells, not ${names.length}`);
    const there = names.map((name, at) => [name, cells[at]]).filter(([, cell]) => cell !== '');
    const { metricName, value = 'nothing', unit, time, ...dimensions } = Object.fromEntries(there);
    return { metricName, value: Number(value), unit, time: timeOf(time), dimensions };
  };
}

function parseJson(line: string): Single {
  const given = JSON.parse(line);
  const { metricName, value, unit, time, dimensions = {}, ...unknown } = given ?? {};
  for (const name of Object.keys(unknown)) throw new RangeError(`has a field "${name}" that is not known`);
  if (!dimensions || typeof dimensions !== 'object' || Array.isArray(dimensions))
    throw new TypeError('the dimensions must be an object');
  return { metricName, value, unit, time: timeOf(time), dimensions };
}

/** The cells of a line of CSV; in quotes, a cell may have commas and doubled quotes. */
function cellsOf(line: string): string[] {
  const cells = `${line},`.match(/("([^"]|"")*"|[^",]*),/g) ?? [];
  if (cells.join('') !== `${line},`) throw new RangeError('has a quote where none belongs');
  return cells.map((cell) => cell.slice(0, -1).replace(/^"|"$/g, '').replaceAll('""', '"').trim());
}

function timeOf(text: unknown): Date | undefined {
  if (text === undefined) return undefined;
  // Without its zone a time would be another one on another machine.
  const [, day] = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.exec(`${text}`) ?? [];
  // February 30 would become March 2.
  if (day) return new Date(new Date(day).getUTCDate() === Number(day.slice(8)) ? `${text}` : Number.NaN);
  throw new RangeError(`the time must be like 2026-11-24T20:00:00Z, not "${text}"`);
}
