/**
 * 3.23 Make a form that uploads
 *
 * ## Problem
 * People are to upload files to your bucket from a web page, straight from their browsers, without credentials and
 * without the files passing through a server of yours. Only some types of files are to come, none too large, and only
 * into one folder.
 *
 * ## Solution
 * Write down what may be uploaded as a policy and sign it: a presigned POST. The answer is the fields of a form, for
 * your own page or program. `--html` writes a page with the form instead. S3 checks the policy at each upload.
 *
 * ## Discussion
 * Signing asks nobody: what the signer may do when the form is used decides, so a missing `s3:PutObject` shows only
 * then. The form works for anybody who has it and any number of times until it ends, after seven days at most and never
 * later than the credentials that signed it. Each upload may be as large as you allow, and you pay for all of them:
 * make the form anew for each user, with a short end and a prefix of the user's own.
 *
 * **What the policy binds.** The size (a larger file is `EntityTooLarge`; one POST takes 5 GB at most), the type and
 * the beginning of the key (anything else is `AccessDenied`, and all is when it has ended). The type is what the
 * browser says, by the file's name; nobody looks inside. Don't let `text/html` or `image/svg+xml`, which `image/*`
 * covers, in where you show the files from a domain of your own: they can carry scripts. Objects are private; 3.10
 * hands them out.
 *
 * **The key** is the prefix and the file's own name: S3 fills in `${filename}`. Whoever has the form can send any other
 * key under the prefix as well, and so replace what is there: switch versioning on (3.11), and give each user a prefix
 * of their own.
 *
 * **In a page of your own.** Send the fields as `multipart/form-data`, the file last: S3 ignores what follows it. All
 * but the file may have 20 KB. Extra fields are refused unless the policy names them. A plain form needs no CORS rules;
 * a script that sends it with `fetch` needs one that allows POST from your page. Browsers don't fill in `Content-Type`
 * by themselves: for a family such as `image/*` the page's script does it. S3 answers 201 with a short XML, or sends
 * the browser to `--redirect`, with bucket, key and ETag in the address, which anybody can write there too.
 *
 * Where a KMS key encrypts the bucket, the signer needs `kms:GenerateDataKey` as well. A bucket that locks what is
 * written (3.20's default) takes nothing without a checksum, which this form has not: `InvalidRequest`.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/23-upload-form.ts s3://paws-example/in/ "image/*" --html upload.html --local
 * @run npx tsx recipes/s3/23-upload-form.ts s3://paws-example/in/ image/png --max-size 1000000 --json --local
 * @output
 *   file          upload.html
 *   url           http://127.0.0.1:4566/paws-example
 *   prefix        in/
 *   content type  image/*
 *   max size      10 MiB
 *   expires       2026-11-28 08:33:14 UTC
 *   ended by      time
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @cost nothing; each upload is a request of yours, and is stored at your cost
 * @undo rm {file}
 * @emulator LocalStack checks the policy but not the signature. Tested with versitygw, which checks both but takes
 *   `${filename}` literally, and in Chromium.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
 */
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';
import { type ConnectS3, connectSigner, type EndedBy } from './10-helpers/signer.ts';

export interface UploadForm {
  /** Where to POST it. */
  url: string;
  prefix: string;
  contentType: string;
  /** In bytes. */
  maxSize: number;
  /** When it ends. */
  expires: Date;
  /** What ends it: the `time` asked for, or `credentials` that end earlier, or may do so: `unknown`. */
  endedBy: EndedBy;
  /** The form's fields. The file comes after them, as `file`. */
  fields: Record<string, string>;
}

const week = 7 * 24 * 3600;
/** The most that one POST takes, in bytes. */
const largest = 5 * 1024 ** 3;

/**
 * Signs a form with which anybody can upload files for a while.
 *
 * @param connect - Makes a client. It is called again if the bucket is in another region than the first is for.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - The folder, such as `in/`, that all keys begin with; the file's own name follows.
 * @param options.contentType - The type of the files, such as `image/png`, or a family of them, such as `image/*`.
 * @param options.maxSize - In bytes; 10 MiB by default, 5 GiB at most.
 * @param options.expiresIn - For how many seconds, 1 to 604,800, which are seven days. 3,600 by default.
 * @param options.redirect - Where the browser goes after an upload. By default S3 answers with a short XML.
 * @throws RangeError when an option is out of its range; NotFound when there is no such bucket.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
 *
 * @example
 * const connect = (settings: object) => new S3Client(settings);
 * const form = await uploadForm(connect, { bucket: 'my-company-in', prefix: 'ann/', contentType: 'image/*' });
 * console.log(formPage(form));
 */
export async function uploadForm(
  connect: ConnectS3,
  options: {
    bucket: string;
    prefix: string;
    contentType: string;
    maxSize?: number;
    expiresIn?: number;
    redirect?: string;
  },
): Promise<UploadForm> {
  const { bucket, prefix, contentType, maxSize = 10 * 1024 ** 2, expiresIn = 3600, redirect } = options;
  checkOptions({ prefix, contentType, maxSize, expiresIn, redirect });

  // Of the bucket's region, and no longer than the credentials that sign.
  const { s3, seconds, endedBy } = await connectSigner(connect, { bucket, expiresIn });

  const isFamily = contentType.endsWith('/*');
  const { url, fields } = await createPresignedPost(s3, {
    Bucket: bucket,
    // It makes of this a policy for all keys that begin with the prefix.
    Key: `${prefix}\${filename}`,
    Conditions: [
      ['content-length-range', 0, maxSize],
      // A field that the form may have must be named here, or in Fields, where it has one value.
      ...(isFamily
        ? [['starts-with', '$Content-Type', contentType.slice(0, -1)] as ['starts-with', string, string]]
        : []),
    ],
    Fields: {
      ...(!isFamily && { 'Content-Type': contentType }),
      ...(redirect === undefined ? { success_action_status: '201' } : { success_action_redirect: redirect }),
    },
    Expires: seconds,
  });
  const policy = JSON.parse(Buffer.from(fields.Policy as string, 'base64').toString());
  return { url, prefix, contentType, maxSize, expires: new Date(policy.expiration), endedBy, fields };
}

/**
 * Writes a form as a web page.
 *
 * @param form - What `uploadForm` returned.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
 *
 * @example
 * const connect = (settings: object) => new S3Client(settings);
 * const form = await uploadForm(connect, { bucket: 'my-company-in', prefix: 'ann/', contentType: 'image/*' });
 * console.log(formPage(form));
 */
export function formPage({ url, contentType, maxSize, fields }: UploadForm): string {
  const quote = (text: string) => text.replace(/[&<>"\n\r]/g, (char) => `&#${char.charCodeAt(0)};`);
  const all = { 'Content-Type': '', ...fields };
  const hidden = Object.entries(all).map(
    ([name, value]) => `    <input type="hidden" name="${quote(name)}" value="${quote(value)}">`,
  );
  return `<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>Upload</title>
  <form action="${quote(url)}" method="post" enctype="multipart/form-data" autocomplete="off">
${hidden.join('\n')}
    <input type="file" name="file" accept="${quote(contentType)}" aria-label="File" required>
    <button>Upload</button>
  </form>
  <script>
    const { file, 'Content-Type': type } = document.forms[0].elements;
    const fixed = type.value;
    // S3 looks at both again.
    file.onchange = () => {
      const [{ size, type: its } = { size: 0, type: '' }] = file.files;
      type.value = fixed || its;
      file.setCustomValidity(size > ${maxSize} ? 'The file is too large: ${maxSize} bytes are the most.' : '');
    };
  </script>
</html>
`;
}

/** Refuses what S3 would refuse, or understand otherwise, only when the form is used. */
function checkOptions(
  options: Omit<Required<Parameters<typeof uploadForm>[1]>, 'bucket' | 'redirect'> & { redirect?: string },
): void {
  const { prefix, contentType, maxSize, expiresIn, redirect } = options;
  // Without its end, `in` would let `index.html` in; empty, the whole bucket.
  if (!/[^/]\/$/.test(prefix))
    throw new RangeError(`prefix must be a folder, with a slash at its end, not "${prefix}"`);
  const size = new TextEncoder().encode(prefix).length;
  if (size > 1000) throw new RangeError(`prefix must leave room for a name in a key of 1,024 bytes, and has ${size}`);
  if (prefix.includes('$')) throw new RangeError('prefix must have no $: it begins a variable in a policy');
  if (/[\r\n]/.test(prefix)) throw new RangeError('prefix must have no line break: forms send it as another one');
  if (!/^[\w!#&^.+-]+\/([\w!#&^.+-]+(; ?[ -~]+)?|\*)$/.test(contentType))
    throw new RangeError(`contentType must be a type such as image/png or image/*, not "${contentType}"`);
  if (!(Number.isInteger(maxSize) && maxSize >= 1 && maxSize <= largest))
    throw new RangeError(`maxSize must be 1 to ${largest} bytes, not ${maxSize}`);
  if (!(Number.isInteger(expiresIn) && expiresIn >= 1 && expiresIn <= week))
    throw new RangeError(`expiresIn must be 1 to ${week} whole seconds, not ${expiresIn}`);
  if (redirect !== undefined && !/^https?:\/\/[^/\s][^\s$]*$/.test(redirect))
    throw new RangeError(`redirect must be a whole URL without $, not "${redirect}"`);
}

// ---- command line: leave out when copying ----
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { S3Client } from '@aws-sdk/client-s3';
import { bytes, confirm, connect, print, recipe, s3Prefix, sayUndo, warn, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<folder>', 's3://BUCKET/PREFIX/', s3Prefix)
    .argument('<content-type>', 'type of the files: image/png, or "image/*" for a family')
    .option('--max-size <bytes>', '10 MiB by default', Number)
    .option('--expires-in <seconds>', '1 to 604800', Number, 3600)
    .option('--redirect <url>', 'where the browser goes after an upload')
    .option('--html <file>', 'write a page with the form to this file, in a folder made if need be')
    .addOption(yes)
    .action(async (where, contentType, { html, yes: _, ...options }) => {
      const settings = { ...where, contentType, ...options };
      const form = await uploadForm((more) => connect(S3Client, more), settings);
      if (form.endedBy === 'credentials') warn('Your credentials end before the time that you asked for.');
      if (form.endedBy === 'unknown') warn('Your credentials are temporary: when they end, it ends too.');
      const { fields, ...told } = form;
      if (!html) return print(form, { maxSize: bytes, fields: JSON.stringify });
      const there = existsSync(html);
      if (there) await confirm(`Overwrite ${html}?`);
      mkdirSync(dirname(html), { recursive: true });
      writeFileSync(html, formPage(form), { flag: there ? 'w' : 'wx' });
      print({ file: html, ...told }, { maxSize: bytes });
      sayUndo({ file: html });
    }),
);
