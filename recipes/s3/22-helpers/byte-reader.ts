/** Reads a stream of bytes into buffers, and never further ahead than it must. */
import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';

export interface ByteReader {
  /**
   * Fills the buffer. It is not full only where the stream ends; to know whether it ends with the last byte of the
   * buffer, one chunk more is waited for.
   */
  fill(buffer: Buffer): Promise<{ length: number; isLast: boolean }>;
  /** Lets go of the stream and the signal; what has not been read is thrown away. */
  close(): void;
}

/**
 * Begins to read.
 *
 * @param body - Its chunks may have any length, none too.
 * @param signal - Ends the wait for the next chunk, even of a source that never gives one.
 * @throws TypeError, by `fill`, when a chunk is something else than bytes; what the source throws; the signal's reason.
 * @see https://nodejs.org/docs/latest-v20.x/api/stream.html#readablesymbolasynciterator
 *
 * @example
 * const { fill } = readBytes(process.stdin, AbortSignal.timeout(60_000));
 * const buffer = Buffer.allocUnsafe(1000);
 * console.log((await fill(buffer)).isLast ? 'all of it' : 'there is more');
 */
export function readBytes(body: AsyncIterable<Uint8Array>, signal: AbortSignal): ByteReader {
  // A stream of the web can't be told to stop while a chunk is waited for; one of Node's can.
  const source = body instanceof ReadableStream ? Readable.fromWeb(body) : body;
  const iterator = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let rest: Uint8Array = new Uint8Array();
  let isAtEnd = false;

  // One listener for all chunks: a promise of the abort to race with each would keep something of each of them.
  let stop = (_: unknown) => {};
  const onAbort = () => stop(signal.reason);
  signal.addEventListener('abort', onAbort);
  const nextChunk = () => {
    signal.throwIfAborted();
    return new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
      stop = reject;
      iterator.next().then(resolve, reject);
    });
  };

  return {
    async fill(buffer) {
      let length = 0;
      while (!isAtEnd) {
        if (rest.length > 0) {
          if (length === buffer.length) break;
          const piece = rest.subarray(0, buffer.length - length);
          buffer.set(piece, length);
          length += piece.length;
          rest = rest.subarray(piece.length);
          continue;
        }
        const { done, value } = await nextChunk();
        if (done) isAtEnd = true;
        else if (value instanceof Uint8Array) rest = value;
        else throw new TypeError(`a chunk of the stream is of type ${typeof value}, not bytes`);
      }
      return { length, isLast: isAtEnd };
    },
    close() {
      signal.removeEventListener('abort', onAbort);
      // What waits for a chunk hears of a return only after that chunk, so a stream is told otherwise.
      if (source instanceof Readable) source.destroy();
      else iterator.return?.().catch(() => {});
    },
  };
}
