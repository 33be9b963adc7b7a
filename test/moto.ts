/** moto server: checks the signature of each request and the IAM policies of the caller, which LocalStack does not. */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProgram, type Keys, type StartedServer, spawnServer, startServer } from './program.ts';
import { root, temporaryFolder } from './run.ts';

/** Where it is; null if it is not installed. Tests that need it are skipped then, and CI fails. */
export const moto = findProgram('moto_server');

export interface Moto extends StartedServer {
  /** Forgets all that was made, keys too; those of the user who may do everything are given anew. */
  reset: () => Promise<void>;
  /** Makes a user who has this policy, as `--policy` prints it. */
  makeUser: (policy: string, name?: string) => Promise<Keys>;
}

/** Starts one, with a user who may do everything. */
export async function startMoto(): Promise<Moto> {
  if (!moto) throw new Error('moto server is not installed: test/install-servers does it');
  const python = join(dirname(realpathSync(moto)), 'python3');
  const { path, remove } = temporaryFolder();
  const { url, stop } = await startServer((port) =>
    spawnServer(python, ['-I', join(root, 'test/moto-server.py'), '-H', '127.0.0.1', '-p', `${port}`], { HOME: path }),
  );
  const post = (page: string, body = '') => fetch(`${url}/moto-api/${page}`, { method: 'POST', body });
  const makeUser = async (policy: string, name = 'reader') => {
    const iam = (action: string, more: Record<string, string> = {}) =>
      callIam(url, { Action: action, UserName: name, ...more });
    // So many calls are free.
    await post('reset-auth', '3');
    await iam('CreateUser');
    // A policy that allows nothing is none.
    if (policy.includes('Action')) await iam('PutUserPolicy', { PolicyName: 'own', PolicyDocument: policy });
    const answer = await iam('CreateAccessKey');
    // From here on each call is checked.
    await post('reset-auth', '0');
    const field = (name: string) => new RegExp(`<${name}>([^<]+)`).exec(answer)?.[1] as string;
    return { accessKeyId: field('AccessKeyId'), secretAccessKey: field('SecretAccessKey') };
  };
  const all = { Version: '2012-10-17', Statement: { Effect: 'Allow', Action: '*', Resource: '*' } };
  const server: Moto = {
    url,
    ...(await makeUser(JSON.stringify(all), 'admin')),
    makeUser,
    reset: async () => {
      await post('reset');
      Object.assign(server, await makeUser(JSON.stringify(all), 'admin'));
    },
    stop: () => stop().finally(remove),
  };
  return server;
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
