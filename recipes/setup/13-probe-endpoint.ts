/**
 * 1.13 Probe an endpoint
 *
 * ## Problem
 * A server says that it speaks EC2 or S3. You want to know whether it does, which of the calls that you use it
 * offers, and, if nothing works, why.
 *
 * ## Solution
 * Make one call that every EC2 or S3 has to answer, and look at the answer itself: is there one, from a server that
 * Node.js trusts, and of the right kind? If so, make the calls that read, and with EC2's `DryRun` ask about some
 * that write. `--bucket` asks S3 about one bucket, too.
 *
 * ## Discussion
 * **Any web page will do for the SDK.** Status 200 with an empty page, or with HTML that happens to be XML, is a
 * result without fields: no buckets, no instances, no error. So ask whether a field is there: `Buckets` of an empty
 * account is an empty list, of a web page `undefined`. Likewise an error of EC2's or S3's own has a `Code`; others
 * get a name from their status, such as `NotFound`.
 *
 * **A certificate that is not trusted** is often one of your company's own. Give Node.js its authority's certificate
 * in a file: `NODE_EXTRA_CA_CERTS=ca.pem npx tsx …`. That is read once, when Node.js starts; set in your program it
 * does nothing. `AWS_CA_BUNDLE` and a profile's `ca_bundle`, which the AWS CLI knows, are not read by this SDK. Don't
 * switch the check off: anybody in between could read along.
 *
 * `works` means that a call was answered, if only by `NoSuchBucketPolicy` because there is none; not that the server
 * knows all of its parameters. For GetBucketVersioning, -Logging and -Website, whose fields may all be missing, and
 * GetBucketPolicy, which takes any text, it says only that no error came. `denied` is a call that is offered, and
 * not to you. A bucket of another region is `failed` throughout: give its `--region`.
 *
 * A server that doesn't know `DryRun` would do what it was only asked about. So a call that reads is sent with
 * DryRun first, and those that write only if it was understood; besides, they name an image or volume that no cloud
 * has. An emulator that takes any image, and knows DryRun for some calls only, may still make an instance: you are
 * told that the call was carried out. On AWS a dry run needs the permission for the call itself.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/setup/13-probe-endpoint.ts s3 --bucket paws-example --local
 * @output
 *   service  call                             answer  detail
 *   s3       ListBuckets                      works   -
 *   s3       ListObjectsV2                    works   -
 *   s3       ListObjectVersions               works   -
 *   s3       ListMultipartUploads             works   -
 *   s3       GetBucketVersioning              works   -
 *   s3       GetBucketPolicy                  works   NoSuchBucketPolicy
 *   s3       GetPublicAccessBlock             works   -
 *   s3       GetBucketEncryption              works   -
 *   s3       GetBucketLifecycleConfiguration  works   NoSuchLifecycleConfiguration
 *   s3       GetBucketLogging                 works   -
 *   s3       GetBucketWebsite                 works   NoSuchWebsiteConfiguration
 *   s3       GetBucketTagging                 works   -
 *   s3       GetObjectLockConfiguration       works   ObjectLockConfigurationNotFoundError
 * @run npx tsx recipes/setup/13-probe-endpoint.ts ec2 --local
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeAvailabilityZones on *
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:DescribeSecurityGroups on *
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:DescribeTags on *
 * @permission ec2:RunInstances on *
 * @permission ec2:AttachVolume on *
 * @permission ec2:CreateSnapshot on *
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketPolicy on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketPublicAccessBlock on arn:aws:s3:::BUCKET
 * @permission s3:GetEncryptionConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:GetLifecycleConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketLogging on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketWebsite on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketTagging on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketObjectLockConfiguration on arn:aws:s3:::BUCKET
 * @cost nothing
 * @undo nothing
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
 * @see https://nodejs.org/api/cli.html#node_extra_ca_certsfile
 */
import * as EC2 from '@aws-sdk/client-ec2';
import * as S3 from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { withDeadline } from './08-set-timeouts.ts';

export interface Answer {
  service: 'ec2' | 's3';
  /** `DescribeRegions`, or `RunInstances, dry run`. */
  call: string;
  answer:
    | ('works' | 'denied' | 'not offered' | 'failed')
    | ('wrong credentials' | 'another server' | 'not trusted' | 'unreachable');
  /** What was answered, for people; null where there is no more to say. */
  detail: string | null;
}

/**
 * Asks an endpoint about calls that the recipes make, by reads and dry runs alone.
 *
 * @param client - Of the service that you expect there.
 * @param options.bucket - Asks S3 about this bucket, too.
 * @param options.timeout - Milliseconds that each answer may take. 30,000 by default.
 * @param options.signal - Ends the probing.
 * @returns An answer for each call; the first alone unless that works or is denied.
 * @throws NoSuchBucket; CredentialsProviderError where the client has no credentials.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html
 *
 * @example
 * const s3 = new S3Client({ endpoint: 'https://s3.example.com', forcePathStyle: true });
 * const answers = await probeEndpoint(s3, { bucket: 'my-company-reports' });
 * console.log(answers.filter(({ answer }) => answer === 'not offered'));
 */
export async function probeEndpoint(
  client: EC2.EC2Client | S3.S3Client,
  { bucket, ...limits }: { bucket?: string } & Limits = {},
): Promise<Answer[]> {
  const [buckets, regions] = [new S3.ListBucketsCommand({ MaxBuckets: 1 }), new EC2.DescribeRegionsCommand({})];
  const first = await ask(client, isS3(client) ? [buckets, 'Buckets'] : [regions, 'Regions'], limits);
  // Whoever may not list the buckets may still use one.
  if (first.answer !== 'works' && first.answer !== 'denied') return [first];

  const askAll = (calls: Call[]) => pMap(calls, (call) => ask(client, call, limits), { concurrency: 5 });
  if (isS3(client)) return [first, ...(bucket === undefined ? [] : await askAll(bucketReads(bucket)))];

  const reads = await askAll(ec2Reads());
  const [harmless, ...writes] = dryRuns();
  const understood = await ask(client, harmless, limits);
  return [first, ...reads, understood, ...(understood.answer === 'works' ? await askAll(writes) : [])];
}

type Limits = { timeout?: number; signal?: AbortSignal };

/** A command, and a field that its result can't lack; null where it may lack all. */
type Call = [command: object, field: string | null];

const isS3 = (client: EC2.EC2Client | S3.S3Client) => client.config.serviceId === 'S3';

function ec2Reads(): Call[] {
  const few = { MaxResults: 5 };
  return [
    [new EC2.DescribeAvailabilityZonesCommand({}), 'AvailabilityZones'],
    [new EC2.DescribeInstanceTypesCommand(few), 'InstanceTypes'],
    [new EC2.DescribeImagesCommand({ Owners: ['self'] }), 'Images'],
    [new EC2.DescribeKeyPairsCommand({}), 'KeyPairs'],
    [new EC2.DescribeSecurityGroupsCommand(few), 'SecurityGroups'],
    [new EC2.DescribeInstancesCommand(few), 'Reservations'],
    [new EC2.DescribeVolumesCommand(few), 'Volumes'],
    [new EC2.DescribeSnapshotsCommand({ OwnerIds: ['self'], ...few }), 'Snapshots'],
    [new EC2.DescribeAddressesCommand({}), 'Addresses'],
    [new EC2.DescribeTagsCommand(few), 'Tags'],
  ];
}

/** The first reads; the others need something that can't exist, should a server do them all the same. */
function dryRuns(): [Call, ...Call[]] {
  const DryRun = true;
  const [ImageId, VolumeId, InstanceId] = ['ami', 'vol', 'i'].map((kind) => `${kind}-00000000000000000`) as string[];
  return [
    [new EC2.DescribeInstancesCommand({ DryRun }), null],
    [new EC2.RunInstancesCommand({ DryRun, ImageId, MinCount: 1, MaxCount: 1 }), null],
    [new EC2.AttachVolumeCommand({ DryRun, VolumeId, InstanceId, Device: '/dev/sdf' }), null],
    [new EC2.CreateSnapshotCommand({ DryRun, VolumeId }), null],
  ];
}

function bucketReads(Bucket: string): Call[] {
  const it = { Bucket, MaxKeys: 1, MaxUploads: 1 };
  return [
    [new S3.ListObjectsV2Command(it), 'Name'],
    [new S3.ListObjectVersionsCommand(it), 'Name'],
    [new S3.ListMultipartUploadsCommand(it), 'Bucket'],
    [new S3.GetBucketVersioningCommand(it), null],
    [new S3.GetBucketPolicyCommand(it), 'Policy'],
    [new S3.GetPublicAccessBlockCommand(it), 'PublicAccessBlockConfiguration'],
    [new S3.GetBucketEncryptionCommand(it), 'ServerSideEncryptionConfiguration'],
    [new S3.GetBucketLifecycleConfigurationCommand(it), 'Rules'],
    [new S3.GetBucketLoggingCommand(it), null],
    [new S3.GetBucketWebsiteCommand(it), null],
    [new S3.GetBucketTaggingCommand(it), 'TagSet'],
    [new S3.GetObjectLockConfigurationCommand(it), 'ObjectLockConfiguration'],
  ];
}

/** Sends one command and tells what came back. */
async function ask(client: EC2.EC2Client | S3.S3Client, [command, field]: Call, limits: Limits): Promise<Answer> {
  const { timeout = 30_000, signal } = limits;
  const sent = command as S3.ListBucketsCommand;
  const dryRun = 'DryRun' in sent.input;
  const name = command.constructor.name.replace(/Command$/, '');
  const call = { service: isS3(client) ? 's3' : 'ec2', call: dryRun ? `${name}, dry run` : name } as const;
  const send = (abortSignal: AbortSignal) => (client as S3.S3Client).send(sent, { abortSignal });
  try {
    const result = await withDeadline(send, { deadline: timeout, signal });
    if (dryRun) return { ...call, answer: 'failed', detail: 'DryRun was not understood: the call was carried out' };
    if (field === null || Reflect.get(result, field) !== undefined) return { ...call, answer: 'works', detail: null };
    return { ...call, ...judge(result as object as Failure, timeout) };
  } catch (error) {
    signal?.throwIfAborted();
    return { ...call, ...judge(error as Failure, timeout) };
  }
}

type Failure = Error & { code?: string; Code?: string; $metadata?: { httpStatusCode?: number } };

/** Tells from an error, or a result without its field, whether it comes from the service, another server or none. */
function judge(error: Failure, timeout: number): Pick<Answer, 'answer' | 'detail'> {
  const { name, message, Code, $metadata: { httpStatusCode: status } = {} } = error;
  // The SDK calls a reset connection a TimeoutError, too, and then there is a code.
  const code = typeof error.code === 'string' ? error.code : /Abort|Timeout/.test(name) ? 'ETIMEDOUT' : '';
  if (status === undefined || code) {
    const [, answer, detail] = connectionErrors.find(([pattern]) => pattern.test(code)) ?? [];
    // Without a code the request never left: no credentials, no region.
    if (!answer || !detail) throw error;
    // The SDK gives up connecting before that, and says after how long.
    const [, waited = timeout] = /configured timeout of (\d+) ms/.exec(message) ?? [];
    return { answer, detail: detail.replace('{code}', code).replace('{seconds}', `${Number(waited) / 1000} s`) };
  }
  if (Code === undefined) return { answer: 'another server', detail: `answers ${status}, not as it should` };
  if (Code === 'NoSuchBucket') throw error;
  // VPCIdNotSpecified: an account without a default VPC.
  const found = /^(NoSuch|(DryRunOperation|VPCIdNotSpecified)$)|NotFound|\.Malformed$/;
  if (found.test(Code)) return { answer: 'works', detail: Code };
  // Not Unsupported: on AWS that is about a parameter, such as the type of an instance.
  const missing = status === 501 || status === 405 || /^(InvalidAction$|Unknown)/.test(Code);
  if (missing) return { answer: 'not offered', detail: Code };
  const keys = /Signature|AccessKeyId|InvalidClientTokenId|AuthFailure|Token|Expired/;
  if (keys.test(Code)) return { answer: 'wrong credentials', detail: Code };
  return status === 403 ? { answer: 'denied', detail: Code } : { answer: 'failed', detail: `${Code}: ${message}` };
}

const connectionErrors: [RegExp, Answer['answer'], string][] = [
  [/ALTNAME/, 'not trusted', 'the certificate is for another host name'],
  [/EXPIRED|NOT_YET/, 'not trusted', 'the certificate is out of date, or a clock is wrong'],
  [/CERT|UNABLE_TO/, 'not trusted', 'start Node.js with NODE_EXTRA_CA_CERTS=file-with-its-authority.pem ({code})'],
  [/EPROTO/, 'another server', 'does not speak TLS: try http://'],
  [/ECONNREFUSED/, 'unreachable', 'nothing listens on this port'],
  [/ENOTFOUND|EAI_AGAIN/, 'unreachable', 'the host name is not known'],
  [/ECONNRESET|EPIPE|HPE/, 'another server', 'ends the connection without an answer in HTTP: try https://'],
  [/ETIMEDOUT/, 'unreachable', 'no answer within {seconds}'],
  [/./, 'unreachable', '{code}'],
];

// ---- command line: leave out when copying ----
import { connect, interrupted, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('[services...]', 'what to look for', ['ec2', 's3'])
    .option('--bucket <name>', 'ask S3 about this bucket, too')
    .action(async (names, { bucket }) => {
      const services = [...new Set(names)];
      const other = services.find((name) => name !== 'ec2' && name !== 's3');
      if (other !== undefined) throw new RangeError(`"${other}" is neither ec2 nor s3`);
      if (bucket === '' || (bucket && !services.includes('s3'))) throw new RangeError('--bucket NAME is for s3');
      const answers: Answer[] = [];
      const failed: string[] = [];
      for (const name of services) {
        progress(`asking ${name}`);
        const client = name === 's3' ? connect(S3.S3Client) : connect(EC2.EC2Client);
        const some = await probeEndpoint(client, { bucket, signal: interrupted() });
        answers.push(...some);
        const [{ answer, detail }] = some as [Answer];
        if (answer !== 'works' && answer !== 'denied') failed.push(`${name}: ${answer}: ${detail}`);
      }
      print(answers);
      if (failed.length > 0) throw new Error(failed.join('; '));
    }),
);
