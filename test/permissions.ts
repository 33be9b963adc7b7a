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
  /** Whether the command had `--yes`, or a terminal to ask on. */
  confirmed?: boolean;
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
  PutObjectLockConfiguration: 'PutBucketObjectLockConfiguration',
  PutBucketLifecycleConfiguration: 'PutLifecycleConfiguration',
  DeleteBucketLifecycle: 'PutLifecycleConfiguration',
  PutBucketEncryption: 'PutEncryptionConfiguration',
  PutPublicAccessBlock: 'PutBucketPublicAccessBlock',
  DeletePublicAccessBlock: 'PutBucketPublicAccessBlock',
  DeleteBucketTagging: 'PutBucketTagging',
  ListBucketInventoryConfigurations: 'GetInventoryConfiguration',
  GetBucketInventoryConfiguration: 'GetInventoryConfiguration',
  SelectObjectContent: 'GetObject',
};

/** The action that an operation is checked for in any case. */
export function ownAction(operation: string): string {
  const [service, name = ''] = operation.split(':');
  return service?.startsWith('s3') ? `s3:${s3Names[name] ?? name}` : operation;
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
    const version = input.VersionId && /^((Get|Head)Object|(Get|Put|Delete)ObjectTagging)$/.test(name) ? 'Version' : '';
    const source = /\?versionId=/.test(input.CopySource ?? '') ? 'Version' : '';
    if (name === 'CopyObject' || name === 'UploadPartCopy') {
      actions.add(`s3:GetObject${source}`).add('s3:PutObject');
      // What CopyObject copies unless told otherwise.
      if (name === 'CopyObject' && input.TaggingDirective !== 'REPLACE') actions.add(`s3:GetObject${source}Tagging`);
    } else if (name === 'GetObjectAttributes') {
      actions.add(`s3:GetObject${input.VersionId ? 'Version' : ''}`);
      actions.add(`s3:GetObject${input.VersionId ? 'Version' : ''}Attributes`);
    } else if (version && name.endsWith('Tagging')) {
      actions.add(`s3:${name.replace('Object', 'ObjectVersion')}`);
    } else if (deleted.length === 0) {
      actions.add(`${ownAction(operation)}${version}`);
    }
    // What comes with an object needs an action of its own.
    const puts = /^(PutObject|CopyObject|CreateMultipartUpload)$/.test(name);
    if (puts && input.Tagging) actions.add('s3:PutObjectTagging');
    if (puts && input.ACL) actions.add('s3:PutObjectAcl');
    if (puts && input.ObjectLockRetainUntilDate) actions.add('s3:PutObjectRetention');
    // A key of KMS's decrypts, too, when the object is read back or joined from parts.
    if (puts && input.SSEKMSKeyId) actions.add('kms:GenerateDataKey').add('kms:Decrypt');
    if (puts && input.ObjectLockLegalHoldStatus) actions.add('s3:PutObjectLegalHold');
    // HEAD shows a lock only to those who may read it, so a copy has it only from them.
    if (input.CopySource && input.ObjectLockRetainUntilDate) actions.add('s3:GetObjectRetention');
    if (input.CopySource && input.ObjectLockLegalHoldStatus) actions.add('s3:GetObjectLegalHold');
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
  if (operation === 's3control:CreateJob') {
    actions.add('iam:PassRole');
    if (input.Tags?.length > 0) actions.add('s3:PutJobTagging');
  }
  if (operation === 'sns:CreateTopic' && input.Tags?.length > 0) actions.add('sns:TagResource');
  return [...actions];
}
