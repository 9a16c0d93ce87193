import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type S3Server, startS3Server, whyNoS3Server } from '../test/support/s3-server.ts';

/** versitygw on loopback with its buckets below `parent`. Its credentials are in this process's environment from then on. */
export async function startS3In(parent: string): Promise<S3Server> {
  if (whyNoS3Server !== undefined) throw new Error(`there is no S3 server to measure with: ${whyNoS3Server}`);
  const directory = mkdtempSync(join(parent, 's3-'));
  const { TMPDIR } = process.env;
  // The server keeps its buckets below the temporary directory.
  process.env.TMPDIR = directory;
  const server = await startS3Server();
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/**
 * Signs a GET so that anyone may ask for it for the next hour (AWS Signature Version 4, "Using Query Parameters").
 * @param path `/bucket/key`, escaped
 * @param host `127.0.0.1:PORT`, where it will be asked for
 * @returns the request's target
 */
export function presign({ credentials }: S3Server, host: string, path: string): string {
  const time = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const scope = [time.slice(0, 8), 'us-east-1', 's3', 'aws4_request'];
  const query = [
    'X-Amz-Algorithm=AWS4-HMAC-SHA256',
    `X-Amz-Credential=${encodeURIComponent(`${credentials.accessKey}/${scope.join('/')}`)}`,
    `X-Amz-Date=${time}`,
    'X-Amz-Expires=3600',
    'X-Amz-SignedHeaders=host',
  ].join('&');
  const canonical = ['GET', path, query, `host:${host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n');
  const digest = createHash('sha256').update(canonical).digest('hex');
  const key = scope.reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${credentials.secretKey}`,
  );
  const text = ['AWS4-HMAC-SHA256', time, scope.join('/'), digest].join('\n');
  return `${path}?${query}&X-Amz-Signature=${createHmac('sha256', key).update(text).digest('hex')}`;
}
