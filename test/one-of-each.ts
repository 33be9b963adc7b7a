/** One resource of each kind that the recipes make, for the tests of those that find and delete them. */
import {
  CloudWatchClient,
  DescribeAlarmsCommand,
  PutMetricAlarmCommand,
  TagResourceCommand,
} from '@aws-sdk/client-cloudwatch';
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateImageCommand,
  CreateKeyPairCommand,
  CreateSecurityGroupCommand,
  CreateSnapshotCommand,
  CreateVolumeCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { IAMClient } from '@aws-sdk/client-iam';
import { CreateBucketCommand, CreateMultipartUploadCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { CreateTopicCommand, SNSClient } from '@aws-sdk/client-sns';
import { createInstanceRole } from '../recipes/ec2/28-create-instance-role.ts';
import { type Sandbox, settingsOf } from './harness.ts';

/** Makes one of each kind, tagged, and returns the ids in the order in which they can be deleted. */
export async function makeOneOfEach(own: Sandbox): Promise<string[]> {
  const { ec2, s3, bucket } = own;
  const settings = settingsOf(own);
  const Tags = [{ Key: 'paws', Value: '1.16' }];
  const tagged = <Type extends string>(ResourceType: Type) => [{ ResourceType, Tags }];
  const cloudwatch = new CloudWatchClient(settings);
  const metric = { Namespace: 'Paws', MetricName: 'm', Period: 60, Statistic: 'Average' as const };
  const rule = { ComparisonOperator: 'GreaterThanThreshold' as const, EvaluationPeriods: 1, Threshold: 1 };
  await cloudwatch.send(new PutMetricAlarmCommand({ AlarmName: 'a:b', ...metric, ...rule }));
  const { MetricAlarms = [] } = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmNames: ['a:b'] }));
  await cloudwatch.send(new TagResourceCommand({ ResourceARN: MetricAlarms[0]?.AlarmArn, Tags }));
  const { TopicArn } = await new SNSClient(settings).send(new CreateTopicCommand({ Name: 'paws', Tags }));

  const image = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const launch = new RunInstancesCommand({ ...image, TagSpecifications: tagged('instance') });
  const InstanceId = (await ec2().send(launch)).Instances?.[0]?.InstanceId;
  const address = await ec2().send(new AllocateAddressCommand({ TagSpecifications: tagged('elastic-ip') }));
  await ec2().send(new AssociateAddressCommand({ InstanceId, AllocationId: address.AllocationId }));
  const { VolumeId } = await ec2().send(
    new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1, TagSpecifications: tagged('volume') }),
  );
  const { ImageId } = await ec2().send(
    new CreateImageCommand({ InstanceId, Name: 'an image', TagSpecifications: tagged('image') }),
  );
  const { SnapshotId } = await ec2().send(
    new CreateSnapshotCommand({ VolumeId, TagSpecifications: tagged('snapshot') }),
  );
  const { GroupId } = await ec2().send(
    new CreateSecurityGroupCommand({
      GroupName: 'paws',
      Description: 'a test',
      TagSpecifications: tagged('security-group'),
    }),
  );
  const allow = {
    GroupId,
    IpPermissions: [{ IpProtocol: 'tcp', FromPort: 22, ToPort: 22, IpRanges: [{ CidrIp: '203.0.113.1/32' }] }],
  };
  const { SecurityGroupRules = [] } = await ec2().send(new AuthorizeSecurityGroupIngressCommand(allow));
  const { KeyPairId } = await ec2().send(
    new CreateKeyPairCommand({ KeyName: 'paws', TagSpecifications: tagged('key-pair') }),
  );
  const role = await createInstanceRole(new IAMClient(settings), { tags: { paws: '1.16' } });
  const CreateBucketConfiguration = { Tags };
  await s3().send(new CreateBucketCommand({ Bucket: bucket, CreateBucketConfiguration }));
  await s3().send(new PutObjectCommand({ Bucket: bucket, Key: 'a', Body: 'a' }));
  await s3().send(new PutObjectCommand({ Bucket: bucket, Key: 'odd +%20key', Body: 'a' }));
  await s3().send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: 'b' }));
  return [
    ...[MetricAlarms[0]?.AlarmArn, TopicArn, InstanceId, address.AllocationId, VolumeId, ImageId, SnapshotId],
    ...[SecurityGroupRules[0]?.SecurityGroupRuleId, GroupId, KeyPairId, role.roleArn],
    ...[`s3://${bucket}/odd +%20key`, `s3://${bucket}`],
  ] as string[];
}
