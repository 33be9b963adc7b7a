/**
 * Settings for the clients of commands that copy, for 3.6, 3.7, 3.9, 3.15, 3.19 and 3.29. S3 may say nothing for minutes
 * while it copies up to 5 GiB. The minute of silence that ends other calls would have the SDK begin the copy again, and
 * with it what it costs.
 */
export const patient = { requestHandler: { connectionTimeout: 5_000, socketTimeout: 300_000 } };
