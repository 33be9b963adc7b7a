import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomUUID, sign, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ConfirmSubscriptionCommand,
  CreateTopicCommand,
  ListSubscriptionsByTopicCommand,
  PublishCommand,
  SetTopicAttributesCommand,
  SNSClient,
  SubscribeCommand,
  UnsubscribeCommand,
} from '@aws-sdk/client-sns';
import fc from 'fast-check';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import {
  receiveNotifications,
  type VerifiedMessage,
  verifyMessage,
} from '../../recipes/ec2/29-receive-notifications.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { freePort } from '../program.ts';
import { serve } from '../serve.ts';

// The authorities of these tests take the place of those that Node.js knows.
const { roots } = vi.hoisted(() => ({ roots: [] as string[] }));
vi.mock('node:tls', async (original) => ({ ...(await original<object>()), rootCertificates: roots }));

const own = testRecipe(import.meta);
const { run, file, folder, account } = own;
const sns = new SNSClient(settingsOf(own));
const topicArn = `arn:aws:sns:us-east-1:${account}:tested`;
const downloaded = new Map<string, Promise<string>>();
const ofLocalStack = async (url: string) => {
  const download = async () => (await fetch(`${process.env.COOKBOOK_LOCALSTACK}${new URL(url).pathname}`)).text();
  const text = downloaded.get(url) ?? download();
  downloaded.set(url, text);
  text.catch(() => downloaded.delete(url));
  return new X509Certificate(await text);
};

/** Where SNS has its certificate. Each test has its own, for the recipe remembers them. */
const certificateUrl = () =>
  `https://sns.us-east-1.amazonaws.com/SimpleNotificationService-${Date.now()}${count++}.pem`;
let count = 0;
const [issuerUrl, leafUrl] = ['http://crt.example.com/issuer.cer', 'http://crt.example.com/leaf.cer'];
/** Keys and certificates by their names, as openssl makes them. */
const keys: Record<string, KeyObject> = {};
const certificates: Record<string, string> = {};

/** Makes a key and a certificate, issued by another of these, or by itself. */
function issue(name: string, subject: string, extensions: string, issuer = name, days = 1): void {
  writeFileSync(join(folder, `${name}.ext`), extensions);
  const openssl = (words: string) => execFileSync('openssl', words.split(' '), { cwd: folder, stdio: 'pipe' });
  openssl(`req -newkey rsa:2048 -nodes -keyout ${name}.key -out ${name}.csr -subj ${subject}`);
  const by = issuer === name ? `-signkey ${name}.key` : `-CA ${issuer}.pem -CAkey ${issuer}.key -CAcreateserial`;
  openssl(`x509 -req -in ${name}.csr -out ${name}.pem -days ${days} ${by} -extfile ${name}.ext`);
  keys[name] = createPrivateKey(readFileSync(join(folder, `${name}.key`), 'utf8'));
  certificates[name] = readFileSync(join(folder, `${name}.pem`), 'utf8');
}

beforeAll(() => {
  const isCa = 'basicConstraints=critical,CA:true\n';
  const aia = `authorityInfoAccess=OCSP;URI:http://ocsp.example.com,caIssuers;URI:${issuerUrl}\n`;
  const sns = 'subjectAltName=DNS:sns.amazonaws.com\n';
  issue('root', '/CN=Root', isCa, 'root', 9);
  issue('issuer', '/CN=Issuer', isCa + aia, 'root', 4);
  issue('leaf', '/CN=sns.amazonaws.com', sns + aia, 'issuer');
  issue('regional', '/CN=x', `subjectAltName=DNS:sns-signing.us-east-1.amazonaws.com\n${aia}`, 'issuer');
  issue('stranger', '/CN=sns.amazonaws.com.example.com', `subjectAltName=DNS:xsns.amazonaws.com\n${aia}`, 'issuer');
  issue('alone', '/CN=sns.amazonaws.com', sns);
  issue('longer', '/CN=sns.amazonaws.com', sns + aia, 'issuer', 9);
  // Its issuer is no authority.
  issue('below', '/CN=sns.amazonaws.com', sns + aia.replace(issuerUrl, leafUrl), 'leaf');
  issue('false', '/CN=Issuer', isCa);
  issue('forged', '/CN=sns.amazonaws.com', sns + aia, 'false');
  roots.push(certificates.root as string);
});

/** The web as these tests have it. */
let asked: string[] = [];
function answer(pages: Record<string, string | undefined>): void {
  asked = [];
  vi.stubGlobal('fetch', async (url: string) => {
    asked.push(url);
    return new Response(pages[url] ?? '', { status: pages[url] ? 200 : 404 });
  });
}
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

type Fields = Record<string, string | null | undefined>;
const names = {
  Notification: ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'],
  other: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
};

/** A message as SNS sends it: signed by its documentation, in plain words. */
function signed(given: Fields = {}, { key = keys.leaf, version = '2', url = certificateUrl() } = {}): Fields {
  const fields: Fields = {
    ...{ Type: 'Notification', MessageId: randomUUID(), TopicArn: topicArn, Timestamp: new Date().toISOString() },
    ...{ Message: 'It is hot.', ...given },
  };
  let text = '';
  for (const name of fields.Type === 'Notification' ? names.Notification : names.other) {
    if (typeof fields[name] === 'string') text += `${name}\n${fields[name]}\n`;
  }
  const signature = sign(version === '1' ? 'sha1' : 'sha256', Buffer.from(text), key as KeyObject);
  return { ...fields, SignatureVersion: version, Signature: signature.toString('base64'), SigningCertURL: url };
}

const verified = (fields: object) => verifyMessage(JSON.stringify(fields), { topicArn });
const refused = (fields: object, why: RegExp) =>
  expect(verified(fields)).rejects.toMatchObject({ name: 'ForgedMessageError', message: expect.stringMatching(why) });

test('a message that SNS signed is verified, in both versions, whatever is in it', async () => {
  const url = certificateUrl();
  answer({ [url]: certificates.leaf, [issuerUrl]: certificates.issuer });
  const text = fc.string({ unit: 'binary', maxLength: 50 }).map((one) => one.replace(/\p{Cs}/gu, ''));
  const subject = fc.option(fc.stringMatching(/^[ -~]{1,99}$/), { nil: undefined });
  await fc.assert(
    fc.asyncProperty(text, subject, fc.constantFrom('1', '2'), async (Message, Subject, version) => {
      const message = signed({ Message, Subject }, { version, url });
      expect(await verified(message)).toEqual({
        ...{ type: 'Notification', messageId: message.MessageId, timestamp: message.Timestamp },
        ...{ subject: Subject ?? null, message: Message, token: null },
      });
    }),
    { numRuns: 100 },
  );
  // Fetched once.
  expect(asked).toEqual([url, issuerUrl]);
  const confirm = {
    Type: 'SubscriptionConfirmation',
    Token: '2336412f',
    SubscribeURL: 'https://sns.us-east-1.amazonaws.com/?a',
  };
  expect(await verified(signed(confirm, { url }))).toMatchObject({ type: confirm.Type, token: confirm.Token });
});

test('a certificate with the name of a region is good; the address of another region or host is not visited', async () => {
  const url = certificateUrl();
  answer({ [url]: certificates.regional, [issuerUrl]: certificates.issuer });
  expect(await verified(signed({ Subject: null }, { key: keys.regional, url }))).toMatchObject({ subject: null });
  asked = [];
  for (const wrong of [
    url.replace('us-east-1', 'eu-west-1'),
    url.replace('https', 'http'),
    url.replace('amazonaws.com', 'amazonaws.com.example.com'),
    url.replace('sns.', 'sns.us-east-1.example.com/sns.'),
    url.replace('sns.', 'me@sns.'),
    url.replace('.com', '.com:8443'),
    url.replace('/Simple', '/x/Simple'),
    `${url}?.pem`,
    `https://example.com/${url}`,
    'https://my-bucket.s3.amazonaws.com/SimpleNotificationService-0.pem',
  ]) {
    await refused(signed({}, { url: wrong }), /certificate is not at SNS/);
  }
  expect(asked).toEqual([]);
});

test('a certificate of another name, without a chain to a known authority, or out of date is refused', async () => {
  const check = async (name: string, issuer: string | undefined, why: RegExp) => {
    const url = certificateUrl();
    answer({ [url]: certificates[name], [issuerUrl]: issuer, [leafUrl]: certificates.leaf });
    await refused(signed({}, { key: keys[name], url }), why);
  };
  await check('stranger', certificates.issuer, /certificate is of CN=sns\.amazonaws\.com\.example\.com/);
  await check('alone', undefined, /authority/);
  await check('below', certificates.issuer, /authority/);
  await check('forged', certificates.issuer, /authority/);
  await check('forged', certificates.false, /authority/);
  await check('leaf', certificates.regional, /authority/);
  const later = (days: number) => vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + days * 86_400_000 });
  later(2);
  await check('leaf', certificates.issuer, /authority/);
  later(3);
  await check('longer', certificates.issuer, /authority/);
  vi.useRealTimers();

  // One that was good is refused, too, once it is out of date.
  const url = certificateUrl();
  answer({ [url]: certificates.leaf, [issuerUrl]: certificates.issuer });
  await verified(signed({}, { url }));
  later(2);
  await refused(signed({}, { url }), /authority/);
});

test('fields that slide into each other under the same signature are refused', async () => {
  const url = certificateUrl();
  answer({ [url]: certificates.leaf, [issuerUrl]: certificates.issuer });
  const good = signed({ Message: 'a\nMessageId\n1', Subject: 'Delete all' }, { url });
  await verified(good);
  const { Message, MessageId, Subject } = good;
  await refused({ ...good, MessageId: `${MessageId}\nSubject\n${Subject}`, Subject: undefined }, /MessageId/);
  await refused({ ...good, Message: 'a', MessageId: `1\nMessageId\n${MessageId}` }, /MessageId/);
  await refused({ ...good, Message: `${Message}\nMessageId\n${MessageId}`, MessageId: undefined }, /MessageId/);
  await refused({ ...good, Subject: undefined }, /signature/);
  await refused({ ...good, Message: [Message] }, /Message /);
});

test('messages that are too old, of the future, of another topic or no messages are refused', async () => {
  const url = certificateUrl();
  answer({ [url]: certificates.leaf, [issuerUrl]: certificates.issuer });
  const at = (minutes: number) => ({ Timestamp: new Date(Date.now() + minutes * 60_000).toISOString() });
  await verified(signed(at(-60), { url }));
  await verified(signed(at(4), { url }));
  await refused(signed(at(-66), { url }), /it is of 2/);
  await refused(signed(at(6), { url }), /it is of 2/);
  await refused(signed({ Timestamp: '2026-13-99T99:99:99.000Z' }, { url }), /it is of 2026-13/);
  await refused(signed({ TopicArn: `${topicArn}x` }, { url }), /it is of the topic/);
  await refused({ ...signed({}, { url }), SignatureVersion: '3' }, /SignatureVersion/);
  for (const body of ['', '{', 'null', '[]', '7', '"Notification"', '{"Type":"Notification"}']) {
    await expect(verifyMessage(body, { topicArn })).rejects.toMatchObject({ name: 'ForgedMessageError' });
  }
});

/** Runs the receiver for a test, and ends it with it. */
async function receive(options: Partial<Parameters<typeof receiveNotifications>[1]> = {}) {
  const port = await freePort();
  const stop = new AbortController();
  const received: VerifiedMessage[] = [];
  const refusals: Error[] = [];
  const ended = receiveNotifications(sns, {
    ...{ topicArn, port, signal: stop.signal, getCertificate: ofLocalStack },
    onNotification: (message) => received.push(message),
    onRefused: (error) => refusals.push(error),
    ...options,
  });
  ended.catch(() => {});
  const url = `http://127.0.0.1:${port}`;
  const post = async (body: string) => {
    for (;;) {
      // Until it listens.
      const answer = await fetch(url, { method: 'POST', body }).catch(() => null);
      if (answer) return answer.status;
    }
  };
  return { received, refusals, ended, post, stop: () => stop.abort(new Error('stopped')) };
}

const subscriptions = async () =>
  (await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn: topicArn }))).Subscriptions ?? [];

/** What LocalStack's SNS really sends, as it is on the wire. */
async function capture(message: { Message: string; Subject?: string }): Promise<Fields> {
  const bodies: Fields[] = [];
  const { url } = await serve(async (request, response) => {
    let body = '';
    for await (const text of request.setEncoding('utf8')) body += text;
    const fields = JSON.parse(body);
    response.end();
    if (fields.Type !== 'SubscriptionConfirmation') return void bodies.push(fields);
    await sns.send(new ConfirmSubscriptionCommand({ TopicArn: topicArn, Token: fields.Token }));
    await sns.send(new PublishCommand({ TopicArn: topicArn, ...message }));
  });
  await sns.send(new SubscribeCommand({ TopicArn: topicArn, Protocol: 'http', Endpoint: url }));
  await vi.waitFor(() => expect(bodies).toHaveLength(1), 60_000);
  return bodies[0] as Fields;
}

test('it subscribes, confirms, receives in both versions, and takes the subscription back', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  const onConfirmed = vi.fn();
  const { received, ended } = await receive({ publicUrl: 'http://127.0.0.1:{port}', port: 0, count: 2, onConfirmed });
  await vi.waitFor(() => expect(onConfirmed).toHaveBeenCalledTimes(1), 60_000);
  expect(await subscriptions()).toHaveLength(1);
  await sns.send(new PublishCommand({ TopicArn: topicArn, Message: 'é\nMessageId\n1', Subject: 'one' }));
  await vi.waitFor(() => expect(received).toHaveLength(1), 60_000);
  const two = { TopicArn: topicArn, AttributeName: 'SignatureVersion', AttributeValue: '2' };
  await sns.send(new SetTopicAttributesCommand(two));
  await sns.send(new PublishCommand({ TopicArn: topicArn, Message: 'two' }));
  await ended;
  expect(received).toMatchObject([
    { type: 'Notification', subject: 'one', message: 'é\nMessageId\n1', token: null },
    { type: 'Notification', subject: null, message: 'two', token: null },
  ]);
  expect(await subscriptions()).toEqual([]);
});

test('1,000 forged or damaged messages are refused, and the real one is still received', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  const real = await capture({ Message: 'The real one', Subject: 'real' });
  const { received, refusals, post, ended, stop } = await receive();
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const isSigned = fc.constantFrom(...names.Notification, 'Signature', 'SignatureVersion');
  const change = (text: string, at: number, by: string) => {
    const i = at % text.length;
    return text.slice(0, i) + (text[i] === by ? `${by}x` : by) + text.slice(i + 1);
  };
  const damaged = fc
    .tuple(isSigned, fc.nat(), fc.constantFrom(...'aZ09+/\n '))
    .map(([name, at, by]) => JSON.stringify({ ...real, [name]: change(real[name] as string, at, by) }))
    // The last character of base64 has bits that don't count.
    .filter(
      (body) =>
        !Buffer.from(JSON.parse(body).Signature, 'base64').equals(Buffer.from(real.Signature as string, 'base64')) ||
        JSON.parse(body).Signature === real.Signature,
    );
  const missing = isSigned.map((name) => JSON.stringify({ ...real, [name]: undefined }));
  const cut = fc.nat({ max: JSON.stringify(real).length - 1 }).map((length) => JSON.stringify(real).slice(0, length));
  const byStranger = fc
    .tuple(fc.string(), fc.constantFrom('1', '2'))
    .map(([Message, version]) =>
      JSON.stringify(signed({ Message }, { key: privateKey, version, url: real.SigningCertURL as string })),
    );
  const messages = fc.sample(
    fc.oneof({ weight: 6, arbitrary: damaged }, missing, cut, { weight: 2, arbitrary: byStranger }),
    1000,
  );
  for (let i = 0; i < 1000; i += 20) {
    const statuses = await Promise.all(messages.slice(i, i + 20).map(post));
    expect(statuses.filter((status) => status !== 403)).toEqual([]);
  }
  expect(received).toEqual([]);
  expect(refusals).toHaveLength(1000);
  expect(await post(JSON.stringify(real))).toBe(200);
  expect(received).toMatchObject([{ messageId: real.MessageId, message: 'The real one', subject: 'real' }]);
  stop();
  await expect(ended).rejects.toThrow('stopped');
});

test('what the handler throws is answered with 500, what is too long with 403, and neither ends it', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  const real = JSON.stringify(await capture({ Message: 'x' }));
  const onNotification = vi.fn().mockRejectedValueOnce(new Error('no room'));
  const { refusals, post, stop, ended } = await receive({ onNotification });
  expect(await post(real)).toBe(500);
  expect(refusals).toMatchObject([{ message: 'no room' }]);
  expect(await post(`${' '.repeat(2 ** 21)}${real}`)).toBe(403);
  expect(await post(real)).toBe(200);
  expect(onNotification).toHaveBeenCalledTimes(2);
  stop();
  await expect(ended).rejects.toThrow('stopped');
  await expect(receiveNotifications(sns, { topicArn: 'tested', onNotification })).rejects.toThrow(RangeError);
  for (const publicUrl of ['alarms.example.com', ''])
    await expect(receiveNotifications(sns, { topicArn, publicUrl, onNotification })).rejects.toThrow(RangeError);
});

test('a sender that hangs up before the answer does not keep it from ending', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  const real = JSON.stringify(await capture({ Message: 'x' }));
  const sender = new AbortController();
  let seen = () => {};
  const onNotification = async () => {
    sender.abort();
    // Until the server has seen it.
    await new Promise<void>((resolve) => (seen = resolve));
  };
  const port = await freePort();
  const ended = receiveNotifications(sns, { topicArn, port, count: 1, onNotification, getCertificate: ofLocalStack });
  const url = `http://127.0.0.1:${port}`;
  const post = () => fetch(url, { method: 'POST', body: real, signal: sender.signal }).catch(() => null);
  while (!sender.signal.aborted) await post();
  setTimeout(() => seen(), 200);
  await ended;
});

test('a message that is still being checked in the end is not confirmed', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  let go = () => {};
  const held = new Promise<void>((resolve) => (go = resolve));
  const asked = vi.fn();
  let got: ReturnType<typeof ofLocalStack> | undefined;
  const getCertificate = async (url: string) => {
    asked();
    await held;
    got = ofLocalStack(url);
    return got;
  };
  const { ended, stop } = await receive({ publicUrl: 'http://127.0.0.1:{port}', port: 0, getCertificate });
  await vi.waitFor(() => expect(asked).toHaveBeenCalled(), 60_000);
  const send = vi.spyOn(sns, 'send');
  stop();
  await expect(ended).rejects.toThrow('stopped');
  go();
  await vi.waitFor(() => expect(got).toBeDefined(), 60_000);
  await got;
  await new Promise((done) => setTimeout(done, 500));
  expect(send).not.toHaveBeenCalled();
});

test('a subscription that can not be taken back is named, beside the reason of the end', async () => {
  await sns.send(new CreateTopicCommand({ Name: 'tested' }));
  const send = sns.send.bind(sns) as (command: object) => Promise<unknown>;
  const denied = Object.assign(new Error('no'), { name: 'AuthorizationErrorException' });
  vi.spyOn(sns, 'send').mockImplementation(((command: object) =>
    command instanceof UnsubscribeCommand ? Promise.reject(denied) : send(command)) as never);
  const url = { publicUrl: 'http://127.0.0.1:{port}', port: 0 };
  const named = /; left is arn:aws:sns:us-east-1:\d+:tested:[\da-f-]{36}$/;
  const first = await receive({ ...url, onConfirmed: () => first.stop() });
  await expect(first.ended).rejects.toMatchObject({ name: 'Error', message: expect.stringMatching(/^stopped; left/) });
  await expect(first.ended).rejects.toThrow(named);
  const onConfirmed = () => sns.send(new PublishCommand({ TopicArn: topicArn, Message: 'x' }));
  const { ended } = await receive({ ...url, count: 1, onConfirmed });
  await expect(ended).rejects.toMatchObject({
    name: denied.name,
    message: expect.stringMatching(named),
    cause: denied,
  });
  vi.restoreAllMocks();
  for (const { SubscriptionArn } of await subscriptions()) {
    if (SubscriptionArn?.startsWith('arn:')) await sns.send(new UnsubscribeCommand({ SubscriptionArn }));
  }
});

test('a topic that is missing, a confirmation that is denied, Ctrl-C and wrong usage end with what to do', async () => {
  const command = (options: string, settings = {}) => run(`npx tsx ${file} ${options}`, settings);
  expect(await command('--local --try --port 0')).toMatchObject({
    ...{ code: 1, stdout: '' },
    stderr: expect.stringContaining('There is no topic named paws: make one with recipe 2.13'),
  });
  const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: 'other' }));
  const error = { name: 'AuthorizationErrorException', message: 'not authorized to perform: sns:ConfirmSubscription' };
  const [denied, port, usage, interrupted] = await Promise.all([
    command(`${TopicArn} --local --port 0`, { faults: [{ operation: 'sns:ConfirmSubscription', error }] }),
    command(`${TopicArn} --local --port x`),
    command(`${TopicArn} --try --endpoint-url http://127.0.0.2:9`),
    command(`${TopicArn} --local --port 0`, {
      faults: [{ operation: 'sns:ConfirmSubscription', signalAfter: 'SIGINT' }],
    }),
  ]);
  expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining('sns:ConfirmSubscription') });
  expect(port).toMatchObject({ code: 2, stderr: expect.stringContaining('port') });
  expect(usage).toMatchObject({ code: 2, stderr: expect.stringContaining('--try needs --public-url') });
  expect(interrupted).toMatchObject({ code: 130, stdout: '' });
  const { Subscriptions = [] } = await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn }));
  // Only the one whose confirmation was denied.
  expect(Subscriptions).toHaveLength(1);
});

test('a reader of its output that has seen enough, as head has, ends it: the subscription is taken back', async () => {
  const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: 'piped' }));
  let ended = false;
  const piped = run(`npx tsx ${file} ${TopicArn} --local --port 0 | head -1`).finally(() => (ended = true));
  // The second message finds nobody there.
  for (; !ended; await sleep(200)) await sns.send(new PublishCommand({ TopicArn, Message: 'again' }));
  expect(await piped).toEqual({ code: 0, stdout: expect.stringMatching(/^message id .*\n$/), stderr: '' });
  expect((await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn }))).Subscriptions).toEqual([]);
});
