/**
 * 3.12 Publish a static website
 *
 * ## Problem
 * You have a folder of HTML, images and scripts, and want it on the web without running a server.
 *
 * ## Solution
 * Upload the files with their content types (3.16), tell S3 which one to show for a folder and which one for an address
 * that isn't there, and let everybody read the bucket: open the two settings of Block Public Access that stand against
 * it, and add a statement to the bucket's policy. `--off` takes that back; the files stay.
 *
 * ## Discussion
 * **Everything in the bucket becomes readable by anybody**, what is there already and what is put there later: use a
 * bucket of its own. Listing stays forbidden. What is hidden is not uploaded (`.git`, `.env`, but `.well-known` too),
 * nor what a symbolic link leads to. A file that is there already with the same bytes is not sent again and keeps its
 * type. What you have deleted stays in the bucket, and so, billed, does what is replaced, if the bucket keeps versions.
 * The bucket is opened last: if anything fails, it is as closed as before. `--off` finds only what
 * was finished: if a run was killed, run it again first.
 *
 * The policy that is there is kept, with one statement `PawsStaticWebsite` more. A bucket is refused whose policy
 * denies plain HTTP, or lets everybody in for something that only `RestrictPublicBuckets` holds back. A website that is
 * there gets your pages and keeps its redirections; `--off` leaves it then, and where another statement lets somebody in.
 * Block Public Access of the account or the organization counts more than the bucket's, and often is on: then S3
 * answers `AccessDenied` here, or, where only `RestrictPublicBuckets` is on, the site answers 403. As S3 may need some
 * seconds to heed that the bucket's settings are open, a denied policy is tried for 15 seconds. `--off` closes both,
 * unless another statement of the policy lets everybody in without naming fixed networks or accounts in a condition.
 * Nobody can read files that are encrypted with KMS, as the bucket's default may have it, nor anything in a Requester
 * Pays bucket.
 *
 * **The address** has the region after a hyphen where S3 is older, and after a dot elsewhere. It has HTTP only, answers
 * GET and HEAD (in China once the site has an ICP recordal), and knows nothing of signatures. An address without a
 * slash at its end is redirected to the one with, if there is an index page. Behind your own domain the bucket must be
 * named as the domain.
 *
 * **With HTTPS and a private bucket** put CloudFront in front instead: keep Block Public Access on, make the bucket's
 * REST endpoint the origin with origin access control, and let the policy admit `cloudfront.amazonaws.com` for your
 * distribution. It needs no website configuration: the page for `/` is its default root object, but only there, so
 * index pages of folders need a CloudFront function. What isn't there is a 403, or a 404 if the policy admits it to
 * `s3:ListBucket` as well. For many visitors it is the better way.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/23-upload-form.ts s3://paws-example/in/ image/png --html site/index.html --local
 * @run npx tsx recipes/s3/12-static-website.ts paws-example site --local --yes
 * @run npx tsx recipes/s3/12-static-website.ts paws-example --off --local --yes
 * @output
 *   bucket          paws-example
 *   url             http://paws-example.s3-website.localhost.localstack.cloud:4566
 *   index document  index.html
 *   error document  -
 *   files           1
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @permission s3:GetBucketWebsite on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketWebsite on arn:aws:s3:::BUCKET
 * @permission s3:DeleteBucketWebsite on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketPublicAccessBlock on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketPublicAccessBlock on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketPolicy on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketPolicy on arn:aws:s3:::BUCKET
 * @permission s3:DeleteBucketPolicy on arn:aws:s3:::BUCKET
 * @cost what the files take; $0.09 a GB that anybody downloads, after the account's first 100 GB a month, and $0.0004
 * for 1,000 requests in us-east-1 (2026)
 * @undo npx tsx recipes/s3/12-static-website.ts {bucket} --off --local --yes
 * @emulator LocalStack has no Block Public Access and shows private pages too.
 * @book bucket.configure_website → PutBucketWebsiteCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
 * @see https://docs.aws.amazon.com/general/latest/gr/s3.html#s3_website_region_endpoints
 * @see https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html
 */
import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  PutBucketPolicyCommand,
  PutBucketWebsiteCommand,
  PutPublicAccessBlockCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { type Made, undo } from '../../shared/undo.ts';
import {
  checkSettings,
  isPublic,
  others,
  putPolicy,
  putWebsite,
  readSettings,
  sid,
  whileDenied,
} from './12-helpers/bucket-settings.ts';
import { partitionOf } from './12-helpers/partition.ts';
import { syncDirectory } from './16-sync-directory.ts';

export interface StaticWebsite {
  bucket: string;
  url: string;
  /** Name of the page that is shown for a folder. */
  indexDocument: string;
  /** Key of the page that is shown for what isn't there; null for S3's own. */
  errorDocument: string | null;
  /** How many files of the folder are there now. */
  files: number;
}

/**
 * Uploads a folder and lets everybody on the internet read it, and all else that is in the bucket.
 *
 * @param s3 - Of the bucket's region, with a `socketTimeout`.
 * @param options.bucket - Name of the bucket.
 * @param options.directory - The folder. Hidden files and symbolic links in it are left out.
 * @param options.indexDocument - Name of the page for a folder. `index.html` by default.
 * @param options.errorDocument - Key of the page for what isn't there. By default `404.html`, if there is one, or as it
 *   is.
 * @param options.signal - Stops the work; what was opened is closed again, and uploaded files stay.
 * @param options.onProgress - Called with a text for people.
 * @throws RangeError when the folder has no such pages, or in a region of another address;
 *   Error when a file fails or a setting forbids it; AccessDenied also when the account blocks public policies.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000 }, expectContinueHeader: false });
 * const { url } = await staticWebsite(s3, { bucket: 'my-company-web-site', directory: 'dist' });
 * console.log(url);
 */
export async function staticWebsite(
  s3: S3Client,
  options: {
    bucket: string;
    directory: string;
    indexDocument?: string;
    errorDocument?: string;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<StaticWebsite> {
  const { bucket, directory, indexDocument = 'index.html', signal, onProgress } = options;
  const root = await realpath(directory).catch(() => directory);
  // What a symbolic link leads to, or a link to its folder, is not uploaded.
  const isFile = async (page: string) => {
    const path = join(root, page);
    return (await realpath(path).catch(() => null)) === path && (await stat(path)).isFile();
  };
  const { errorDocument = (await isFile('404.html')) ? '404.html' : null } = options;
  if (/\//.test(indexDocument)) throw new RangeError(`indexDocument is a name without slashes, not "${indexDocument}"`);
  for (const page of [indexDocument, errorDocument]) {
    if (page !== null && /(^|\/)(\.|\/|$)/.test(page)) throw new RangeError(`"${page}" is no page: hidden, or no name`);
    if (page !== null && !(await isFile(page))) throw new RangeError(`there is no file ${page} in ${directory}`);
  }

  const region = await s3.config.region();
  const partition = partitionOf(region);
  checkSettings(bucket, await readSettings(s3, bucket));

  // Nobody but you can read the files yet.
  const tell = (done: Record<'bytes' | 'total', number>) =>
    onProgress?.(`uploaded ${done.bytes} of ${done.total} bytes`);
  const { uploaded, unchanged, failed } = await syncDirectory(s3, { bucket, directory, signal, onProgress: tell });
  if (failed[0]) throw new Error(`${failed.length} failed, the first one ${failed[0].key}: ${failed[0].reason}`);

  // What is there already is kept, and is what a failure goes back to. The files may have taken hours: look again.
  const before = await readSettings(s3, bucket);
  checkSettings(bucket, before);
  const made: Made[] = [];
  const step = async (id: string, work: () => Promise<unknown>, remove: () => Promise<unknown>) => {
    onProgress?.(id);
    // A request is not aborted: S3 could do it after it was taken back.
    signal?.throwIfAborted();
    // Noted before it is done: it may be done although its answer gets lost.
    made.push({ id, remove });
    await work().catch((error) => {
      if (error.name === 'AccessDenied') made.pop();
      throw error;
    });
  };
  const website = { ...before.website, IndexDocument: { Suffix: indexDocument } };
  if (errorDocument !== null) website.ErrorDocument = { Key: errorDocument };
  try {
    const configure = new PutBucketWebsiteCommand({ Bucket: bucket, WebsiteConfiguration: website });
    const restore = () => putWebsite(s3, bucket, before.website);
    await step('website configuration', () => s3.send(configure), restore);

    // Only what stands against a public policy is opened: access control lists stay blocked. Null is all open.
    const blocked = before.block?.BlockPublicPolicy || before.block?.RestrictPublicBuckets;
    let close: () => Promise<unknown> = async () => {};
    if (before.block && blocked) {
      const open = { ...before.block, BlockPublicPolicy: false, RestrictPublicBuckets: false };
      const opening = new PutPublicAccessBlockCommand({ Bucket: bucket, PublicAccessBlockConfiguration: open });
      const closing = new PutPublicAccessBlockCommand({ Bucket: bucket, PublicAccessBlockConfiguration: before.block });
      close = () => s3.send(closing);
      await step('open Block Public Access', () => s3.send(opening), close);
    }

    const Resource = `arn:${partition.name}:s3:::${bucket}/*`;
    const statement = { Sid: sid, Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource };
    // A policy without a version is of an old one, and must not come to mean something else.
    const old = before.policy ?? { Version: '2012-10-17' };
    const policy = { ...old, Statement: [...others(before.policy), statement] };
    const admit = new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(policy) });
    await step(
      'bucket policy',
      // What was opened a moment ago may not be so yet.
      () => (blocked ? whileDenied(() => s3.send(admit), signal) : s3.send(admit)),
      // A policy that may not be taken out again is shut in.
      () => putPolicy(s3, bucket, before.policy).catch((error) => close().then(() => Promise.reject(error))),
    );
  } catch (error) {
    const { name, message } = error as Error;
    const above = 'the account or the organization may block public access, which counts more than the bucket';
    if (name === 'AccessDenied') (error as Error).message = `${message} (a permission is missing, or ${above})`;
    throw await undo(made, error, { onProgress });
  }
  const { Key: shown = null } = website.ErrorDocument ?? {};
  const url = websiteUrl({ bucket, region });
  return { bucket, url, indexDocument, errorDocument: shown, files: uploaded + unchanged };
}

/**
 * Takes a website off the web: its statement in the policy, Block Public Access, its configuration. The files stay, and
 * so does what others may need.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @returns Whether anybody may still read the bucket, by another statement of its policy.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { public: open } = await closeWebsite(s3, { bucket: 'my-company-web-site' });
 * console.log(open ? 'still open by another statement' : 'closed');
 */
export async function closeWebsite(
  s3: S3Client,
  { bucket }: { bucket: string },
): Promise<{ bucket: string; public: boolean }> {
  const { website, block, policy } = await readSettings(s3, bucket);
  const rest = others(policy);
  // Whoever keeps a public statement of their own needs the settings open.
  const open = rest.some(isPublic);
  // Without our statement the website, if there is one, is not of our making.
  if (rest.length === (policy ? [policy.Statement].flat().length : 0)) return { bucket, public: open };
  if (!open) {
    const closed = { ...block, BlockPublicPolicy: true, RestrictPublicBuckets: true };
    await s3.send(new PutPublicAccessBlockCommand({ Bucket: bucket, PublicAccessBlockConfiguration: closed }));
  }
  // One with redirections, or in a bucket that other statements let somebody into, may have been there before.
  const isShared = rest.some(({ Effect }) => Effect === 'Allow') || website?.RoutingRules?.length;
  if (website && !isShared) await putWebsite(s3, bucket, null);
  // Last, so that a second run goes on where this one fails.
  await putPolicy(s3, bucket, policy && rest.length > 0 ? { ...policy, Statement: rest } : null);
  return { bucket, public: open };
}

/**
 * The address of a bucket's website.
 *
 * @param options.bucket - Name of the bucket.
 * @param options.region - The bucket's region.
 * @throws RangeError in isolated regions and the European Sovereign Cloud.
 * @see https://docs.aws.amazon.com/general/latest/gr/s3.html#s3_website_region_endpoints
 *
 * @example
 * const url = websiteUrl({ bucket: 'my-company-web-site', region: 'eu-central-1' });
 * console.log(url);
 * // http://my-company-web-site.s3-website.eu-central-1.amazonaws.com
 */
export function websiteUrl({ bucket, region }: { bucket: string; region: string }): string {
  const older = /^(us-(east-1|west-[12]|gov-west-1)|eu-west-1|ap-(southeast-[12]|northeast-1)|sa-east-1)$/;
  const { domain } = partitionOf(region);
  return `http://${bucket}.s3-website${older.test(region) ? '-' : '.'}${region}.${domain}`;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of the bucket: everything in it becomes public')
    .argument('[directory]', 'folder with the files')
    .option('--index-document <name>', 'page for a folder', 'index.html')
    .option('--error-document <key>', "page for what isn't there (default: 404.html, if there is one)")
    .option('--off', 'take the website off the web; the files stay')
    .addOption(yes)
    .action(async (bucket, directory, { off, indexDocument, errorDocument }) => {
      if (!directory === !off) throw new TypeError('name a folder, or give --off');
      const s3 = connect(S3Client);
      const opening = `Let anybody read EVERYTHING in ${bucket}, now and later?`;
      await confirm(off ? `Take the website off ${bucket}?` : opening);
      if (!directory) return print(await closeWebsite(s3, { bucket }));
      const pages = { indexDocument, errorDocument };
      const stop = { signal: interrupted(), onProgress: progress };
      const site = await staticWebsite(s3, { bucket, directory, ...pages, ...stop });
      // LocalStack serves it under a name that stands for this machine.
      const port = new URL(process.env.AWS_ENDPOINT_URL ?? 'http://x').port;
      if (local()) site.url = `http://${bucket}.s3-website.localhost.localstack.cloud:${port}`;
      print(site);
      sayUndo(site);
    }),
);
