import { X509Certificate } from 'node:crypto';
import {
  CloudWatchClient,
  DeleteAlarmsCommand,
  DescribeAlarmsCommand,
  ListTagsForResourceCommand,
  PutMetricAlarmCommand,
  PutMetricDataCommand,
  SetAlarmStateCommand,
} from '@aws-sdk/client-cloudwatch';
import {
  CreateTopicCommand,
  DeleteTopicCommand,
  GetSubscriptionAttributesCommand,
  ListSubscriptionsByTopicCommand,
  ListTagsForResourceCommand as ListTagsOfTopicCommand,
  ListTopicsCommand,
  SetTopicAttributesCommand,
  SNSClient,
} from '@aws-sdk/client-sns';
import { CreateQueueCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { expect, test, vi } from 'vitest';
import { alarmNotifications, type Condition } from '../../recipes/ec2/13-alarm-notifications.ts';
import { receiveNotifications } from '../../recipes/ec2/29-receive-notifications.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { freePort } from '../program.ts';

const own = testRecipe(import.meta);
const { run, file, account } = own;
const cloudwatch = new CloudWatchClient(settingsOf(own));
const sns = new SNSClient(settingsOf(own));
const sqs = new SQSClient(settingsOf(own));
const arn = (service: string, name: string) => `arn:aws:${service}:us-east-1:${account}:${name}`;

async function alarms() {
  return (await cloudwatch.send(new DescribeAlarmsCommand({}))).MetricAlarms ?? [];
}
async function topics() {
  return ((await sns.send(new ListTopicsCommand({}))).Topics ?? []).map(({ TopicArn }) => TopicArn);
}
async function subscribers(TopicArn: string) {
  const { Subscriptions = [] } = await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn }));
  return Subscriptions.map(({ Protocol, Endpoint }) => `${Protocol} ${Endpoint}`);
}

const subscriber = 'you@example.com';
const condition: Condition = { namespace: 'Shop', metricName: 'Orders', comparison: '<', threshold: 1 };

test('a datum above the threshold turns the alarm; a queue and our receiver hear of it, and of its end', async () => {
  const measure = async (Value: number) => {
    const datum = { MetricName: 'Queue', Dimensions: [{ Name: 'Shop', Value: 'Bath' }], Value, StorageResolution: 1 };
    const MetricData = [{ ...datum, Timestamp: new Date(Date.now() - 3000) }];
    await cloudwatch.send(new PutMetricDataCommand({ Namespace: 'Shop', MetricData }));
  };
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: 'alarms' }));
  const options = {
    condition: {
      ...{ namespace: 'Shop', metricName: 'Queue', dimensions: { Shop: 'Bath' } },
      ...{ comparison: '>', threshold: 80, period: 10 },
    } as Condition,
    ...{ topicName: 'shop', alarmName: 'shop' },
  };
  const first = await alarmNotifications(cloudwatch, sns, { subscriber: arn('sqs', 'alarms'), ...options });
  expect(first).toMatchObject({ confirmed: true, made: [arn('sns', 'shop'), arn('cloudwatch', 'alarm:shop')] });

  const port = await freePort();
  const stop = new AbortController();
  const [onConfirmed, onNotification] = [vi.fn(), vi.fn()];
  const receiving = receiveNotifications(sns, {
    ...{ topicArn: first.topicArn, port, signal: stop.signal, onConfirmed, onNotification },
    getCertificate: async (url) => {
      const response = await fetch(`${process.env.COOKBOOK_LOCALSTACK}${new URL(url).pathname}`);
      return new X509Certificate(await response.text());
    },
  });
  receiving.catch(() => {});
  const web = { subscriber: `http://127.0.0.1:${port}/alarms`, ...options };
  expect(await alarmNotifications(cloudwatch, sns, web)).toMatchObject({ topicArn: first.topicArn, made: [] });
  await vi.waitFor(() => expect(onConfirmed).toHaveBeenCalled(), 60_000);

  const queued: string[] = [];
  const heard = async (state: string, act?: () => Promise<unknown>) =>
    vi.waitFor(
      async () => {
        await act?.();
        const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 1 }));
        queued.push(...Messages.map(({ Body = '' }) => JSON.parse(JSON.parse(Body).Message).NewStateValue));
        expect(queued).toContain(state);
        const subjects = onNotification.mock.calls.map(([{ subject }]) => subject);
        expect(subjects).toContainEqual(expect.stringContaining(`${state}: "shop"`));
      },
      { timeout: 60_000, interval: 500 },
    );
  await heard('ALARM', () => measure(99));
  // By itself it would take a minute.
  const over = { AlarmName: 'shop', StateValue: 'OK', StateReason: 'a test' } as const;
  await cloudwatch.send(new SetAlarmStateCommand(over));
  await heard('OK');
  stop.abort(new Error('done'));
  await expect(receiving).rejects.toThrow('done');
  // Its state would go on changing beside the other tests.
  await cloudwatch.send(new DeleteAlarmsCommand({ AlarmNames: ['shop'] }));
}, 240_000);

test('alarm and topic are as asked for and tagged; a second run changes the alarm and makes nothing', async () => {
  const more = { topicName: 'second', alarmName: 'second', tags: { paws: '2.13' } };
  const dimensions = { Shop: 'Bath', Till: '7' };
  const first = await alarmNotifications(cloudwatch, sns, {
    ...{ subscriber, condition: { ...condition, dimensions }, ...more },
  });
  expect(first).toEqual({
    alarmArn: arn('cloudwatch', 'alarm:second'),
    condition: 'Average of Shop Orders Shop=Bath Till=7 < 1, 1 of 1 periods of 300 s',
    topicArn: arn('sns', 'second'),
    subscriptionArn: expect.stringContaining(`${arn('sns', 'second')}:`),
    confirmed: false,
    made: [arn('sns', 'second'), arn('cloudwatch', 'alarm:second')],
  });
  const second = await alarmNotifications(cloudwatch, sns, {
    condition: {
      ...{ ...condition, dimensions, comparison: '>=', threshold: 0.5, statistic: 'Sum', period: 3600 },
      ...{ evaluationPeriods: 5, datapointsToAlarm: 3, treatMissingData: 'breaching' },
    },
    ...{ ...more, tags: { paws: 'other' }, subscriber },
  });
  expect(second).toEqual({
    ...{ ...first, made: [] },
    condition: 'Sum of Shop Orders Shop=Bath Till=7 >= 0.5, 3 of 5 periods of 3600 s',
  });
  expect((await alarms()).find(({ AlarmName }) => AlarmName === 'second')).toMatchObject({
    ...{ ComparisonOperator: 'GreaterThanOrEqualToThreshold', Threshold: 0.5, Statistic: 'Sum', Period: 3600 },
    ...{ EvaluationPeriods: 5, DatapointsToAlarm: 3, TreatMissingData: 'breaching', ActionsEnabled: true },
    ...{ AlarmActions: [first.topicArn], OKActions: [first.topicArn], AlarmDescription: second.condition },
    Dimensions: [
      { Name: 'Shop', Value: 'Bath' },
      { Name: 'Till', Value: '7' },
    ],
  });
  expect(await subscribers(first.topicArn)).toEqual(['email you@example.com']);
  const Tags = [{ Key: 'paws', Value: '2.13' }];
  expect(await cloudwatch.send(new ListTagsForResourceCommand({ ResourceARN: first.alarmArn }))).toMatchObject({
    Tags,
  });
  expect(await sns.send(new ListTagsOfTopicCommand({ ResourceArn: first.topicArn }))).toMatchObject({ Tags });
  const operators = ['GreaterThanThreshold', 'LessThanThreshold', 'LessThanOrEqualToThreshold'];
  for (const [i, comparison] of (['>', '<', '<='] as const).entries()) {
    await alarmNotifications(cloudwatch, sns, { ...more, subscriber, condition: { ...condition, comparison } });
    const alarm = (await alarms()).find(({ AlarmName }) => AlarmName === 'second');
    expect(alarm).toMatchObject({ ComparisonOperator: operators[i], DatapointsToAlarm: 1, Dimensions: [] });
  }
});

test('a topic with other tags is used; one with the key of SNS is refused, and so is the alarm of somebody else', async () => {
  const Tags = [{ Key: 'team', Value: 'shop' }];
  const { TopicArn = '' } = await sns.send(new CreateTopicCommand({ Name: 'third', Tags }));
  const options = { subscriber, condition, topicName: 'third', alarmName: 'third', tags: { paws: '2.13' } };
  const { made } = await alarmNotifications(cloudwatch, sns, options);
  expect(made).toEqual([arn('cloudwatch', 'alarm:third')]);
  expect(await sns.send(new ListTagsOfTopicCommand({ ResourceArn: TopicArn }))).toMatchObject({ Tags });

  const theirs = { AlarmName: 'theirs', Namespace: 'Bank', MetricName: 'Money', Statistic: 'Sum', Period: 60 } as const;
  const rule = { ComparisonOperator: 'LessThanThreshold', EvaluationPeriods: 1, Threshold: 1 } as const;
  await cloudwatch.send(new PutMetricAlarmCommand({ ...theirs, ...rule, AlarmActions: [arn('sns', 'bank')] }));
  const refused = alarmNotifications(cloudwatch, sns, { ...options, alarmName: 'theirs', subscriber: 'b@example.com' });
  await expect(refused).rejects.toThrow(
    'There is an alarm theirs on another namespace or topic: take another alarmName.',
  );
  expect((await alarms()).find(({ AlarmName }) => AlarmName === 'theirs')).toMatchObject({ ...theirs, ...rule });
  expect(await subscribers(TopicArn)).toEqual(['email you@example.com']);

  // The default name of an alarm doesn't have the namespace in it.
  const bank = { ...options, condition: { ...condition, namespace: 'Bank' }, subscriber: 'b@example.com' };
  await expect(alarmNotifications(cloudwatch, sns, bank)).rejects.toThrow('an alarm third on another namespace');
  expect((await alarms()).find(({ AlarmName }) => AlarmName === 'third')).toMatchObject({ Namespace: 'Shop' });
  expect(await subscribers(TopicArn)).toEqual(['email you@example.com']);

  const key = (AttributeValue: string) =>
    sns.send(new SetTopicAttributesCommand({ TopicArn, AttributeName: 'KmsMasterKeyId', AttributeValue }));
  const another = { ...options, alarmName: 'another' };
  for (const id of ['alias/aws/sns', `arn:aws:kms:us-east-1:${account}:alias/aws/sns`]) {
    await key(id);
    await expect(alarmNotifications(cloudwatch, sns, another)).rejects.toThrow('encrypted with alias/aws/sns');
  }
  expect((await alarms()).map(({ AlarmName }) => AlarmName)).not.toContain('another');
  await key('alias/mine');
  await alarmNotifications(cloudwatch, sns, another);
});

test('what AWS would refuse is refused before anything is made', async () => {
  const before = [await alarms(), await topics()];
  const conditions: [object, string][] = [
    [{ comparison: '=' }, 'comparison takes >=, >, <, <='],
    [{ comparison: 'toString' }, 'comparison takes'],
    [{ threshold: Number.NaN }, 'threshold takes a number'],
    [{ threshold: Number.POSITIVE_INFINITY }, 'threshold takes a number'],
    [{ statistic: 'average' }, 'statistic takes Average, Maximum'],
    [{ period: 45 }, 'period takes 10, 20, 30 or a multiple of 60'],
    [{ period: 0 }, 'period takes'],
    [{ period: Number.NaN }, 'period takes'],
    [{ evaluationPeriods: 1.5 }, 'evaluationPeriods takes'],
    [{ evaluationPeriods: 289 }, 'a day at most'],
    [{ period: 3600, evaluationPeriods: 169 }, '7 days'],
    [{ evaluationPeriods: 2, datapointsToAlarm: 3 }, 'datapointsToAlarm are'],
    [{ datapointsToAlarm: 0 }, 'datapointsToAlarm are'],
    [{ treatMissingData: 'Missing' }, 'treatMissingData takes missing, breaching'],
    [{ dimensions: { InstanceId: '' } }, 'dimensions take a name and a value'],
  ];
  for (const [wrong, message] of conditions) {
    const call = alarmNotifications(cloudwatch, sns, {
      subscriber,
      condition: { ...condition, ...wrong } as Condition,
    });
    await expect(call, message).rejects.toThrow(message);
    await expect(call, message).rejects.toBeInstanceOf(RangeError);
  }
  for (const wrong of [
    ...['', 'you', 'you@', 'you@example', '@example.com', 'a b@example.com', 'a@example.com,b@example.com'],
    ...['example.com', 'ftp://example.com', 'https://', 'https://me:secret@example.com', '+441225000000'],
    ...['arn:aws:sqs:eu-west-1:111122223333:queue.fifo', 'arn:aws:sqs:eu-west-1:1:queue', 'arn:aws:lambda:x'],
  ]) {
    const call = alarmNotifications(cloudwatch, sns, { subscriber: wrong, condition });
    await expect(call, wrong).rejects.toThrow(TypeError);
    await expect(call, wrong).rejects.not.toThrow('secret');
  }
  for (const wrong of [{ topicName: 'a.fifo' }, { topicName: '' }, { alarmName: '' }, { alarmName: 'a\nb' }]) {
    await expect(alarmNotifications(cloudwatch, sns, { subscriber, condition, ...wrong })).rejects.toThrow(RangeError);
  }
  expect([await alarms(), await topics()]).toEqual(before);
});

/** A client of which one operation fails, as with the error of the service. */
function failing<Client extends { send: unknown }>(client: Client, operations: string[], then?: () => void): Client {
  const send = async (command: { constructor: { name: string } }, ...rest: unknown[]) => {
    if (!operations.includes(command.constructor.name))
      return Reflect.apply(client.send as never, client, [command, ...rest]);
    then?.();
    const $metadata = { httpStatusCode: 403 };
    throw Object.assign(new Error('not allowed'), { name: 'AuthorizationErrorException', $metadata });
  };
  return Object.create(client, { send: { value: send } });
}

test('when a step fails, what was made is gone again, and what was there is left', async () => {
  const before = [await alarms(), await topics()];
  const options = { subscriber, condition, topicName: 'fifth', alarmName: 'fifth', tags: { paws: '2.13' } };
  const denied = { name: 'AuthorizationErrorException', message: 'not allowed' };
  for (const operation of ['ListTopics', 'DescribeAlarms', 'CreateTopic', 'PutMetricAlarm', 'TagResource']) {
    const operations = [`${operation}Command`];
    const call = alarmNotifications(failing(cloudwatch, operations), failing(sns, operations), options);
    await expect(call, operation).rejects.toMatchObject(denied);
    expect([await alarms(), await topics()], operation).toEqual(before);
  }
  for (const operation of ['SubscribeCommand', 'GetSubscriptionAttributesCommand']) {
    await expect(alarmNotifications(cloudwatch, failing(sns, [operation]), options)).rejects.toMatchObject(denied);
    expect([await alarms(), await topics()], operation).toEqual(before);
  }
  const stop = new AbortController();
  const stopping = failing(cloudwatch, ['PutMetricAlarmCommand'], () => stop.abort());
  await expect(alarmNotifications(stopping, sns, { ...options, signal: stop.signal })).rejects.toThrow('not allowed');
  await expect(alarmNotifications(cloudwatch, sns, { ...options, signal: stop.signal })).rejects.toThrow('aborted');
  expect([await alarms(), await topics()]).toEqual(before);

  // The alarm is there, and the answer is lost.
  const send = async (command: PutMetricAlarmCommand) => {
    const answer = await cloudwatch.send(command);
    if (command instanceof PutMetricAlarmCommand) throw new Error('read ECONNRESET');
    return answer;
  };
  const losing = Object.create(cloudwatch, { send: { value: send } });
  await expect(alarmNotifications(losing, sns, options)).rejects.toThrow('ECONNRESET');
  expect([await alarms(), await topics()]).toEqual(before);

  // What can't be removed is named.
  const stuck = failing(sns, ['SubscribeCommand', 'DeleteTopicCommand']);
  const left = { ...denied, message: `not allowed; left are ${arn('sns', 'fifth')}` };
  await expect(alarmNotifications(cloudwatch, stuck, options)).rejects.toMatchObject(left);
  await sns.send(new DeleteTopicCommand({ TopicArn: arn('sns', 'fifth') }));

  // A new subscription may be unknown for a moment. An alarm and a topic that were there stay, the topic with its new
  // subscriber.
  let looks = 0;
  const unknown = () => Object.assign(new Error('unknown'), { name: 'NotFound', $metadata: { httpStatusCode: 404 } });
  const young = Object.create(sns, {
    send: {
      value: (...call: Parameters<typeof sns.send>) =>
        call[0] instanceof GetSubscriptionAttributesCommand && ++looks < 3
          ? Promise.reject(unknown())
          : sns.send(...call),
    },
  });
  const { made } = await alarmNotifications(cloudwatch, young, options);
  expect(looks).toBe(3);
  const again = alarmNotifications(cloudwatch, failing(sns, ['SubscribeCommand']), options);
  await expect(again).rejects.toMatchObject(denied);
  const unseen = failing(sns, ['GetSubscriptionAttributesCommand']);
  const late = alarmNotifications(cloudwatch, unseen, { ...options, subscriber: 'b@example.com' });
  await expect(late).rejects.toMatchObject(denied);
  expect(await subscribers(arn('sns', 'fifth'))).toContain('email b@example.com');
  expect(made).toEqual([arn('sns', 'fifth'), arn('cloudwatch', 'alarm:fifth')]);
  expect(await topics()).toContain(made[0]);
  expect((await alarms()).map(({ AlarmArn }) => AlarmArn)).toContain(made[1]);
});

test('the command says what to do: without an instance, with a wrong option, when SNS says no, and at the end', async () => {
  const command = `npx tsx ${file} you@example.com`;
  const named = `${command} Shop Orders '<' 1 --topic-name sixth`;
  const error = { name: 'InvalidParameterException', message: 'Invalid parameter: Email address' };
  const [none, wrong, number, no] = await Promise.all([
    run(`${command} --local`),
    run(`${command} Shop Orders '<' 1 --dimensions Shop --local`),
    run(`${command} Shop Orders '<' '' --local`),
    run(`${named} --local`, { faults: [{ operation: 'sns:Subscribe', error }] }),
  ]);
  expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining('launch one with recipe 2.1') });
  expect(wrong).toMatchObject({ code: 2, stderr: 'Error: dimensions take a name and a value\n' });
  expect(number).toMatchObject({ code: 2, stderr: 'Error: threshold takes a number\n' });
  expect(no).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('Email address') });
  expect(await topics()).not.toContain(arn('sns', 'sixth'));
  const done = await run(`${named} --dimensions Shop=Bath Till=a=b --local`, { terminal: { columns: 200 } });
  expect(done.stdout).toMatch(/condition +Average of Shop Orders Shop=Bath Till=a=b < 1, 1 of 1 periods of 300 s/);
  const undo = `09-clean-up.ts ${arn('sns', 'sixth')} ${arn('cloudwatch', 'alarm:paws-Orders-Bath-a=b')} --local`;
  expect(done.stdout).toContain(`Undo: npx tsx recipes/setup/${undo}`);
});
