/**
 * 2.18 Find an image
 *
 * ## Problem
 * You want to launch an instance and need the id of an image (AMI): one that is current, that exists in your
 * region and that fits the instance's processor.
 *
 * ## Solution
 * AWS publishes the newest Amazon Linux 2023 under a parameter that anybody may read, one for each processor
 * architecture. Ask EC2 which architecture the instance type has, read the parameter, look at the image. Other
 * publishers' images are looked up by owner and name, and the newest is taken.
 *
 * ## Discussion
 * An image id is good in one region only and grows old within weeks: look it up each time instead of keeping it
 * in a file.
 *
 * Names can be chosen by anybody, so never search by name without an owner: somebody else's
 * `ubuntu-24.04-fixed` would be the newest. Owners are account numbers, `self`, `amazon` or `aws-marketplace`;
 * Canonical's, for Ubuntu, is 099720109477 (in GovCloud 513442679011, in China 837727238323).
 *
 * Deprecated images are left out, except your own. "Newest" is by date only: name the release in the pattern, or a
 * rebuilt older one may win. Where your account has a list of allowed images, others are not found. Images of AWS Marketplace, and those with Windows, cost extra by the hour.
 *
 * @run npx tsx recipes/ec2/18-find-image.ts --instance-type t4g.nano --local
 * @output
 *   image id          ami-0bb7267a511c0a8e8
 *   name              al2023-ami-2023.10.20260120.4-kernel-6.1-arm64
 *   architecture      arm64
 *   created           2026-11-24 14:14:45 UTC
 *   root device name  /dev/xvda
 *   root size         15 GiB
 * @run npx tsx recipes/ec2/18-find-image.ts --owner 099720109477 --name 'ubuntu/images/*' --local
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ec2:DescribeImages on *
 * @permission ssm:GetParameter on arn:aws:ssm:*::parameter/aws/service/ami-amazon-linux-latest/*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack says of all images that they were created when it started, so the newest of several is
 * shown by a test that gives the answer itself.
 * @see https://docs.aws.amazon.com/linux/al2023/ug/ec2.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
 */
import {
  type _InstanceType,
  DescribeImagesCommand,
  DescribeInstanceTypesCommand,
  EC2Client,
  type Image,
  paginateDescribeImages,
} from '@aws-sdk/client-ec2';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';

export interface FoundImage {
  imageId: string;
  name: string;
  /** `x86_64` or `arm64`. */
  architecture: string;
  created: Date;
  /** The device that a launch must name to change the root volume: `/dev/xvda`. */
  rootDeviceName: string;
  /** Smallest size of the root volume, in GiB. */
  rootSize: number;
}

/**
 * Finds the newest image for the processor of an instance type.
 *
 * @param ec2 - Its region is the one that the image is for.
 * @param ssm - Of the same region.
 * @param options.instanceType - Type of the instance. `t3.micro` by default.
 * @param options.owner - Whose image: an account number, `self`, `amazon`. Amazon Linux 2023 without it.
 * @param options.name - Name of the owner's image; `*` stands for anything. All by default.
 * @returns The image.
 * @throws TypeError when a name is given without an owner.
 * @throws InvalidInstanceType when there is no such type in the region.
 * @throws Error when no image fits.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const ssm = new SSMClient({});
 * console.log(await findImage(ec2, ssm, { instanceType: 't4g.nano' }));
 */
export async function findImage(
  ec2: EC2Client,
  ssm: SSMClient,
  { instanceType = 't3.micro', owner, name = '*' }: { instanceType?: string; owner?: string; name?: string } = {},
): Promise<FoundImage> {
  if (!owner && name !== '*') throw new TypeError('a name needs an owner: anybody may call an image that');

  // Old types list i386 before x86_64, and Macs have architectures of their own.
  const { InstanceTypes = [] } = await ec2.send(
    new DescribeInstanceTypesCommand({ InstanceTypes: [instanceType as _InstanceType] }),
  );
  const supported = InstanceTypes[0]?.ProcessorInfo?.SupportedArchitectures ?? [];
  const architecture = supported.find((one) => one === 'x86_64' || one === 'arm64');
  if (!architecture) throw new Error(`${instanceType} runs ${supported.join(', ')}: no image is known for that`);

  const images: Image[] = [];
  if (owner) {
    const Filters = [
      { Name: 'name', Values: [name] },
      { Name: 'architecture', Values: [architecture] },
      { Name: 'state', Values: ['available'] },
    ];
    for await (const page of paginateDescribeImages({ client: ec2, pageSize: 1000 }, { Owners: [owner], Filters })) {
      images.push(...(page.Images ?? []));
    }
  } else {
    const Name = `/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${architecture}`;
    const { Parameter } = await ssm.send(new GetParameterCommand({ Name }));
    const page = await ec2.send(new DescribeImagesCommand({ ImageIds: [Parameter?.Value as string] }));
    images.push(...(page.Images ?? []));
  }

  // Dates of this form sort as they are.
  images.sort((a, b) => (b.CreationDate as string).localeCompare(a.CreationDate as string));
  const [image] = images;
  if (!image) throw new Error(`${owner ?? 'amazon'} has no image "${name}" for ${architecture} in this region`);
  const root = image.BlockDeviceMappings?.find(({ DeviceName }) => DeviceName === image.RootDeviceName);
  return {
    imageId: image.ImageId as string,
    name: image.Name as string,
    architecture,
    created: new Date(image.CreationDate as string),
    rootDeviceName: image.RootDeviceName as string,
    rootSize: root?.Ebs?.VolumeSize as number,
  };
}

// ---- command line: leave out when copying ----
import { connect, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--instance-type <type>', 'type of the instance that will run it', 't3.micro')
    .option('--owner <owner>', 'account number of the owner, or self or amazon (default: Amazon Linux 2023)')
    .option('--name <name>', 'name of the image, * for anything')
    .action(async (options) => {
      const image = await findImage(connect(EC2Client), connect(SSMClient), options);
      print(image, { rootSize: (size: number) => `${size} GiB` });
    }),
);
