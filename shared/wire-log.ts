/**
 * Shows the requests of a client and their responses as they are on the wire, without the secrets in them:
 * `--debug` prints them whole, `--calls` a line each. A middleware at the step `deserialize` with low priority
 * stands next to the socket: it sees each attempt, the signed headers and the body before the SDK parses it.
 */
import { pipeline, Readable, Transform } from 'node:stream';
import type { Client, DeserializeHandler, HandlerExecutionContext, HttpRequest, HttpResponse } from '@smithy/types';

// biome-ignore lint/suspicious/noExplicitAny: the services' clients have nothing in common but this
export type AnyClient = Client<any, any, any>;

/** How many bytes of a body are shown. */
const shown = 4096;

/** `s3:CreateBucket`: service and operation of a request; mostly the name of the IAM action, too. */
export function operationName({ clientName = '', commandName = '' }: HandlerExecutionContext): string {
  return `${clientName.replace('Client', '').toLowerCase()}:${commandName.replace('Command', '')}`;
}

/**
 * Writes what a client sends and gets: a line for each request, `s3:CreateBucket 200 12 ms`, or all of it.
 *
 * @param client - Of any service.
 * @param write - Is given one or more lines, without a line feed at the end.
 * @param options.whole - Show headers and bodies, bodies cut after 4 KiB and secrets struck out. False by default.
 */
export function logRequests(client: AnyClient, write: (text: string) => void, { whole = false } = {}): void {
  type Next = DeserializeHandler<object, object>;
  const middleware = (next: Next, context: HandlerExecutionContext) => async (args: Parameters<Next>[0]) => {
    const request = args.request as HttpRequest;
    const operation = operationName(context);
    if (whole) {
      const query = new URLSearchParams(request.query as Record<string, string>);
      const host = `${request.hostname}${request.port ? `:${request.port}` : ''}`;
      const url = `${request.protocol}//${host}${request.path}${query.size ? `?${query}` : ''}`;
      write(strike(`> ${operation}\n> ${request.method} ${url}\n${headers('>', request.headers)}`));
      request.body = record(request.body, (text) => write(`> ${text}`));
    }
    const start = performance.now();
    const tell = (outcome: unknown) => write(`${operation} ${outcome} ${Math.round(performance.now() - start)} ms`);
    const result = await next(args).catch((error) => {
      tell(error.name);
      throw error;
    });
    const response = result.response as HttpResponse;
    tell(response.statusCode);
    if (whole) {
      write(strike(headers('<', response.headers)));
      response.body = record(response.body, (text) => write(`< ${text}`));
    }
    return result;
  };
  client.middlewareStack.add(middleware, { step: 'deserialize', priority: 'low', name: 'logRequests', override: true });
}

/** Hands a body on as it is and tells what was in it; a stream is looked at as it flows, never read ahead. */
function record(body: unknown, tell: (text: string) => void): unknown {
  const isWhole = typeof body === 'string' || body instanceof Uint8Array;
  if (isWhole && body.length > 0) tell(describe(Buffer.from(body as string), Buffer.byteLength(body)));
  if (!(body instanceof Readable)) return body;
  const head: Buffer[] = [];
  let length = 0;
  const recorder = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (length < shown) head.push(chunk);
      length += chunk.length;
      done(null, chunk);
    },
    flush(done) {
      if (length > 0) tell(describe(Buffer.concat(head), length));
      done();
    },
  });
  return pipeline(body, recorder, () => {});
}

function describe(head: Buffer, length: number): string {
  // Cutting can split a character of several bytes; what is no text even so is binary.
  const text = head.toString('utf8', 0, shown).replace(/\ufffd{1,3}$/, '');
  return /[\0\ufffd]/.test(text)
    ? `(binary, ${length} bytes)`
    : `${strike(text)}${length > shown ? `… (${length} bytes)` : ''}`;
}

function headers(mark: string, all: Record<string, string>): string {
  const secret = /session-?token|security-token|customer-key$|cookie|x-amz-mfa$/i;
  return Object.entries(all)
    .map(([name, value]) => `${mark} ${name}: ${secret.test(name) ? '***' : value}`)
    .join('\n');
}

const secrets = [
  /(Signature=)[0-9a-zA-Z%/+=]+/g,
  /((?:X-Amz-(?:Security|S3session)-Token|customer-key|SessionToken|(?<![\w-])Token|Password|PresignedUrl|UserData(?:\.Value)?)[=:])[^&\s<"\\]+/gi,
  /(-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?=-----END|$)/g,
  /(<userData>\s*(?:<value>)?)[^<]*/gi,
  /(<(?:\w+:)?(?:keyMaterial|SecretAccessKey|SessionToken|passwordData|Password|Token-\d+|SignatureProvided|CanonicalRequestBytes)>)[^<]*/gi,
  /("(?:KeyMaterial|SecretAccessKey|SessionToken|SecretString|Password)"\s*:\s*")(?:[^"\\]|\\.)*/gi,
];

/** Strikes out signatures, signed URLs, session tokens, secret and private keys, passwords and user data. */
export function strike(text: string): string {
  return secrets.reduce((rest, secret) => rest.replace(secret, '$1***'), text);
}
