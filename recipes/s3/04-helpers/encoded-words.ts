/** Texts as HTTP headers can carry them, by RFC 2047: `Größe` is `=?UTF-8?B?R3LDtsOfZQ==?=`. For 3.4 and 3.7. */

/** One encoded word: charset (and, after a star, language), B or Q, and the encoded bytes. */
const word = /=\?([\w.:+-]+)(?:\*[\w-]*)?\?([bq])\?([^?]*)\?=/gi;
/** Words one after another. Space between two of them is not part of the text. */
const words = new RegExp(`${word.source}(?:\\s*${word.source})*`, 'gi');

/**
 * Encodes a text for a header. One that arrives as it is stays as it is.
 *
 * @param text - Of any characters.
 * @returns ASCII that `decodeText` turns into the text again.
 * @see https://www.rfc-editor.org/rfc/rfc2047
 *
 * @example
 * const encoded = encodeText('Größe');
 * const plain = decodeText(encoded);
 * console.log(encoded, plain); // =?UTF-8?B?R3LDtsOfZQ==?= Größe
 */
export function encodeText(text: string): string {
  // Space at the ends and several spaces may be lost on the way; and =? would be taken for an encoded word.
  if (/^([!-~]( ?[!-~])*)?$/.test(text) && !text.includes('=?')) return text;
  // A word has 75 characters at most, and none ends within a character: 45 bytes are 60 in base64.
  const chunks = [''];
  for (const character of text) {
    if (Buffer.byteLength(chunks.at(-1) + character) > 45) chunks.push('');
    chunks[chunks.length - 1] += character;
  }
  return chunks.map((chunk) => `=?UTF-8?B?${Buffer.from(chunk).toString('base64')}?=`).join(' ');
}

/**
 * Decodes what a header says. What is no encoded word, or can't be decoded, stays as it is.
 *
 * @param text - As it came, with words in base64 (B) or quoted (Q), of any charset that Node.js knows.
 * @returns The text that was encoded.
 * @see https://www.rfc-editor.org/rfc/rfc2047
 *
 * @example
 * const [q, b] = ['=?ISO-8859-1?Q?Gr=F6=DFe_10?=', '=?UTF-8?B?4oKs?='];
 * const text = decodeText(`${q} and ${b}`);
 * console.log(text); // Größe 10 and €
 */
export function decodeText(text: string): string {
  return text.replace(words, (run) => {
    // Some programs cut within a character: so bytes of the same charset are joined before they are decoded.
    const parts: { charset: string; bytes: Buffer[] }[] = [];
    for (const [, charset = '', encoding = '', encoded = ''] of run.matchAll(word)) {
      const bytes = /b/i.test(encoding) ? fromBase64(encoded) : fromQuoted(encoded);
      if (!bytes) return run;
      const last = parts.at(-1);
      if (last?.charset.toLowerCase() === charset.toLowerCase()) last.bytes.push(bytes);
      else parts.push({ charset, bytes: [bytes] });
    }
    try {
      return parts
        .map(({ charset, bytes }) => {
          return new TextDecoder(charset, { fatal: true, ignoreBOM: true }).decode(Buffer.concat(bytes));
        })
        .join('');
    } catch {
      return run;
    }
  });
}

function fromBase64(encoded: string): Buffer | null {
  return /^[\w+/]*={0,2}$/.test(encoded) ? Buffer.from(encoded, 'base64') : null;
}

function fromQuoted(encoded: string): Buffer | null {
  if (/=(?![0-9a-f]{2})|[^\x20-\x7E]/i.test(encoded)) return null;
  const plain = encoded.replaceAll('_', ' ');
  return Buffer.from(
    plain.replace(/=(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}
