/** A file that is filled part by part, in any order and over several runs, for 3.14. Two files until it is whole. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface PartialFile {
  /** Where the bytes are until the end: `NAME.HASH.part`, beside the file. Which parts they are is in `….part.done`. */
  path: string;
  /** To write and read the bytes with. */
  handle: FileHandle;
  /** Numbers of the parts that are there, from 0. */
  kept: Set<number>;
  /** Notes that a part was written. */
  keep: (part: number) => Promise<void>;
  /** Gives the file its name, and replaces the one that has it. */
  finish: () => Promise<void>;
  /** Closes it for now. */
  close: () => Promise<void>;
  /** Closes it and removes it for good. */
  discard: () => Promise<void>;
}

/**
 * Opens what an earlier run left of a file, or begins anew.
 *
 * @param options.file - Path of the file to be.
 * @param options.contents - What is in it and how it is parted. What an earlier run left counts only if this is the same.
 * @throws ENOENT when there is no such folder; ENOSPC and the like.
 * @see https://nodejs.org/api/fs.html#class-filehandle
 *
 * @example
 * const { handle, kept, keep, finish } = await openPartial({ file: 'cat.mov', contents: { etag: '"1"', size: 8 } });
 * if (!kept.has(0)) await handle.write('all of it').then(() => keep(0));
 * await finish();
 */
export async function openPartial({ file, contents }: { file: string; contents: object }): Promise<PartialFile> {
  // Beside the file, since it can be renamed only within a file system. A hash, since a name has at most 255 bytes.
  const hash = createHash('sha256').update(basename(file)).digest('hex').slice(0, 8);
  const path = join(dirname(file), `${basename(file).slice(0, 50)}.${hash}.part`);
  const record = `${path}.done`;
  const removeBoth = () => Promise.all([path, record].map((name) => rm(name, { force: true })));

  const title = `${JSON.stringify(contents)}\n`;
  const noted = await readFile(record, 'utf8').catch(() => '');
  // A last line without its end is not whole.
  const whole = noted.slice(0, noted.lastIndexOf('\n') + 1);
  const there = whole.startsWith(title) ? await open(path, 'r+').catch(() => null) : null;
  if (there && whole.length < noted.length) await truncate(record, Buffer.byteLength(whole));
  // Never a file that is there already: another run may be writing to it.
  if (!there) await removeBoth();
  const handle = there ?? (await open(path, 'wx+'));
  // Another run that takes these files over makes its own: what this one notes then must not get into those.
  const notes = await open(record, there ? 'a' : 'ax');
  if (!there) await notes.appendFile(title);
  const lines = there ? whole.slice(title.length).split('\n').slice(0, -1) : [];
  const kept = new Set(lines.map(Number));

  const close = async () => {
    await Promise.all([handle.close(), notes.close()]);
  };
  // Another run, for a newer object, may have put a file of its own in this one's place.
  const isMine = async () => {
    const there = await stat(path, { bigint: true }).catch(() => null);
    return (await handle.stat({ bigint: true })).ino === there?.ino;
  };
  return {
    path,
    handle,
    kept,
    async keep(part) {
      // On the disk before it is noted, or a power cut could leave the note and take the bytes.
      await handle.datasync();
      await notes.appendFile(`${part}\n`);
      kept.add(part);
    },
    async finish() {
      await handle.sync();
      const mine = await isMine();
      await close();
      if (!mine) throw new Error(`another run has taken or finished ${path}`);
      await rename(path, file);
      await rm(record, { force: true });
    },
    close,
    async discard() {
      // It may be closed already, and renamed.
      const mine = await isMine().catch(() => false);
      await close();
      if (mine) await removeBoth();
    },
  };
}
