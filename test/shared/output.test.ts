/** How results are shown to people and to programs. */
import fc from 'fast-check';
import stringWidth from 'fast-string-width';
import { afterEach, expect, test, vi } from 'vitest';
import { bytes, print, progress, transferred, warn } from '../../shared/output.ts';

const log = vi.spyOn(console, 'log').mockImplementation(() => {});
afterEach(() => log.mockClear());

/** What was printed since the last call. */
function printed(): string {
  const text = log.mock.calls.flat().join('\n');
  log.mockClear();
  return text;
}

/** Makes a stream look like a terminal while something runs. */
function asTerminal(stream: NodeJS.WriteStream, columns: number, action: () => void): void {
  const { isTTY, columns: before } = stream;
  Object.assign(stream, { isTTY: true, columns });
  try {
    action();
  } finally {
    Object.assign(stream, { isTTY, columns: before });
  }
}

test('a result is a line a field, labelled in words, with each kind of value', () => {
  print({
    instanceId: 'i-1',
    note: null,
    public: true,
    encrypted: false,
    size: 1234567,
    launchedAt: new Date('2026-03-01T09:08:07.654Z'),
    zones: ['a', 'b'],
    volumes: [],
    flags: [true, null],
    name: '',
  });
  expect(printed()).toBe(`instance id  i-1
note         -
public       yes
encrypted    no
size         1234567
launched at  2026-03-01 09:08:07 UTC
zones        a, b
volumes      -
flags        yes, -
name`);
});

test('a list is a table with a column a field', () => {
  print([
    { id: 'i-1', state: 'running', publicAddress: null },
    { id: 'i-22', state: 'stopped', publicAddress: '192.0.2.1' },
  ]);
  expect(printed()).toBe(`id    state    public address
i-1   running  -
i-22  stopped  192.0.2.1`);
});

test('an empty list is said to be empty', () => {
  print([]);
  expect(printed()).toBe('none');
});

test('formatters show single fields, and leave the others alone', () => {
  const sizes = { size: (bytes: number) => `${bytes / 1024} KiB` };
  print([{ key: 'a', size: 2048 }], sizes);
  expect(printed()).toBe('key  size\na    2 KiB');
  print({ key: 'a', size: 2048 }, sizes);
  expect(printed()).toBe('key   a\nsize  2 KiB');
});

test('wide characters are counted as a screen shows them', () => {
  print([
    { key: '日本', size: 1 },
    { key: 'e\u0301', size: 2 },
    { key: '👩‍👩‍👧', size: 3 },
    { key: 'plain', size: 4 },
  ]);
  expect(printed()).toBe(`key    size
日本   1
e\u0301      2
👩‍👩‍👧     3
plain  4`);
});

test('the columns of any table begin at the same place in each line', () => {
  const cell = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constant('日本'), fc.integer());
  fc.assert(
    fc.property(fc.array(fc.record({ a: cell, b: fc.constant('|') }), { minLength: 1 }), (rows) => {
      print(rows);
      const lines = printed().split('\n').slice(1);
      const widths = lines.map((line) => stringWidth(line.slice(0, line.lastIndexOf('|'))));
      expect(new Set(widths).size).toBe(1);
    }),
  );
});

test('control characters are made harmless, in values, lists, formatted values and progress', () => {
  const nasty = 'a\x1b[2J\r\n\x7f\x9b\0b';
  const harmless = 'a\\x1b[2J\\x0d\\x0a\\x7f\\x9b\\x00b';
  print({ key: nasty, keys: [nasty], url: nasty }, { url: (key: string) => `s3://${key}` });
  expect(printed()).toBe(`key   ${harmless}\nkeys  ${harmless}\nurl   s3://${harmless}`);
  print([{ key: nasty }]);
  expect(printed()).toBe(`key\n${harmless}`);
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  asTerminal(process.stderr, 80, () => progress(nasty));
  expect(write.mock.calls).toEqual([[`\r\x1b[K${harmless}`]]);
  write.mockRestore();
});

test('progress is cut to a line of the terminal, and nothing is written where there is none', () => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  progress('to a pipe');
  expect(write).not.toHaveBeenCalled();
  asTerminal(process.stderr, 10, () => progress('uploading everything'));
  expect(write.mock.calls).toEqual([['\r\x1b[Kuploading']]);
  write.mockRestore();
});

test('a table wider than the terminal becomes a record a row; a pipe gets the table', () => {
  const rows = [
    { id: 'i-1', name: 'web server', state: 'running' },
    { id: 'i-2', name: 'database', state: 'stopped' },
  ];
  const table = `id   name        state
i-1  web server  running
i-2  database    stopped`;
  asTerminal(process.stdout, 24, () => print(rows));
  expect(printed()).toBe(table);
  asTerminal(process.stdout, 23, () => print(rows));
  expect(printed()).toBe(`id     i-1
name   web server
state  running

id     i-2
name   database
state  stopped`);
  print(rows);
  expect(printed()).toBe(table);
});

test('JSON is one document of raw values, without the formatters', async () => {
  vi.resetModules();
  const { print, printing } = await import('../../shared/output.ts');
  printing.json = true;
  const row = { size: 2048, launched: new Date(0), note: null, keys: [], name: 'a\x1b' };
  print([row, row], { size: () => 'never' });
  expect(log).toHaveBeenCalledTimes(1);
  const text = printed();
  expect(text).not.toContain('\x1b');
  const raw = { ...row, launched: '1970-01-01T00:00:00.000Z' };
  expect(JSON.parse(text)).toEqual([raw, raw]);
  print([]);
  expect(printed()).toBe('[]');
});

test('a transfer shows how far it is, at which rate, and how long it still takes', () => {
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
  vi.useFakeTimers({ now: 0 });
  const shown = (progress: { bytes: number; total: number | null }) => {
    asTerminal(process.stderr, 100, () => transferred(progress));
    return write.mock.calls.pop()?.[0];
  };
  const MiB = 1024 ** 2;
  // What was there from an earlier run is no rate of this one's.
  expect(shown({ bytes: 10 * MiB, total: 100 * MiB })).toContain('10 % of 100 MiB, 10 MiB, 0 B/s');
  vi.setSystemTime(2000);
  expect(shown({ bytes: 30 * MiB, total: 100 * MiB })).toBe(
    '\r\x1b[K[======              ] 30 % of 100 MiB, 30 MiB, 10 MiB/s, 7 s left',
  );
  expect(shown({ bytes: 30 * MiB, total: null })).toBe('\r\x1b[K30 MiB, 10 MiB/s');
  vi.useRealTimers();
  write.mockRestore();
});

test('sizes are in binary units, and a warning is for a terminal', () => {
  expect([0, 1, 1024, 1536, 5 * 1024 ** 4].map(bytes)).toEqual(['0 B', '1 B', '1 KiB', '1.5 KiB', '5 TiB']);
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
  warn('look out');
  expect(write).not.toHaveBeenCalled();
  asTerminal(process.stderr, 100, () => warn('look out'));
  expect(write.mock.calls.flat()).toEqual(['\r\x1b[K', 'look out\n']);
  write.mockRestore();
});
