/** Uploads a folder, for 3.12: all of it each time. */
import { setMaxListeners } from 'node:events';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { PutObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import mime from 'mime';
import pMap from 'p-map';

/**
 * Uploads all files of a folder, each under its path as key and with the content type that its ending says.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.directory - The folder. Hidden files and symbolic links in it are left out.
 * @param options.signal - Ends the work; what is uploaded stays.
 * @param options.onProgress - Called with the bytes that are sent, and the bytes to send.
 * @returns How many files were uploaded, and their bytes.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { uploaded } = await uploadFolder(s3, { bucket: 'my-company-web-site', directory: 'dist' });
 * console.log(`${uploaded} files uploaded`);
 */
export async function uploadFolder(
  s3: S3Client,
  options: {
    bucket: string;
    directory: string;
    signal?: AbortSignal;
    onProgress?: (progress: { bytes: number; total: number }) => void;
  },
): Promise<{ uploaded: number; size: number }> {
  const { bucket, directory, signal, onProgress } = options;
  if (signal) setMaxListeners(0, signal);
  const files: { path: string; key: string; size: number }[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const names = relative(directory, path).split(sep);
    // A link could lead out of the folder: none is followed, whether to a folder or to a file.
    if (!entry.isFile() || names.some((name) => name.startsWith('.'))) continue;
    files.push({ path, key: names.join('/'), size: (await stat(path)).size });
  }
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let bytes = 0;
  await pMap(
    files,
    async ({ path, key }) => {
      // Read whole, so that the SDK can send it again when the connection breaks.
      const Body = await readFile(path, { signal });
      const object = { Bucket: bucket, Key: key, Body, ContentType: contentType(path) };
      await s3.send(new PutObjectCommand(object), { abortSignal: signal });
      bytes += Body.length;
      onProgress?.({ bytes, total });
    },
    { concurrency: 8 },
  );
  return { uploaded: files.length, size: bytes };
}

/** Browsers guess the encoding of texts that don't tell it. */
function contentType(path: string): string {
  const type = mime.getType(path) ?? 'application/octet-stream';
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}
