import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { S3Server } from '../test/support/s3-server.ts';
import { presign } from './s3.ts';

export interface Shape {
  /** A round trip. */
  readonly milliseconds: number;
  /** In each direction, for all connections together; 0 is no limit. */
  readonly bytesPerSecond: number;
}

/** What passed over a link. Requests are counted by method; a listing is a GET that is not counted as one. */
export interface Passed {
  readonly connections: number;
  readonly get: number;
  readonly list: number;
  readonly head: number;
  readonly other: number;
  readonly sent: number;
  readonly received: number;
}

/** A way to an S3 server that is as slow and far as its shape says. */
export interface Link extends AsyncDisposable {
  readonly name: string;
  readonly shape: Shape;
  readonly port: number;
  readonly server: S3Server;
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  /** The `s3://` location of a prefix in a bucket, by this way. */
  location(bucket: string, prefix?: string): string;
  /** Request targets for `fetch`, one for each path `/bucket/key`. */
  targets(paths: readonly string[]): string[];
  /** What passed since the last call. */
  takePassed(): Promise<Passed>;
}

export function nameOf({ milliseconds, bytesPerSecond }: Shape): string {
  return `${milliseconds} ms, ${bytesPerSecond === 0 ? 'no limit' : `${Math.round(bytesPerSecond / 1e6)} MB/s`}`;
}

/** @param program the compiled `shape.c` */
export async function openLink(program: string, server: S3Server, shape: Shape): Promise<Link> {
  const upstream = new URL(server.endpoint).port;
  const child = spawn(program, [upstream, String(shape.milliseconds), String(shape.bytesPerSecond)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the link has ended');
    return JSON.parse(value) as unknown;
  };
  const { port } = (await answer()) as { port: number };
  const endpoint = `http://127.0.0.1:${port}`;
  return {
    name: nameOf(shape),
    shape,
    port,
    server,
    endpoint,
    location: (bucket, prefix) => server.locationOf(bucket, prefix).replace(server.endpoint, endpoint),
    targets: (paths) => paths.map((path) => presign(server, `127.0.0.1:${port}`, path)),
    async takePassed() {
      child.stdin.write('\n');
      return (await answer()) as Passed;
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}
