import type { S3Client } from '@aws-sdk/client-s3';
import { credentialsFrom } from './credentials.ts';
import type { Wire } from './http.ts';
import type { S3Options } from './location.ts';

/** Where neither the location nor the environment names a region; other stores take any. */
const DEFAULT_REGION = 'us-east-1';

/**
 * The SDK's client, which signs, and knows the AWS environment, profiles and addresses. Retries and checksums are ours: the one who
 * sends a conditional write again must know that it was sent before.
 */
export async function makeClient(options: S3Options, wire: Wire): Promise<S3Client> {
  // Loaded when it is needed: it takes a quarter of a second.
  const { S3Client } = await import('@aws-sdk/client-s3');
  const { endpoint, region, pathStyle, profile, credentials } = options;
  const make = (region: string | undefined) =>
    new S3Client({
      ...(endpoint === undefined ? { followRegionRedirects: true } : { endpoint }),
      ...(region === undefined ? {} : { region }),
      ...(profile === undefined ? {} : { profile }),
      ...(credentials === undefined ? {} : { credentials: credentialsFrom(credentials) }),
      ...(pathStyle ? { forcePathStyle: true } : {}),
      maxAttempts: 1,
      expectContinueHeader: false,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: wire,
      logger: SILENT,
    });
  const client = make(region);
  try {
    await client.config.region();
    return client;
  } catch {
    return make(DEFAULT_REGION);
  }
}

/** What a library would print to the console. */
const SILENT = { trace: () => {}, debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
