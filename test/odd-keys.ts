/** Keys that S3 takes and that programs get wrong: what every recipe that touches keys is tried with. */
export const oddKeys: readonly string[] = [
  ...[' ', ' a b ', 'a+b', 'a%20b', 'a%2Bb', '100%', '%', '%zz', 'q?x=1&y', 'h#x', `it's "q"`, '<&amp;>', '\\', '(!*)'],
  ...['/lead', '//two', 'a//b', 'a/', '.', '..', '../x', 'a/../b', 'a/./b', '~', '$&', '{id}', 'a,b;c=d@e:f|g'],
  // The same to the eye: two keys all the same.
  ...['e\u0301', '\u00E9', '\u{1F600}', '\uFFFD', 'line\nfeed', '\ttab', '\u0085', '\u2028', '\u007F'],
  // Sorted otherwise by JavaScript than by S3, which goes by the bytes of UTF-8.
  ...['\uFF21', '\u{10000}', 'versionId', 'a?versionId=null', 'k'.repeat(1024), '\u00FC'.repeat(512)],
];

/** Keys that no XML can carry as they are: only a recipe that asks for encoded lists gets them right. */
export const keysBeyondXml: readonly string[] = ['\u0001', 'bell\u0007bell', '\u001B[31m', 'cr\rlf\r\n', '\uFFFE'];
