/**
 * Which IAM actions an operation needs. Most need the action of their own name; here are those that don't, and
 * those where the input decides. From the Service Authorization Reference,
 * https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
 */
export interface Sent {
  /** `s3:CreateBucket` */
  operation: string;
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of all operations
  input: any;
}

const s3Names: Record<string, string> = {
  ListBuckets: 'ListAllMyBuckets',
  HeadBucket: 'ListBucket',
  ListObjects: 'ListBucket',
  ListObjectsV2: 'ListBucket',
  ListObjectVersions: 'ListBucketVersions',
  ListMultipartUploads: 'ListBucketMultipartUploads',
  HeadObject: 'GetObject',
  DeleteObjects: 'DeleteObject',
  CreateMultipartUpload: 'PutObject',
  UploadPart: 'PutObject',
  CompleteMultipartUpload: 'PutObject',
  ListParts: 'ListMultipartUploadParts',
  GetPublicAccessBlock: 'GetBucketPublicAccessBlock',
  GetBucketEncryption: 'GetEncryptionConfiguration',
  GetBucketLifecycleConfiguration: 'GetLifecycleConfiguration',
  GetObjectLockConfiguration: 'GetBucketObjectLockConfiguration',
};

/** The action that an operation is checked for in any case. */
export function ownAction(operation: string): string {
  const [service, name = ''] = operation.split(':');
  return service === 's3' ? `s3:${s3Names[name] ?? name}` : operation;
}

/** The actions that a caller must be allowed for this operation. */
export function actionsFor({ operation, input }: Sent): string[] {
  const [service = '', name = ''] = operation.split(':');
  const actions = new Set<string>();
  if (service === 'sts' && name === 'GetCallerIdentity') return [];
  if (service === 's3') {
    if (name === 'CreateBucket' && input.CreateBucketConfiguration?.Tags) actions.add('s3:TagResource');
    // A deletion that names a version needs both.
    const deleted = name === 'DeleteObjects' ? input.Delete.Objects : name === 'DeleteObject' ? [input] : [];
    if (deleted.length > 0) actions.add('s3:DeleteObject');
    if (deleted.some(({ VersionId }: { VersionId?: string }) => VersionId)) actions.add('s3:DeleteObjectVersion');
    if (deleted.length === 0) {
      const version = input.VersionId && /^(Get|Head)Object$/.test(name) ? 'Version' : '';
      actions.add(`${ownAction(operation)}${version}`);
    }
    if (input.BypassGovernanceRetention) actions.add('s3:BypassGovernanceRetention');
  } else {
    actions.add(ownAction(operation));
  }
  if (service === 'ec2') {
    if (input.TagSpecifications?.length > 0) actions.add('ec2:CreateTags');
    if (input.IamInstanceProfile) actions.add('iam:PassRole');
  }
  if (service === 'iam') {
    const [, tagged] = /^Create(Role|User|Policy|InstanceProfile)$/.exec(name) ?? [];
    if (tagged && input.Tags?.length > 0) actions.add(`iam:Tag${tagged}`);
    if (name === 'AddRoleToInstanceProfile') actions.add('iam:PassRole');
  }
  if (operation === 'sns:CreateTopic' && input.Tags?.length > 0) actions.add('sns:TagResource');
  return [...actions];
}
