/** moto server: checks the signature of each request and the IAM policies of the caller, which LocalStack does not. */
import { findProgram, type StartedServer, spawnServer, startServer } from './program.ts';
import { temporaryFolder } from './run.ts';

/** Where it is; null if it is not installed. Tests that need it are skipped then, and CI fails. */
export const moto = findProgram('moto_server');

/** Starts one, with a user who may do everything. */
export async function startMoto(): Promise<StartedServer> {
  if (!moto) throw new Error('moto server is not installed: test/install-servers does it');
  const { path, remove } = temporaryFolder();
  const env = { INITIAL_NO_AUTH_ACTION_COUNT: '1000', HOME: path };
  const { url, stop } = await startServer((port) =>
    spawnServer(moto as string, ['-H', '127.0.0.1', '-p', `${port}`], env),
  );
  const free = (action: string, parameters: Record<string, string> = {}) =>
    callIam(url, { Action: action, UserName: 'admin', ...parameters });
  await free('CreateUser');
  const allowAll = { Version: '2012-10-17', Statement: { Effect: 'Allow', Action: '*', Resource: '*' } };
  await free('PutUserPolicy', { PolicyName: 'all', PolicyDocument: JSON.stringify(allowAll) });
  const answer = await free('CreateAccessKey');
  // Until here calls were free; from here on each is checked.
  await fetch(`${url}/moto-api/reset-auth`, { method: 'POST', body: '0' });
  const field = (name: string) => new RegExp(`<${name}>([^<]+)`).exec(answer)?.[1] as string;
  return {
    url,
    accessKeyId: field('AccessKeyId'),
    secretAccessKey: field('SecretAccessKey'),
    stop: () => stop().finally(remove),
  };
}

/** One unsigned call to IAM. */
async function callIam(url: string, parameters: Record<string, string>): Promise<string> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      // moto finds the service by what a signature names, and looks no further while calls are free.
      authorization: 'AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/iam/aws4_request, SignedHeaders=host',
    },
    body: new URLSearchParams({ Version: '2010-05-08', ...parameters }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`moto: ${parameters.Action}: ${answer.status} ${text}`);
  return text;
}
