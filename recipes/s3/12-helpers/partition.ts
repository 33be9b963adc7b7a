/** What a region's partition adds to names, for 3.12. */

/**
 * The partition of a region, as far as ARNs and website addresses are concerned.
 *
 * @throws RangeError in isolated regions and the European Sovereign Cloud, whose websites have other addresses.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
 *
 * @example
 * const { name, domain } = partitionOf('cn-north-1');
 * console.log(`arn:${name}:s3:::my-bucket is below ${domain}`);
 * // arn:aws-cn:s3:::my-bucket is below amazonaws.com.cn
 */
export function partitionOf(region: string): { name: string; domain: string } {
  if (/^(eusc|us-iso|eu-iso)/.test(region)) throw new RangeError(`websites in ${region} have other addresses`);
  if (region.startsWith('cn-')) return { name: 'aws-cn', domain: 'amazonaws.com.cn' };
  return { name: region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws', domain: 'amazonaws.com' };
}
