import { DescribeImagesCommand } from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const find = (options: string, settings = {}) => run(`npx tsx ${file} --local --json ${options}`, settings);

test('the image of each processor is Amazon Linux 2023, and EC2 knows it', async () => {
  for (const [type, architecture] of [
    ['t3.micro', 'x86_64'],
    ['t2.micro', 'x86_64'],
    ['t4g.nano', 'arm64'],
  ]) {
    const image = JSON.parse((await find(`--instance-type ${type}`)).stdout);
    const { Images } = await ec2().send(new DescribeImagesCommand({ ImageIds: [image.imageId] }));
    expect(Images).toMatchObject([
      { Name: image.name, Architecture: architecture, RootDeviceName: image.rootDeviceName },
    ]);
    expect(image.name).toMatch(/^al2023-ami-2023/);
  }
});

test('the newest of several images is taken, whatever their order', async () => {
  const image = (id: string, CreationDate: string) => ({
    ImageId: id,
    Name: id,
    CreationDate,
    RootDeviceName: '/dev/sda1',
    BlockDeviceMappings: [{ DeviceName: '/dev/sda1', Ebs: { VolumeSize: 8 } }],
  });
  const Images = [
    image('ami-old', '2024-12-31T23:59:59.000Z'),
    image('ami-new', '2026-01-02T03:04:05.000Z'),
    image('ami-mid', '2025-06-01T00:00:00.000Z'),
  ];
  const faults = [{ operation: 'ec2:DescribeImages', output: { Images } }];
  const result = JSON.parse((await find('--owner self', { faults })).stdout);
  expect(result).toMatchObject({ imageId: 'ami-new', created: '2026-01-02T03:04:05.000Z', rootSize: 8 });
});

test('a name without an owner is refused, before anything is sent', async () => {
  const result = await find("--name 'ubuntu*' --calls");
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toBe('Error: a name needs an owner: anybody may call an image that\n');
});

test('an unknown type, a Mac and an owner without images are told apart', async () => {
  const unknown = await find('--instance-type t9.huge');
  expect(unknown).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('InvalidInstanceType'),
  });
  const InstanceTypes = [{ ProcessorInfo: { SupportedArchitectures: ['arm64_mac'] } }];
  const mac = await find('--instance-type mac2.metal', {
    faults: [{ operation: 'ec2:DescribeInstanceTypes', output: { InstanceTypes } }],
  });
  expect(mac.stderr).toBe('Error: mac2.metal runs arm64_mac: no image is known for that\n');
  const none = await find("--owner self --name 'nothing*'");
  expect(none.stderr).toBe('Error: self has no image "nothing*" for x86_64 in this region\n');
});
