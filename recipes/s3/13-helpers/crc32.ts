/** What the CRC32 checksums of parts make together: the checksum of the whole, without reading it again. */

/**
 * Makes the checksum of a whole from those of its parts, as zlib's crc32_combine does. A CRC is the remainder of a
 * division of polynomials whose coefficients are bits. So to put bytes behind others is to multiply the remainder of
 * those before by x to the 8th for each new byte, and to add the remainder of the new ones.
 *
 * @param parts - Checksum and length in bytes of each part, in the order in which they stand.
 * @see https://github.com/madler/zlib/blob/develop/crc32.c
 *
 * @example
 * const parts = ['one', 'two'].map((text) => ({ checksum: crc32(text), length: text.length }));
 * const whole = combineCrc32(parts);
 * console.log(whole === crc32('onetwo'));
 */
export function combineCrc32(parts: Iterable<{ checksum: number; length: number }>): number {
  let whole = 0;
  for (const { checksum, length } of parts) whole = (multiply(powerOfX8(length), whole) ^ checksum) >>> 0;
  return whole;
}

/** A checksum as S3 writes it: four bytes, the highest first, in base64. */
export function base64(checksum: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(checksum);
  return bytes.toString('base64');
}

/** What CRC32 divides by. In these numbers the highest bit stands for 1, the next one for x, and so on. */
const divisor = 0xedb88320;

/** The product of two polynomials, as the remainder of the division. */
function multiply(a: number, b: number): number {
  let [product, shifted] = [0, b];
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= shifted;
    shifted = (shifted >>> 1) ^ (shifted & 1 ? divisor : 0);
  }
  return product >>> 0;
}

/** x to the 8th to the power of n, by squaring: 43 steps for a terabyte and more. */
function powerOfX8(n: number): number {
  let [power, square] = [2 ** 31, 2 ** 23];
  for (let left = n; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) power = multiply(power, square);
    square = multiply(square, square);
  }
  return power;
}
