/**
 * 1.4 Use a private cloud
 *
 * ## Problem
 * Your EC2 or S3 is not at AWS: it is a private cloud, or one server that speaks S3, with its own address and keys.
 * You want to use it with the same programs.
 *
 * ## Solution
 * Describe it in a named profile of `~/.aws/config`: where the services are, the region to sign for, and no more
 * checksums than S3 asks for. Then every recipe goes there unchanged with `--profile NAME`, and so does your own
 * program with `AWS_PROFILE=NAME`; what works there is what the cloud offers. Without `--write` the lines are only
 * printed. Once the profile is there with its keys, the same command makes one call to each service.
 *
 * ## Discussion
 * `--write` adds to the end of the file and touches nothing else in it; delete the two sections to undo it. A name
 * that is taken already is refused. Write the profile first, then put its keys into `~/.aws/credentials` with an
 * editor: on a command line they would stay in the shell's history. The recipe never asks for keys.
 *
 * **In code, `new S3Client({ profile: 'my-cloud' })` is not enough.** It takes the profile's keys and region and goes
 * to AWS with them: the SDK looks for the address in the profile that `AWS_PROFILE` names. So set that, or give the
 * client an `endpoint` too. Variables beat any profile: `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` and the like,
 * `AWS_REGION`, which goes into a new profile, too; `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true` sends all to AWS.
 * Unset `AWS_ACCESS_KEY_ID` too: the SDK takes the profile's keys with a warning, and says this may change.
 *
 * **Bucket in the path.** Where buckets have no host names of their own, no setting of the profile tells this SDK
 * so: the recipes do it by themselves, your own clients need `forcePathStyle: true`.
 *
 * The profile's own `endpoint_url` is for services without an address of their own, such as STS: so no call goes to
 * AWS by mistake, with keys that aren't AWS's. The SDK adds a checksum to each upload, which some servers refuse;
 * with `when_required` it doesn't. Over `http://` the secret key stays secret, since requests are only signed with
 * it, but what you store can be read on the way.
 *
 * Where a call fails, 1.13 looks closer: at a certificate that is not trusted, at calls that the cloud doesn't offer.
 *
 * @run npx tsx recipes/setup/04-private-cloud.ts my-cloud --ec2 https://ec2.example.com --s3 https://s3.example.com
 * @output
 *   # ~/.aws/config, to add: --write does it
 *   [profile my-cloud]
 *   region = us-east-1
 *   endpoint_url = https://ec2.example.com
 *   services = my-cloud
 *   request_checksum_calculation = when_required
 *   response_checksum_validation = when_required
 *
 *   [services my-cloud]
 *   ec2 =
 *     endpoint_url = https://ec2.example.com
 *   s3 =
 *     endpoint_url = https://s3.example.com
 *
 *   # ~/.aws/credentials, to add by hand with your own keys
 *   [my-cloud]
 *   aws_access_key_id = YOUR_KEY_ID
 *   aws_secret_access_key = YOUR_SECRET_KEY
 * @permission ec2:DescribeRegions on *
 * @permission s3:ListAllMyBuckets on *
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack takes any keys. The tests use it for EC2, and versitygw for S3, which checks them.
 * @book boto.connect_euca → EC2Client
 * @book boto.connect_walrus → S3Client
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
 */
import { appendFile, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { DescribeRegionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { loadSharedConfigFiles } from '@smithy/core/config';

export interface PrivateCloud {
  profile: string;
  /** Whether the profile is in the file now: `added` by this call, `there` before with the same settings. */
  state: 'absent' | 'added' | 'there';
  configFile: string;
  /** The lines for it. */
  config: string;
  credentialsFile: string;
  /** The lines for it, to fill in; null where the profile has keys, or a program that gives them. */
  credentials: string | null;
}

/**
 * Describes a private cloud as a profile of the AWS configuration, and adds that to the file if asked to.
 *
 * @param options.profile - Name of the profile: letters, digits, hyphens, underscores.
 * @param options.ec2 - URL of its EC2. One of the two is needed; services beside them go to the first that is given.
 * @param options.s3 - URL of its S3.
 * @param options.region - Region that requests are signed for. `us-east-1` by default.
 * @param options.write - Adds the profile to the file if it is not there. False by default.
 * @param options.configFile - `~/.aws/config` by default.
 * @param options.credentialsFile - `~/.aws/credentials` by default. Only looked at.
 * @throws RangeError for a name that is taken, and for a name, URL or region that can't be one.
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 *
 * @example
 * const cloud = { profile: 'my-cloud', s3: 'https://s3.example.com' };
 * const { config, configFile } = await privateCloud(cloud);
 * console.log(`Add to ${configFile}:\n${config}`);
 */
export async function privateCloud({
  profile,
  ec2,
  s3,
  region = 'us-east-1',
  write = false,
  ...files
}: {
  profile: string;
  ec2?: string;
  s3?: string;
  region?: string;
  write?: boolean;
  configFile?: string;
  credentialsFile?: string;
}): Promise<PrivateCloud> {
  if (!/^[\w-]+$/.test(profile) || profile === 'default') {
    throw new RangeError(`"${profile}" can't be the profile: give letters, digits, - and _, and not "default"`);
  }
  if (!/^[\w-]+$/.test(region)) throw new RangeError(`"${region}" can't be a region: give one such as us-east-1`);
  const given = Object.entries({ ec2, s3 });
  const endpoints = given.flatMap(([service, url]) => (url === undefined ? [] : [[service, checkUrl(url)] as const]));
  const [[, endpoint] = []] = endpoints;
  if (!endpoint) throw new RangeError('give the URL of EC2, of S3 or of both');

  const settings = {
    region,
    endpoint_url: endpoint,
    services: profile,
    request_checksum_calculation: 'when_required',
    response_checksum_validation: 'when_required',
  };
  const config = [
    `[profile ${profile}]`,
    ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`),
    `\n[services ${profile}]`,
    // What belongs to a service is indented.
    ...endpoints.map(([service, url]) => `${service} =\n  endpoint_url = ${url}`),
  ].join('\n');

  const configFile = fileOf(files.configFile, 'config');
  const credentialsFile = fileOf(files.credentialsFile, 'credentials');
  // The SDK's own reader decides what is there. It would go on with what it read before, unless it is told not to.
  const read = { configFilepath: configFile, filepath: credentialsFile, ignoreCache: true };
  const { configFile: profiles, credentialsFile: keys } = await loadSharedConfigFiles(read);
  const found = profiles[profile];
  const services = profiles[`services.${profile}`];
  const all = { ...keys[profile], ...found };
  const hasKeys = all.aws_access_key_id ?? all.credential_process;
  const placeholders = `[${profile}]\naws_access_key_id = YOUR_KEY_ID\naws_secret_access_key = YOUR_SECRET_KEY`;
  const credentials = hasKeys ? null : placeholders;
  const result = { profile, configFile, config, credentialsFile, credentials };
  if (found || services) {
    const there: Record<string, string | undefined> = { ...found, ...services };
    const addresses = Object.fromEntries(endpoints.map(([service, url]) => [`${service}.endpoint_url`, url]));
    // Set to true it would send all calls to AWS.
    const wanted = { ...settings, ...addresses, ignore_configured_endpoint_urls: undefined };
    const other = Object.entries(wanted).find(([name, value]) => there[name] !== value);
    if (!other) return { ...result, state: 'there' };
    throw new RangeError(`"${profile}" is in ${configFile} already, with another ${other[0]}: take another name`);
  }
  if (!write) return { ...result, state: 'absent' };

  // Keys of this name may be AWS's: then whoever uses them would be sent to the cloud from now on.
  if (keys[profile]) throw new RangeError(`"${profile}" is in ${credentialsFile} already: take another name`);
  await mkdir(dirname(configFile), { recursive: true, mode: 0o700 });
  // The file's last line may lack its end. The mode counts only where the file is new.
  await appendFile(configFile, `\n${config}\n`, { mode: 0o600 });
  // So that the clients made after this see it.
  await loadSharedConfigFiles(read);
  return { ...result, state: 'added' };
}

/** As the SDK finds it: nothing given is the usual one, and `~/` is the home folder. */
function fileOf(given: string | undefined, usual: string): string {
  return (given || `~/.aws/${usual}`).replace(/^~(?=\/)/, () => homedir());
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || `${url.username}${url.password}${url.search}${url.hash}`) {
    // Without the text, which may have a password in it.
    throw new RangeError('give an endpoint such as https://s3.example.com, without a user or a query');
  }
  return url.href.replace(/\/$/, '');
}

export interface Called {
  service: 'ec2' | 's3';
  /** Whether it is there and knows the keys, even if it denies them this call. */
  works: boolean;
  /** What it answered, for people. */
  answer: string;
}

/**
 * Makes one call to each service.
 *
 * @param clients.ec2 - Not called if left out.
 * @param clients.s3 - Not called if left out.
 * @param options.signal - Ends the wait.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
 *
 * @example
 * const s3 = new S3Client({});
 * const called = await callServices({ s3 });
 * for (const { service, answer } of called) console.log(service, answer);
 */
export async function callServices(
  { ec2, s3 }: { ec2?: EC2Client; s3?: S3Client },
  { signal: abortSignal }: { signal?: AbortSignal } = {},
): Promise<Called[]> {
  const call = async (service: Called['service'], things: string, list: () => Promise<unknown[] | undefined>) => {
    try {
      const found = await list();
      // Any web page is a result without fields to the SDK. An empty account has an empty list.
      if (!found) return { service, works: false, answer: `an answer, but not of ${service.toUpperCase()}` };
      return { service, works: true, answer: `${things}: ${found.length}` };
    } catch (error) {
      abortSignal?.throwIfAborted();
      const { name, message } = error as Error;
      const works = /^(AccessDenied|UnauthorizedOperation)$/.test(name);
      return { service, works, answer: `${name}: ${message.split('\n')[0]}` };
    }
  };
  const calls = [
    ec2 &&
      call('ec2', 'regions', async () => (await ec2.send(new DescribeRegionsCommand({}), { abortSignal })).Regions),
    s3 && call('s3', 'buckets', async () => (await s3.send(new ListBucketsCommand({}), { abortSignal })).Buckets),
  ];
  return (await Promise.all(calls)).filter((called) => called !== undefined);
}

// ---- command line: leave out when copying ----
import { connect, interrupted, json, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<profile>', 'name of the profile')
    .option('--ec2 <url>', 'where the EC2 is')
    .option('--s3 <url>', 'where the S3 is')
    .option('--write', 'add the profile to ~/.aws/config')
    .action(async (profile, options) => {
      const { env } = process;
      const stronger = Object.keys(env).find((name) => /^AWS_(ENDPOINT_URL|IGNORE_CONFIGURED)/.test(name));
      if (stronger) throw new RangeError(`${stronger} beats every profile: unset it; no --local, no --endpoint-url`);
      const files = { configFile: env.AWS_CONFIG_FILE, credentialsFile: env.AWS_SHARED_CREDENTIALS_FILE };
      const cloud = await privateCloud({ profile, ...options, region: env.AWS_REGION, ...files });
      const ready = cloud.state === 'there' && cloud.credentials === null;
      // As --profile does.
      for (const name of ['ACCESS_KEY_ID', 'SECRET_ACCESS_KEY', 'SESSION_TOKEN']) delete env[`AWS_${name}`];
      env.AWS_PROFILE = profile;
      const clients = { ...(options.ec2 && { ec2: connect(EC2Client) }), ...(options.s3 && { s3: connect(S3Client) }) };
      const calls = ready ? await callServices(clients, { signal: interrupted() }) : [];
      if (json()) print({ ...cloud, calls });
      else if (ready) print(calls);
      else {
        const how = { absent: 'to add: --write does it', added: 'added', there: 'there' }[cloud.state];
        const keys = `\n# ${cloud.credentialsFile}, to add by hand with your own keys\n${cloud.credentials}\n`;
        process.stdout.write(`# ${cloud.configFile}, ${how}\n${cloud.config}\n${cloud.credentials ? keys : ''}`);
      }
      if (calls.some(({ works }) => !works)) throw new Error(`Not all works: 1.13 looks closer, --profile ${profile}`);
    }),
);
