/**
 * 2.29 Receive notifications
 *
 * ## Problem
 * A topic of SNS, with an alarm behind it (2.13), is to reach a program of yours by HTTP. Whoever knows the address can
 * send messages to it, so it must tell those of your topic from forged ones.
 *
 * ## Solution
 * Listen, and check each message first: its topic, its age, and its signature against the certificate of SNS, which is
 * checked in turn. Confirm the subscription by its token. In a web server of your own, `verifyMessage` alone will do.
 *
 * ## Discussion
 * Put a reverse proxy or a tunnel with HTTPS before the port, and give SNS its address as `--public-url`. Ctrl-C, a
 * `kill` and `--timeout` unsubscribe it; after `kill -9` it stays. One that was not confirmed ends by itself in two days.
 *
 * Only what is signed is returned. Message attributes and headers are not, and "raw delivery" has no signature at all.
 * Version 1 of the signature uses SHA-1; the topic's attribute `SignatureVersion` sets 2. What is signed are names and
 * values joined by line feeds, so each field but the message must have its own form: else parts of one pass as another.
 *
 * The certificate's address comes with the message. It is visited only if it is of SNS in the topic's region, and the
 * certificate must be made out to SNS and lead, by the issuers that it names, to an authority that Node.js knows.
 *
 * Answer within 15 s. SNS sends a message again, for an hour at most, when `onNotification` fails (500), not when it was
 * refused (403). It can come twice, and who has seen one can repeat it within the hour: remember its `messageId`.
 *
 * @before npx tsx recipes/ec2/13-alarm-notifications.ts you@example.com Shop Orders '<' 1 --local
 * @run npx tsx recipes/ec2/29-receive-notifications.ts --port 0 --try --local
 * @output
 *   message id  97a05acc-b492-4dc0-b603-15dbb51571b4
 *   timestamp   2026-11-24T21:04:11.185Z
 *   subject     A try
 *   message     It works.
 * @aws npx tsx recipes/ec2/29-receive-notifications.ts --public-url https://alarms.example.com --try
 * @permission sns:ListTopics on *
 * @permission sns:Subscribe on arn:aws:sns:*:*:TOPIC
 * @permission sns:ConfirmSubscription on arn:aws:sns:*:*:TOPIC
 * @permission sns:Publish on arn:aws:sns:*:*:TOPIC
 * @permission sns:Unsubscribe on *
 * @cost nothing worth mentioning: $0.60 for a million notifications by HTTP in us-east-1 (2026)
 * @undo nothing
 * @emulator LocalStack's certificate has no chain; the checks of certificates are tested with others.
 * @see https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
 */
import { verify, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { rootCertificates } from 'node:tls';
import { ConfirmSubscriptionCommand, SNSClient, SubscribeCommand, UnsubscribeCommand } from '@aws-sdk/client-sns';

/** What is signed of a message. */
export interface VerifiedMessage {
  type: 'Notification' | 'SubscriptionConfirmation' | 'UnsubscribeConfirmation';
  messageId: string;
  timestamp: string;
  subject: string | null;
  message: string;
  /** Confirms the subscription; null with a notification. */
  token: string | null;
}

/** Gets the certificate that a message names, and refuses one that is not of SNS. */
type GetCertificate = (url: string, region: string) => Promise<X509Certificate>;
type Check = { topicArn: string; getCertificate?: GetCertificate };

/** Milliseconds: SNS tries for an hour, and clocks differ. Characters: 256 KiB, each of which may take six in JSON. */
const [oldest, largest] = [65 * 60_000, 2 ** 21];

/** The form of each signed field. One line each but for the message, in the order in which they are signed. */
const forms = {
  Message: /^[\s\S]*$/,
  MessageId: /^[\da-f-]{36}$/i,
  Subject: /^\P{Cc}*$/u,
  SubscribeURL: /^https?:\/\/\S+$/,
  Timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/,
  Token: /^[\da-f]+$/i,
  TopicArn: /^arn:[a-z-]+:sns:[a-z\d-]+:\d{12}:[\w.-]+$/,
  Type: /^(Notification|SubscriptionConfirmation|UnsubscribeConfirmation)$/,
};

/**
 * Checks that a message comes from a topic of SNS.
 *
 * @param body - Of the request, as it came.
 * @param options.topicArn - The only topic that is believed.
 * @param options.getCertificate - Gets the certificate, and decides whether it is good. By default it must be of SNS.
 * @throws ForgedMessageError when it is damaged, forged, too old or of another topic.
 * @see https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
 *
 * @example
 * const topicArn = 'arn:aws:sns:eu-west-1:111122223333:paws';
 * const { type, message } = await verifyMessage('{ "Type": "Notification" }', { topicArn });
 * if (type === 'Notification') console.log(message);
 */
export async function verifyMessage(
  body: string,
  { topicArn, getCertificate = fetchCertificate }: Check,
): Promise<VerifiedMessage> {
  let fields: Record<string, unknown>;
  try {
    fields = Object(JSON.parse(body));
  } catch {
    throw forged('it is no JSON');
  }
  const text = (name: string, form: RegExp): string => {
    const value = fields[name];
    if (typeof value !== 'string' || !form.test(value)) throw forged(`its ${name} is not as it should be`);
    return value;
  };
  const left = text('Type', forms.Type) === 'Notification' ? ['SubscribeURL', 'Token'] : ['Subject'];
  if (fields.Subject === undefined || fields.Subject === null) left.push('Subject');
  const signed = Object.entries(forms).filter(([name]) => !left.includes(name));
  const values = Object.fromEntries(signed.map(([name, form]) => [name, text(name, form)]));
  const { TopicArn, Timestamp = '' } = values;
  if (TopicArn !== topicArn) throw forged(`it is of the topic ${TopicArn}`);
  const age = Date.now() - Date.parse(Timestamp);
  // Also refuses a time that is none.
  if (!(age < oldest && age > 60 * 60_000 - oldest)) throw forged(`it is of ${Timestamp}`);
  const hash = text('SignatureVersion', /^[12]$/) === '1' ? 'sha1' : 'sha256';
  const signature = Buffer.from(text('Signature', /^[\w+/]+=*$/), 'base64');
  const certificate = await getCertificate(text('SigningCertURL', /./), topicArn.split(':')[3] ?? '');
  const lines = Object.entries(values).map(([name, value]) => Buffer.from(`${name}\n${value}\n`));
  if (!verify(hash, Buffer.concat(lines), certificate.publicKey, signature)) throw forged('its signature is wrong');
  return {
    type: values.Type as VerifiedMessage['type'],
    messageId: values.MessageId as string,
    timestamp: Timestamp,
    subject: values.Subject ?? null,
    message: values.Message as string,
    token: values.Token ?? null,
  };
}

const forged = (why: string) => Object.assign(new Error(`message refused: ${why}`), { name: 'ForgedMessageError' });
const certificates = new Map<string, X509Certificate>();

/** The certificate that SNS of a region signs with. */
async function fetchCertificate(url: string, region: string): Promise<X509Certificate> {
  const ofRegion = `^https://sns\\.${region}\\.amazonaws\\.(com|com\\.cn|eu)/SimpleNotificationService-[\\da-f]+\\.pem$`;
  if (!new RegExp(ofRegion).test(url)) throw forged(`its certificate is not at SNS: ${url}`);
  const known = certificates.get(url);
  if (known && isCurrent(known)) return known;
  const certificate = await download(url);
  const names = `${certificate.subject}\n${certificate.subjectAltName?.replaceAll(/, ?/g, '\n')}`;
  // sns.amazonaws.com, sns-signing.af-south-1.amazonaws.com, sns-cn-north-1.amazonaws.com.cn
  const ofSns = /^(CN=|DNS:)sns(-signing)?([.-][a-z]+(-[a-z]+)+-\d+)?\.amazonaws\.(com|com\.cn|eu)$/m;
  if (!ofSns.test(names)) throw forged(`its certificate is of ${certificate.subject}`);
  const isIssuer = (one: X509Certificate, issuer: X509Certificate) =>
    issuer.ca && isCurrent(issuer) && one.checkIssued(issuer) && one.verify(issuer.publicKey);
  let one = certificate;
  // Each names where its issuer is found.
  for (let steps = 0; steps < 4 && isCurrent(certificate); steps++) {
    const isTrusted = rootCertificates.some((root) => isIssuer(one, new X509Certificate(root)));
    if (isTrusted) certificates.set(url, certificate);
    if (isTrusted) return certificate;
    const [, address] = /^CA Issuers - URI:(http\S+)$/m.exec(one.infoAccess ?? '') ?? [];
    const issuer = address && (await download(address));
    if (!issuer || !isIssuer(one, issuer)) break;
    one = issuer;
  }
  throw forged('its certificate has not been issued by an authority that Node.js knows');
}

const isCurrent = ({ validFrom, validTo }: X509Certificate) =>
  Date.parse(validFrom) <= Date.now() && Date.now() <= Date.parse(validTo);

async function download(url: string): Promise<X509Certificate> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  return new X509Certificate(Buffer.from(await response.arrayBuffer()));
}

/**
 * Receives the notifications of a topic, until it is told to stop.
 *
 * @param sns - Of the topic's region.
 * @param options.topicArn - The topic.
 * @param options.onNotification - Is given each notification; SNS sends it again if this throws.
 * @param options.publicUrl - Where SNS reaches the server, subscribed meanwhile; `{port}` in it stands for the port.
 * @param options.onConfirmed - Called when the subscription is in force.
 * @param options.onRefused - Called with the error of each request that is not answered with 200.
 * @param options.port - Of 127.0.0.1. 8080 by default; 0 is any that is free.
 * @param options.count - Ends after so many notifications; never by default.
 * @param options.signal - Ends it.
 * @throws The signal's reason; the SDK's error when a call fails. Its message names a subscription that is left.
 * @see https://docs.aws.amazon.com/sns/latest/dg/sns-http-https-endpoint-as-subscriber.html
 *
 * @example
 * const topicArn = 'arn:aws:sns:eu-west-1:111122223333:paws';
 * const onNotification = ({ message }: { message: string }) => console.log(message);
 * await receiveNotifications(new SNSClient({}), { topicArn, onNotification, publicUrl: 'https://alarms.example.com' });
 */
export async function receiveNotifications(
  sns: SNSClient,
  options: Check & {
    onNotification: (notification: VerifiedMessage) => unknown;
    publicUrl?: string;
    onConfirmed?: () => unknown;
    onRefused?: (error: Error) => unknown;
    port?: number;
    count?: number;
    signal?: AbortSignal;
  },
): Promise<void> {
  const { topicArn: TopicArn, publicUrl, port = 8080, count = Number.POSITIVE_INFINITY, signal } = options;
  if (!forms.TopicArn.test(TopicArn)) throw new RangeError(`topicArn takes arn:aws:sns:…, not "${TopicArn}"`);
  if (publicUrl?.match(/^https?:/) === null) throw new RangeError(`publicUrl takes https://…, not "${publicUrl}"`);
  signal?.throwIfAborted();
  let confirmation: Promise<{ SubscriptionArn?: string }> | undefined;
  const server = createServer({ requestTimeout: 15_000 });
  const ended = new Promise<void>((resolve, reject) => {
    server.on('error', reject).on('enough', resolve);
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  let received = 0;
  server.on('request', async (request, response) => {
    let [status, confirming] = [200, false];
    try {
      let body = '';
      for await (const text of request.setEncoding('utf8')) {
        body += text;
        if (body.length > largest) throw forged('it is too long');
      }
      const message = await verifyMessage(body, options);
      if (message.type === 'Notification') await options.onNotification(message);
      received += Number(message.type === 'Notification');
      // Not after the end: it would stay subscribed.
      confirming = server.listening && message.type === 'SubscriptionConfirmation';
      if (confirming) {
        // So that nobody else can unsubscribe by the address in each notification.
        const confirm = { TopicArn, Token: message.token as string, AuthenticateOnUnsubscribe: 'true' };
        confirmation = sns.send(new ConfirmSubscriptionCommand(confirm));
        await confirmation;
        await options.onConfirmed?.();
      }
    } catch (error) {
      status = (error as Error).name === 'ForgedMessageError' ? 403 : 500;
      if (confirming) server.emit('error', error);
      else options.onRefused?.(error as Error);
    }
    const enough = () => received >= count && server.emit('enough');
    // A sender that has hung up gets no answer.
    if (response.writeHead(status).end().on('close', enough).destroyed) enough();
  });
  server.listen(port, '127.0.0.1');
  let failure: Error | undefined;
  try {
    await Promise.race([once(server, 'listening'), ended]);
    if (publicUrl) {
      const Endpoint = publicUrl.replace('{port}', `${(server.address() as AddressInfo).port}`);
      const subscribe = new SubscribeCommand({ TopicArn, Protocol: Endpoint.replace(/:.*/s, ''), Endpoint });
      const { SubscriptionArn } = await sns.send(subscribe);
      // It was there before, and will stay. Otherwise this is 'pending confirmation'.
      if (SubscriptionArn?.startsWith('arn:')) await options.onConfirmed?.();
    }
    await ended;
  } catch (error) {
    failure = error as Error;
  }
  server.close();
  const left = (await confirmation?.catch(() => null))?.SubscriptionArn;
  if (publicUrl && left)
    await sns.send(new UnsubscribeCommand({ SubscriptionArn: left })).catch((error: Error) => {
      const { name, message } = failure ?? error;
      failure = Object.assign(new Error(`${message}; left is ${left}`, { cause: failure ?? error }), { name });
    });
  server.closeAllConnections();
  if (failure) throw failure;
}

// ---- command line: leave out when copying ----
import { PublishCommand, paginateListTopics } from '@aws-sdk/client-sns';
import { connect, interrupted, print, progress, recipe } from '../../shared/cli.ts';

// LocalStack's certificate is its own, at a host that only the internet knows.
const local = () => /^(http:\/\/(127\.0\.0\.1|localhost)(:\d+)?)\/?$/.exec(process.env.AWS_ENDPOINT_URL ?? '')?.[1];

recipe(import.meta, (command) =>
  command
    .argument('[topic-arn]', 'the topic (default: the one named paws)')
    .option('--public-url <url>', 'where SNS reaches the port, to be subscribed; {port} stands for its number')
    .option('--port <number>', 'port of 127.0.0.1 to listen on', Number, 8080)
    .option('--try', 'publish a message, and end when it has come')
    .action(async (topicArn, { port, try: trying, publicUrl = local() ? 'http://127.0.0.1:{port}' : undefined }) => {
      if (trying && !publicUrl) throw new RangeError('--try needs --public-url, where SNS can reach the port');
      const sns = connect(SNSClient);
      for await (const { Topics = [] } of topicArn ? [] : paginateListTopics({ client: sns }, {}))
        topicArn ??= Topics.find(({ TopicArn }) => TopicArn?.endsWith(':paws'))?.TopicArn;
      if (!topicArn) throw new Error('There is no topic named paws: make one with recipe 2.13, or name another.');
      const aTry = { TopicArn: topicArn, Subject: 'A try', Message: 'It works.' };
      progress(publicUrl ? 'waiting for SNS to confirm the subscription' : `listening on 127.0.0.1:${port}`);
      await receiveNotifications(sns, {
        ...{ topicArn, publicUrl, port, count: trying ? 1 : undefined, signal: interrupted() },
        onNotification: ({ type: _, token: __, ...notification }) => print(notification),
        onConfirmed: () => (trying ? sns.send(new PublishCommand(aTry)) : progress('subscribed, waiting for messages')),
        onRefused: (error) => progress(error.message),
        getCertificate: local() ? (url) => download(`${local()}${new URL(url).pathname}`) : undefined,
      });
    }),
);
