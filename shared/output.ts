/**
 * What a recipe shows: its result on standard output, as aligned text for people or as one JSON document; and
 * on standard error, only to a terminal, a line of progress that overwrites itself.
 */

import stringWidth from 'fast-string-width';
import prettyBytes from 'pretty-bytes';

/** Turns a field's value into text for people. */
export type Formats = Record<string, (value: never) => string>;

/** Whether results are printed as JSON from here on. */
export const printing = { json: false };

/**
 * Prints a result: a list as a table with a column a field, anything else as a line a field.
 *
 * @param result - A plain object, or a list of them.
 * @param formats - How to show single fields to people; JSON has the raw values.
 */
export function print(result: object, formats: Formats = {}): void {
  clearProgress();
  if (printing.json) console.log(JSON.stringify(result, null, 2));
  else if (!Array.isArray(result)) console.log(align(cells(result, formats)));
  else if (result.length === 0) console.log('none');
  else {
    const rows = result.map((row) => cells(row, formats));
    const table = align([(rows[0] ?? []).map(([name]) => name), ...rows.map((row) => row.map(([, value]) => value))]);
    // A table that the terminal would break is a list of records instead.
    const { isTTY, columns } = process.stdout;
    const isBroken = isTTY && table.split('\n').some((line) => stringWidth(line) > columns);
    console.log(isBroken ? rows.map(align).join('\n\n') : table);
  }
}

/** Shows what is being done, on standard error and only to a terminal; the next text overwrites it. */
export function progress(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text(what).slice(0, process.stderr.columns - 1)}`);
}

/** Shows how far a transfer is, with its rate, and the time left where the total is known. For `onProgress`. */
export function transferred({ bytes: done, total }: { bytes: number; total: number | null }): void {
  begun ??= { at: Date.now(), bytes: done };
  const rate = ((done - begun.bytes) * 1000) / Math.max(Date.now() - begun.at, 1);
  const share = total ? done / total : 0;
  const bar = total ? `[${'='.repeat(share * 20).padEnd(20)}] ${Math.floor(share * 100)} % of ${bytes(total)}, ` : '';
  const left = total && rate > 0 ? `, ${Math.ceil((total - done) / rate)} s left` : '';
  progress(`${bar}${bytes(done)}, ${bytes(rate)}/s${left}`);
}
let begun: { at: number; bytes: number } | undefined;

/** Formats a number of bytes for people: `1.5 MiB`. For `print`. */
export function bytes(size: number | null): string {
  return size === null ? '-' : prettyBytes(size, { binary: true });
}

/** Tells people, on standard error and only on a terminal, of what they should know and a program need not. */
export function warn(text: string): void {
  clearProgress();
  if (process.stderr.isTTY) process.stderr.write(`${printable(text)}\n`);
}

/** Takes the line of progress away, so that something that stays can be written. */
export function clearProgress(): void {
  progress('');
}

/** Pads the cells of each column to the width that the widest takes on a screen. */
function align(rows: string[][]): string {
  const widest = (column: number) => rows.reduce((most, row) => Math.max(most, stringWidth(row[column] ?? '')), 0);
  const widths = (rows[0] ?? []).map((_, column) => widest(column));
  const pad = (cell: string, column: number) => cell + ' '.repeat((widths[column] ?? 0) - stringWidth(cell));
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

/** Each field's name and value, as people read them. */
function cells(row: object, formats: Formats): [string, string][] {
  return Object.entries(row).map(([name, value]) => [label(name), text(formats[name]?.(value as never) ?? value)]);
}

function text(value: unknown): string {
  if (value === null) return '-';
  if (value === true) return 'yes';
  if (value === false) return 'no';
  if (value instanceof Date) return `${value.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  if (Array.isArray(value)) return value.map(text).join(', ') || '-';
  return printable(String(value)).replaceAll('\n', '\\x0a');
}

/** Spells out control characters but line feeds: the name of a thing must not be able to drive the reader's terminal. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n]/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** `instanceId` → `instance id` */
function label(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
