/** A file that is read in parts, each with its CRC32, and watched for changes meanwhile. */
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';

export interface SourceFile {
  /** In bytes, when it was opened. */
  size: number;
  /**
   * Reads a part and returns its CRC32. What is longer than the buffer goes through it piece by piece; of anything
   * else the buffer begins with all of it afterwards. The signal stops it.
   */
  read(buffer: Buffer, start: number, length: number, signal?: AbortSignal): Promise<number>;
  /** A part as a stream, for what is too long to be held in memory. */
  stream(start: number, length: number): Readable;
  /** Throws when the file was written to since it was opened. */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a file.
 *
 * @param path - Of a regular file.
 * @throws RangeError when there is no such file, it may not be read, or it is something else, such as a pipe.
 * @see https://nodejs.org/docs/latest-v20.x/api/fs.html#filehandlereadbuffer-offset-length-position
 *
 * @example
 * const file = await openFile('video.mp4');
 * const checksum = await file.read(Buffer.alloc(65_536), 0, file.size);
 * console.log(`${file.size} bytes, CRC32 ${checksum}`);
 */
export async function openFile(path: string): Promise<SourceFile> {
  const unreadable = ({ code }: NodeJS.ErrnoException) => {
    throw new RangeError(`${path} can't be read (${code})`);
  };
  // To open a pipe would wait for somebody to write to it.
  if (!(await stat(path).catch(unreadable)).isFile()) throw new RangeError(`${path} is no regular file`);
  const handle = await open(path).catch(unreadable);
  const before = await handle.stat({ bigint: true });
  return {
    size: Number(before.size),
    async read(buffer, start, length, signal) {
      let checksum = 0;
      for (let done = 0; done < length; ) {
        if (signal?.aborted) {
          const { message = signal.reason } = Object(signal.reason);
          throw Object.assign(new Error(message, { cause: signal.reason }), { name: 'AbortError' });
        }
        const at = done % buffer.length;
        const most = Math.min(buffer.length - at, length - done);
        const { bytesRead } = await handle.read(buffer, at, most, start + done);
        if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`);
        checksum = crc32(buffer.subarray(at, at + bytesRead), checksum);
        done += bytesRead;
      }
      return checksum;
    },
    stream(start, length) {
      return createReadStream(path, { fd: handle.fd, autoClose: false, start, end: start + length - 1 });
    },
    async checkUnchanged() {
      const { size, mtimeNs } = await handle.stat({ bigint: true });
      if (size !== before.size || mtimeNs !== before.mtimeNs) throw new Error(`${path} changed while it was read`);
    },
    close: () => handle.close(),
  };
}
