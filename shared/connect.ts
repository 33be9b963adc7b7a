/**
 * Makes the clients. Where they go and as whom is decided by the SDK's own rules, from the environment and
 * `~/.aws`; the common options of the command line only set those variables. So `new S3Client({})` in your own
 * code goes to the same place. On another server than AWS it also needs `forcePathStyle: true`, which is added here,
 * as are limits that the SDK leaves open, the name of the cookbook for the server's logs, and ours.
 */
import { type AnyClient, logRequests, operationName } from './wire-log.ts';

/** What `--debug` and `--calls` switch on for the clients made after. */
export const logging = { wire: false, calls: false };

const operations = new WeakMap<object, string>();
let first: AnyClient | undefined;

/** The operation that an error came from, such as `s3:CreateBucket`; undefined if it came from no client. */
export function failedOperation(error: unknown): string | undefined {
  return operations.get(error as object);
}

/**
 * Makes a client.
 *
 * @param Client - The SDK's class: `S3Client`.
 * @param overrides - Settings as for the class itself, such as another region.
 */
export function connect<Client extends AnyClient, Settings extends unknown[]>(
  Client: new (...settings: Settings) => Client,
  overrides?: Settings[0],
): Client {
  // Node 20 works with this SDK; a warning with each run would only hide what matters.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
  const settings = {
    customUserAgent: 'paws-cookbook',
    // To connect, and for silence on an open connection. No limit on a whole request: it would end large uploads.
    requestHandler: { connectionTimeout: 5_000, socketTimeout: 60_000 },
    // For S3. To ask first whether to send a large body, it would use a new connection each time, without these limits.
    expectContinueHeader: false,
    ...(overrides as object),
  };
  const client = new Client(...([settings] as unknown as Settings));
  first ??= client;

  // Other servers than AWS rarely have a host name for each bucket, so the bucket goes into the path there. A
  // function, for the SDK finds out only with a request whether it goes to such a server.
  const { config } = client;
  if (config.forcePathStyle === false) {
    const custom = async () => config.isCustomEndpoint === true || !!(await config.serviceConfiguredEndpoint());
    Object.assign(config, { forcePathStyle: custom });
  }

  client.middlewareStack.add(
    (next, context) => (args) =>
      next(args).catch((error) => {
        operations.set(Object(error), operationName(context));
        throw error;
      }),
    { step: 'initialize', name: 'rememberOperation' },
  );
  const write = (text: string) => process.stderr.write(`${text}\n`);
  if (logging.calls || logging.wire) logRequests(client, write, { whole: logging.wire });
  return client;
}

/** Whose resources a client works on, in words, for a question before something is lost or costs. */
export async function describeTarget(): Promise<string> {
  const { STSClient, GetCallerIdentityCommand } = await import('@aws-sdk/client-sts');
  const { config } = first ?? connect(STSClient);
  const [{ accessKeyId }, region] = [await config.credentials(), await config.region()];
  // Somebody else's server has no accounts to ask for, and must not make us ask AWS.
  const endpoint = await config.serviceConfiguredEndpoint();
  if (endpoint) return `${endpoint}, access key ${accessKeyId}, region ${region}`;
  const { Account } = await connect(STSClient, { region }).send(new GetCallerIdentityCommand({}));
  return `AWS, account ${Account}, region ${region}`;
}
