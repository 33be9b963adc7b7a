/**
 * 1.3 Take the first steps
 *
 * ## Problem
 * You have an AWS account and want a first call to work. When it doesn't, you want to know why and what to do.
 *
 * ## Solution
 * Three steps, each with an answer of its own: find credentials as the SDK does, ask AWS whose they are, then ask
 * EC2 for something, the availability zones of your region. No secret is shown; an access key's id is none.
 *
 * ## Discussion
 * Where the SDK looks for credentials; the first that is found is taken:
 * 1. Code: `new EC2Client({ credentials })`. Give it a function that fetches them, never a secret as text.
 * 2. Environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN with a temporary key. Passed over
 *    when AWS_PROFILE is set; the AWS CLI does it the other way round.
 * 3. A profile in `~/.aws`, files that only you should be able to read (1.12): `aws login` and `aws sso login` put
 *    in a session of some hours, `aws configure` a key that works until you delete it.
 * 4. A role: of a web identity token (EKS), the container or the EC2 instance. With none, up to two seconds are lost.
 *
 * Half a key or a misspelt AWS_PROFILE is no error to the SDK: it looks on, and may find somebody else's. So look
 * at `source` and `arn`. `source` is the last link only: of a role, not whose credentials were used to assume it.
 *
 * A signature holds for some minutes, so a wrong clock would be refused. The SDK reads the time in each answer and
 * signs with that: your code works, other programs fail, and presigned URLs of a new client are off.
 *
 * The first call is made in your region. In one that is not enabled AWS doesn't know your key, and a misspelt one
 * is a host that is not found; if either happens, us-east-1 is asked which it is (1.6).
 *
 * Of the book's other credentials, X.509 certificates and SOAP aren't the SDK's; AWS announced the end of S3's SOAP
 * for 2025. E-mail and password are the root user's, for the console; give it no access key.
 *
 * @run npx tsx recipes/setup/03-first-steps.ts --local
 * @aws npx tsx recipes/setup/03-first-steps.ts
 * @output
 *   account        123456789012
 *   arn            arn:aws:iam::123456789012:root
 *   source         environment
 *   access key id  123456789012
 *   temporary      no
 *   expires        -
 *   region         us-east-1
 *   zones          us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1e, us-east-1f
 *   clock offset   right
 * @permission ec2:DescribeAvailabilityZones on *
 * @permission ec2:DescribeRegions on *
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack takes any secret, session and region. Moto server checks secrets; AWS's answers to the rest
 *   are the tests' own.
 * @book ec2.get_all_zones → DescribeAvailabilityZonesCommand
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/setting-credentials-node.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/developerguide/SOAPServiceOps.html
 */
import { DescribeAvailabilityZonesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { getProfileName, loadConfig, loadSharedConfigFiles } from '@smithy/core/config';
import { findRegions } from './06-find-regions.ts';

export interface FirstSteps {
  account: string;
  /** The user or role that the credentials are of. */
  arn: string;
  /** Where the SDK found the credentials, in words. */
  source: string;
  accessKeyId: string;
  /** True for the credentials of a session, which end; false for a key that works until it is deleted. */
  temporary: boolean;
  /** When they end. Null for a key, and for a session that doesn't tell. */
  expires: Date | null;
  region: string;
  /** Names of the region's zones that you can use. */
  zones: string[];
  /** Seconds that AWS's clock is ahead of this machine's; negative when behind. */
  clockOffset: number;
}

/** The marks that the SDK leaves on credentials, the most telling first. They aren't in its public types. */
const sources = {
  CREDENTIALS_STS_ASSUME_ROLE_WEB_ID: 'role assumed with a web identity token',
  CREDENTIALS_STS_ASSUME_ROLE: 'role that {profile} assumes',
  CREDENTIALS_ENV_VARS: 'environment',
  CREDENTIALS_LOGIN: 'aws login, {profile}',
  CREDENTIALS_SSO: 'aws sso login, {profile}',
  CREDENTIALS_SSO_LEGACY: 'aws sso login, {profile}',
  CREDENTIALS_PROCESS: 'credential_process of {profile}',
  CREDENTIALS_PROFILE: '{profile}',
  CREDENTIALS_HTTP: 'role of the container',
  CREDENTIALS_CODE: 'code',
};

/**
 * Makes the first calls: finds credentials, asks whose they are, and lists the availability zones of the region.
 *
 * @param sts - Asked whose its credentials are; that needs no permission.
 * @param ec2 - Of the same credentials and region. Asked for the zones.
 * @returns What the credentials are, without a secret, and the zones.
 * @throws CredentialsProviderError, RangeError, Error or AWS's own, as it comes: `explainFailure` says what it means.
 * @see https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
 *
 * @example
 * const [sts, ec2] = [new STSClient({}), new EC2Client({})];
 * const { arn, zones } = await firstSteps(sts, ec2);
 * console.log(`${arn} may use ${zones}`);
 */
export async function firstSteps(sts: STSClient, ec2: EC2Client): Promise<FirstSteps> {
  // Each call would do this by itself. Done apart, an error here is one of your settings and not AWS's answer.
  const { accessKeyId, sessionToken, expiration } = await sts.config.credentials();
  const region = await ec2.config.region();

  const { Account, Arn } = await sts.send(new GetCallerIdentityCommand({}));
  if (!Account || !Arn) throw new Error('The server does not say whose the credentials are: is it an STS?');

  // Local Zones that you opted in to are listed too.
  const Filters = [{ Name: 'zone-type', Values: ['availability-zone'] }];
  const { AvailabilityZones = [] } = await ec2.send(new DescribeAvailabilityZonesCommand({ Filters }));
  return {
    account: Account,
    arn: Arn,
    source: await findSource(sts),
    accessKeyId,
    temporary: sessionToken !== undefined,
    expires: expiration ?? null,
    region,
    zones: AvailabilityZones.map(({ ZoneName = '' }) => ZoneName).sort(),
    clockOffset: Math.round(sts.config.systemClockOffset / 1000),
  };
}

async function findSource({ config }: STSClient): Promise<string> {
  const { $source = {} } = (await config.credentials()) as { $source?: object };
  const [, words = 'instance metadata, or a function in code'] =
    Object.entries(sources).find(([mark]) => mark in $source) ?? [];
  return words.replace('{profile}', `profile ${getProfileName({ profile: config.profile })}`);
}

/**
 * Finds out why the first steps failed. It reads the settings and, where the region may be at fault, asks us-east-1.
 *
 * @param error - What `firstSteps` threw.
 * @param sts - The client that it was given.
 * @param clientFor - Makes the EC2 client for a region.
 * @returns The given error, or one that says more: a RangeError for a region that does not exist.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_enable-regions.html
 *
 * @example
 * const sts = new STSClient({});
 * const clientFor = (region: string) => new EC2Client({ region });
 * await firstSteps(sts, new EC2Client({})).catch(async (error) => {
 *   throw await explainFailure(error, sts, clientFor);
 * });
 */
export async function explainFailure(
  error: Error,
  sts: STSClient,
  clientFor: (region: string) => EC2Client,
): Promise<Error> {
  const because = (message: string, name = error.name) => Object.assign(new Error(message, { cause: error }), { name });

  if (error.name === 'CredentialsProviderError') {
    if (/expired|login|token/i.test(error.message)) {
      const { configFile } = await loadSharedConfigFiles();
      const name = getProfileName({ profile: sts.config.profile });
      // A role is assumed with the session of another profile.
      const profile = configFile[name]?.source_profile ?? name;
      const login = `aws${configFile[profile]?.sso_account_id ? ' sso' : ''} login --profile ${profile}`;
      return because(`the session of profile ${profile} has ended or never began: run \`${login}\``, 'SessionEnded');
    }
    const flaw = await findFlaw(sts.config.profile);
    return flaw ? because(flaw, 'IncompleteSettings') : error;
  }

  if (/ENOTFOUND|EAI_AGAIN|Region not accepted|InvalidClientTokenId|AuthFailure/.test(`${error}`)) {
    try {
      const [, region = await sts.config.region()] = /region="(.*)"/.exec(error.message) ?? [];
      if (!region) return because('Region is missing: a setting names it, but is empty');
      const [found] = await findRegions(clientFor, { region });
      if (found?.state === 'disabled') {
        return because(`${region} is not enabled in your account: enable it on the console's account page`);
      }
    } catch (answer) {
      // Any other answer says that the region is not what is wrong.
      if (answer instanceof RangeError) return answer;
    }
  }

  const { accessKeyId, sessionToken } = await sts.config.credentials().catch(() => ({}) as never);
  // There is no key to blame if AWS refused to let a role be assumed.
  if (!accessKeyId) return error;
  const which = `access key ${accessKeyId} (from: ${await findSource(sts)})`;
  switch (error.name) {
    case 'InvalidClientTokenId':
      return because(
        accessKeyId.startsWith('ASIA') && !sessionToken
          ? `the ${which} is a session's, and its session token is missing`
          : `AWS does not know the ${which}: it was deleted, made inactive, or is not for this region`,
      );
    case 'SignatureDoesNotMatch':
      return because(`the secret access key is not that of the ${which}: copy both again`);
    case 'ExpiredToken':
    case 'ExpiredTokenException':
    case 'RequestExpired':
      return because(`the session of the ${which} is over`);
    default:
      return error;
  }
}

/** What is wrong with the settings for credentials, looked at in the SDK's order; empty if nothing is. */
async function findFlaw(profile?: string): Promise<string> {
  const half = (where: string, id: [string, unknown], secret: [string, unknown]) => {
    const [there, missing] = id[1] ? [id, secret] : [secret, id];
    return there[1] && !missing[1] ? `${where}: ${there[0]} is set, but ${missing[0]} is not: set both` : undefined;
  };
  const name = getProfileName({ profile });
  const selectors: Parameters<typeof loadConfig<string>>[0] = {
    environmentVariableSelector: (env) => {
      const [id, secret] = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] as const;
      return profile || env.AWS_PROFILE ? undefined : half('environment', [id, env[id]], [secret, env[secret]]);
    },
    configFileSelector: ({ aws_access_key_id, aws_secret_access_key, credential_process }) =>
      half(
        `profile ${name} in ~/.aws`,
        ['aws_access_key_id', aws_access_key_id],
        ['aws_secret_access_key', aws_secret_access_key],
      ) ??
      (credential_process && `profile ${name}: its credential_process gives none; run it by hand to see why`),
    default: async () => {
      const { configFile, credentialsFile } = await loadSharedConfigFiles();
      const known = Object.keys({ ...configFile, ...credentialsFile });
      const profiles = known.filter((one) => !/^(sso-session|services)\./.test(one));
      if (name === 'default' || profiles.includes(name)) return '';
      return `AWS_PROFILE or the client names "${name}", which ~/.aws has not; there is ${profiles.join(', ') || 'none'}`;
    },
  };
  return loadConfig(selectors, { profile })();
}

// ---- command line: leave out when copying ----
import { connect, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command.action(async () => {
    const sts = connect(STSClient);
    const clientFor = (region?: string) => connect(EC2Client, region ? { region } : {});
    const result = await firstSteps(sts, clientFor()).catch(async (error) => {
      throw await explainFailure(error, sts, clientFor);
    });
    const minutes = Math.round(result.clockOffset / 60);
    const clock = minutes === 0 ? 'right' : `${Math.abs(minutes)} min ${minutes > 0 ? 'behind' : 'ahead'}`;
    print(result, { clockOffset: () => clock });
    if (minutes) console.error(`This machine's clock is ${clock}. The SDK makes up for it, others don't: set it.`);
  }),
);
