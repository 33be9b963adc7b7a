/**
 * 2.13 Get notified by an alarm
 *
 * ## Problem
 * You want to hear of it when a machine has too much to do or a disk fills up, and again when all is well.
 *
 * ## Solution
 * Make a topic of SNS, subscribe an e-mail address, a web server or an SQS queue to it, and put an alarm of CloudWatch
 * on the metric. The alarm notifies the topic when it goes off and when it is over. What is there already is used
 * again: run it once more for a second subscriber, or to change the threshold.
 *
 * ## Discussion
 * An e-mail address gets nothing until its owner has followed the link in the mail that SNS sends, within two days; a
 * web server has to confirm, too (2.29). Until then `confirmed` is no; another run sends the mail again. A queue needs a
 * policy that allows `sqs:SendMessage` to the service `sns.amazonaws.com`, with the topic's ARN as `aws:SourceArn`.
 * Without one, or with a KMS key that SNS may not use (`alias/aws/sqs`), messages are lost, and nobody says so.
 *
 * A new alarm has the state INSUFFICIENT_DATA. It notifies when it changes to ALARM or OK, not while it lasts. A misspelt
 * metric or dimension is no error, only a lack of data (2.12 lists the metrics); with `treatMissingData` `breaching`,
 * that is an alarm. To pass over short peaks, let it take 3 of 5 periods (`datapointsToAlarm` of `evaluationPeriods`).
 * EC2 measures every 5 minutes, every minute with detailed monitoring; shorter periods make gaps.
 *
 * A run with the same names replaces all settings of the alarm, but not its state and tags. An alarm of that name that
 * is on another namespace or doesn't notify the topic is refused. If a step fails, the alarm and the topic that this run
 * made are removed again; an alarm that was there keeps its new settings, a topic that was there its new subscriber.
 *
 * A topic that is encrypted with `alias/aws/sns` is refused: alarms may not use that key. Take one of your own whose
 * policy allows `kms:Decrypt` and `kms:GenerateDataKey*` to `cloudwatch.amazonaws.com`.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/13-alarm-notifications.ts you@example.com --local
 * @output
 *   alarm arn         arn:aws:cloudwatch:us-east-1:000000000000:alarm:paws-CPUUtilization-i-45e8421b3f963f955
 *   condition         Average of AWS/EC2 CPUUtilization InstanceId=i-45e8421b3f963f955 >= 80, 1 of 1 periods of 300 s
 *   topic arn         arn:aws:sns:us-east-1:000000000000:paws
 *   subscription arn  arn:aws:sns:us-east-1:000000000000:paws:f284e4d6-be63-4bcf-a508-132ff41f80f3
 *   confirmed         no
 *   made              arn:aws:sns:us-east-1:000000000000:paws, arn:aws:cloudwatch:us-east-1:000000000000:alarm:paws-CPUUtilization-i-45e8421b3f963f955
 * @run npx tsx recipes/ec2/13-alarm-notifications.ts you@example.com AWS/EC2 CPUUtilization '>=' 90 --local
 * @permission ec2:DescribeInstances on *
 * @permission sns:ListTopics on *
 * @permission sns:GetTopicAttributes on arn:aws:sns:*:*:TOPIC
 * @permission sns:CreateTopic on arn:aws:sns:*:*:TOPIC
 * @permission sns:TagResource on arn:aws:sns:*:*:TOPIC
 * @permission sns:DeleteTopic on arn:aws:sns:*:*:TOPIC
 * @permission sns:Subscribe on arn:aws:sns:*:*:TOPIC
 * @permission sns:GetSubscriptionAttributes on *
 * @permission cloudwatch:DescribeAlarms on *
 * @permission cloudwatch:PutMetricAlarm on arn:aws:cloudwatch:*:*:alarm:*
 * @permission cloudwatch:TagResource on arn:aws:cloudwatch:*:*:alarm:*
 * @permission cloudwatch:DeleteAlarms on arn:aws:cloudwatch:*:*:alarm:*
 * @cost in us-east-1 $0.10 a month for the alarm, $0.30 with a period below a minute; $2 for 100,000 mails, $0.60 for a
 * million requests to a web server (2026)
 * @undo npx tsx recipes/setup/09-clean-up.ts {made} --local --yes
 * @emulator LocalStack sends no mail, so nobody can confirm, and delivers to queues that have no policy.
 * @book cloudwatch.create_alarm → PutMetricAlarmCommand
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
 * @see https://aws.amazon.com/cloudwatch/pricing/
 * @see https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
 */
import {
  CloudWatchClient,
  DeleteAlarmsCommand,
  DescribeAlarmsCommand,
  PutMetricAlarmCommand,
  Statistic,
  TagResourceCommand,
} from '@aws-sdk/client-cloudwatch';
import {
  CreateTopicCommand,
  DeleteTopicCommand,
  GetSubscriptionAttributesCommand,
  GetTopicAttributesCommand,
  paginateListTopics,
  SNSClient,
  SubscribeCommand,
} from '@aws-sdk/client-sns';
import { type Made, undo } from '../../shared/undo.ts';
import { tryAgain } from '../s3/13-helpers/try-again.ts';

const comparisons = {
  '>=': 'GreaterThanOrEqualToThreshold',
  '>': 'GreaterThanThreshold',
  '<': 'LessThanThreshold',
  '<=': 'LessThanOrEqualToThreshold',
} as const;
const treatments = ['missing', 'breaching', 'notBreaching', 'ignore'] as const;

/** When an alarm goes off. */
export interface Condition {
  /** `AWS/EC2` */
  namespace: string;
  metricName: string;
  /** `{ InstanceId: 'i-0123456789abcdef0' }`. None by default. */
  dimensions?: Record<string, string>;
  /** `Average` by default. */
  statistic?: Statistic;
  comparison: keyof typeof comparisons;
  threshold: number;
  /** Seconds that are taken together: 10, 20, 30 or a multiple of 60. 300 by default. */
  period?: number;
  /** How many periods are looked at. 1 by default. */
  evaluationPeriods?: number;
  /** How many of them must be over the threshold. All by default. */
  datapointsToAlarm?: number;
  /** What a period without data is taken for. `missing` by default. */
  treatMissingData?: (typeof treatments)[number];
}

export interface AlarmNotifications {
  alarmArn: string;
  condition: string;
  topicArn: string;
  subscriptionArn: string;
  /** False as long as the subscriber has not said yes: it gets nothing. */
  confirmed: boolean;
  /** ARNs of alarm and topic, if they were not there before. */
  made: string[];
}

/**
 * Has somebody notified when a metric passes a threshold, and when it is back.
 *
 * @param cloudwatch - Of the metric's region.
 * @param sns - Of the same region.
 * @param options.subscriber - An e-mail address, a URL, or the ARN of an SQS queue.
 * @param options.condition - When the alarm goes off.
 * @param options.alarmName - `paws`, metric and dimensions by default: `paws-CPUUtilization-i-0123456789abcdef0`.
 * @param options.topicName - `paws` by default.
 * @param options.tags - Tags to put on alarm and topic, if they are new. None by default.
 * @param options.signal - Stops before the next step; what was made is removed again.
 * @throws RangeError or TypeError for a wrong option; the SDK's error, once what was made is removed, or named.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
 *
 * @example
 * const [cloudwatch, sns] = [new CloudWatchClient({}), new SNSClient({})];
 * const condition = { namespace: 'Shop', metricName: 'Orders', comparison: '<', threshold: 1 } as const;
 * const { confirmed } = await alarmNotifications(cloudwatch, sns, { subscriber: 'you@example.com', condition });
 * console.log(confirmed ? 'ready' : 'now look into your mail');
 */
export async function alarmNotifications(
  cloudwatch: CloudWatchClient,
  sns: SNSClient,
  {
    subscriber,
    condition,
    alarmName = ['paws', condition.metricName, ...Object.values(condition.dimensions ?? {})].join('-'),
    topicName = 'paws',
    tags = {},
    signal,
  }: {
    subscriber: string;
    condition: Condition;
    alarmName?: string;
    topicName?: string;
    tags?: Record<string, string>;
    signal?: AbortSignal;
  },
): Promise<AlarmNotifications> {
  const Protocol = protocolOf(subscriber);
  const settings = settingsOf(condition);
  if (!/^\P{Cc}{1,255}$/u.test(alarmName)) throw new RangeError(`alarmName takes 1 to 255 characters: "${alarmName}"`);
  if (!/^[\w-]{1,256}$/.test(topicName)) throw new RangeError(`topicName takes letters, digits, _, -: "${topicName}"`);
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

  // Looked for first: CreateTopic doesn't say whether the topic was there, and refuses one that has other tags.
  const found = await findTopic(sns, topicName, signal);
  const named = { AlarmNames: [alarmName] };
  const { MetricAlarms: [before] = [] } = await cloudwatch.send(new DescribeAlarmsCommand(named));
  if (before && !(found && before.AlarmActions?.includes(found) && before.Namespace === settings.Namespace)) {
    throw new Error(`There is an alarm ${alarmName} on another namespace or topic: take another alarmName.`);
  }
  const made: Made[] = [];
  try {
    signal?.throwIfAborted();
    let TopicArn = found ?? '';
    if (!found) {
      const topic = { Name: topicName, Tags: Tags.length > 0 ? Tags : undefined };
      ({ TopicArn = '' } = await sns.send(new CreateTopicCommand(topic)));
      made.push({ id: TopicArn, remove: () => sns.send(new DeleteTopicCommand({ TopicArn })) });
    }
    signal?.throwIfAborted();
    const actions = { AlarmName: alarmName, ActionsEnabled: true, AlarmActions: [TopicArn], OKActions: [TopicArn] };
    // Topic and alarm are in the same partition, region and account.
    const alarmArn = `${TopicArn.replace(':sns:', ':cloudwatch:').slice(0, -topicName.length)}alarm:${alarmName}`;
    // Noted before, unless it is refused: it may be there without an answer.
    if (!before) made.push({ id: alarmArn, remove: () => cloudwatch.send(new DeleteAlarmsCommand(named)) });
    await cloudwatch.send(new PutMetricAlarmCommand({ ...settings, ...actions })).catch((error) => {
      if (!before && error.$metadata?.httpStatusCode < 500) made.pop();
      throw error;
    });
    if (!before && Tags.length > 0) await cloudwatch.send(new TagResourceCommand({ ResourceARN: alarmArn, Tags }));
    // Last, because one that waits for its confirmation can't be taken back. SNS sends the mail at once.
    signal?.throwIfAborted();
    const subscribe = { TopicArn, Protocol, Endpoint: subscriber, ReturnSubscriptionArn: true };
    const { SubscriptionArn = '' } = await sns.send(new SubscribeCommand(subscribe));
    const look = () => sns.send(new GetSubscriptionAttributesCommand({ SubscriptionArn }));
    // A new one may be unknown for a moment.
    const { Attributes } = await tryAgain(look, { tries: 4, passing: ['NotFound', 'NotFoundException'] });
    return {
      alarmArn,
      condition: settings.AlarmDescription,
      topicArn: TopicArn,
      subscriptionArn: SubscriptionArn,
      confirmed: Attributes?.PendingConfirmation === 'false',
      made: made.map(({ id }) => id),
    };
  } catch (error) {
    throw await undo(made, error);
  }
}

function protocolOf(subscriber: string): string {
  if (/^arn:aws[a-z-]*:sqs:[a-z\d-]+:\d{12}:[\w-]{1,80}$/.test(subscriber)) return 'sqs';
  if (/^[^\s@,:/]+@[^\s@,]+\.[^\s@,.]+$/.test(subscriber)) return 'email';
  const url = URL.canParse(subscriber) ? new URL(subscriber) : null;
  // A password in a URL would be shown to all who may list subscriptions.
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password) return url.protocol.slice(0, -1);
  throw new TypeError('subscriber takes an e-mail address, a URL without a password, or the ARN of a standard queue');
}

/** A condition as PutMetricAlarm has it. */
function settingsOf(condition: Condition) {
  const { namespace, metricName, dimensions = {}, statistic = 'Average', comparison, threshold } = condition;
  const { period = 300, evaluationPeriods = 1, datapointsToAlarm = evaluationPeriods } = condition;
  const { treatMissingData = 'missing' } = condition;
  const isCount = (value: number) => Number.isInteger(value) && value > 0;
  const span = period * evaluationPeriods;
  const rules: [boolean, string][] = [
    [Object.hasOwn(comparisons, comparison), `comparison takes ${Object.keys(comparisons).join(', ')}`],
    [Object.values(dimensions).every(Boolean), 'dimensions take a name and a value'],
    [Number.isFinite(threshold), 'threshold takes a number'],
    [Object.hasOwn(Statistic, statistic), `statistic takes ${Object.keys(Statistic).join(', ')}`],
    [[10, 20, 30].includes(period) || (period > 0 && period % 60 === 0), 'period takes 10, 20, 30 or a multiple of 60'],
    [isCount(evaluationPeriods), 'evaluationPeriods takes a whole number from 1'],
    [span <= (period < 3600 ? 86_400 : 604_800), 'all periods take a day at most, periods of an hour and more 7 days'],
    [isCount(datapointsToAlarm) && datapointsToAlarm <= evaluationPeriods, 'datapointsToAlarm are 1 to all periods'],
    [treatments.includes(treatMissingData), `treatMissingData takes ${treatments.join(', ')}`],
  ];
  for (const [holds, rule] of rules) if (!holds) throw new RangeError(rule);
  const where = Object.entries(dimensions).map(([name, value]) => ` ${name}=${value}`);
  const when = `${datapointsToAlarm} of ${evaluationPeriods} periods of ${period} s`;
  return {
    Namespace: namespace,
    MetricName: metricName,
    Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
    Statistic: statistic,
    ComparisonOperator: comparisons[comparison],
    Threshold: threshold,
    Period: period,
    EvaluationPeriods: evaluationPeriods,
    DatapointsToAlarm: datapointsToAlarm,
    TreatMissingData: treatMissingData,
    AlarmDescription: `${statistic} of ${namespace} ${metricName}${where.join('')} ${comparison} ${threshold}, ${when}`,
  };
}

/** A topic that alarms can notify, or null. */
async function findTopic(sns: SNSClient, name: string, abortSignal?: AbortSignal): Promise<string | null> {
  for await (const { Topics = [] } of paginateListTopics({ client: sns }, {}, { abortSignal })) {
    const TopicArn = Topics.find((topic) => topic.TopicArn?.endsWith(`:${name}`))?.TopicArn;
    if (!TopicArn) continue;
    const { Attributes } = await sns.send(new GetTopicAttributesCommand({ TopicArn }), { abortSignal });
    if (!/(^|:)alias\/aws\/sns$/.test(Attributes?.KmsMasterKeyId ?? '')) return TopicArn;
    throw new Error(`The topic ${name} is encrypted with alias/aws/sns, which alarms can't use: give it another key.`);
  }
  return null;
}

// ---- command line: leave out when copying ----
import { EC2Client } from '@aws-sdk/client-ec2';
import { connect, interrupted, print, recipe, sayUndo, tags } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('<subscriber>', 'an e-mail address, a URL, or the ARN of an SQS queue')
    .argument('[namespace]', 'of the metric', 'AWS/EC2')
    .argument('[metric-name]', 'of the metric', 'CPUUtilization')
    .argument('[comparison]', "'>=', '>', '<' or '<=', in quotes", '>=')
    .argument('[threshold]', "in the metric's own unit", (text) => Number(text || 'none'), 80)
    .option('--dimensions <name=value...>', 'what is measured (default for AWS/EC2: the newest instance)')
    .option('--statistic <name>', Object.keys(Statistic).join(', '))
    .option('--period <seconds>', 'how long to take together', Number, 300)
    .option('--evaluation-periods <number>', 'how many periods to look at', Number, 1)
    .option('--datapoints-to-alarm <number>', 'how many of them must pass the threshold (default: all)', Number)
    .option('--treat-missing-data <as>', treatments.join(', '))
    .option('--alarm-name <name>', 'name of the alarm (default: paws, metric and dimensions)')
    .option('--topic-name <name>', 'name of the topic', 'paws')
    .action(async (subscriber, namespace, metricName, comparison, threshold, { alarmName, topicName, ...options }) => {
      const newest = namespace === 'AWS/EC2' && !options.dimensions;
      const given = newest ? [`InstanceId=${await newestInstance(connect(EC2Client))}`] : (options.dimensions ?? []);
      const dimensions = Object.fromEntries(given.map((pair) => pair.split(/=(.*)/s, 2)));
      const condition = { ...options, namespace, metricName, comparison, threshold, dimensions } as Condition;
      const more = { subscriber, alarmName, topicName, tags: tags(), signal: interrupted() };
      const result = await alarmNotifications(connect(CloudWatchClient), connect(SNSClient), { condition, ...more });
      print(result);
      if (result.made.length > 0) sayUndo(result);
    }),
);
