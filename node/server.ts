import { unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { InvalidError, isErrno, LarderError, NotFoundError } from '../dataset/errors.ts';
import { answerPage, type Pages } from './pages.ts';
import type { Method, Methods, Progress, ReplyLine } from './protocol.ts';

/** What the daemon does for each call. `signal` ends when the caller has gone. */
export type Handlers = {
  readonly [M in Method]: (request: Methods[M]['request'], context: CallContext) => Promise<Methods[M]['reply']>;
};

export interface CallContext {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

const REQUEST_LIMIT = 1 << 20;

/** Serves the handlers and pages on a unix socket, which only this user can reach. A socket left by a daemon that died is replaced. */
export async function listen(socket: string, handlers: Handlers, pages: Pages): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(handlers, pages, request, response);
  });
  await unlink(socket).catch((error) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
  const mask = process.umask(0o077);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socket, resolve);
    });
  } finally {
    process.umask(mask);
  }
  return server;
}

async function answer(
  handlers: Handlers,
  pages: Pages,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (await answerPage(pages, request, response)) return;
  const abort = new AbortController();
  response.on('close', () => abort.abort());
  const write = (line: ReplyLine) => {
    if (!response.writableEnded && !response.destroyed) response.write(`${JSON.stringify(line)}\n`);
  };
  try {
    response.setHeader('content-type', 'application/x-ndjson');
    const method = /^\/v1\/([a-z-]+)$/.exec(request.url ?? '')?.[1];
    if (request.method !== 'POST' || method === undefined || !Object.hasOwn(handlers, method)) {
      response.statusCode = 404;
      throw new NotFoundError(`the node's daemon has no call ${request.method} ${request.url}`);
    }
    const handler = handlers[method as Method] as (request: unknown, context: CallContext) => Promise<unknown>;
    const result = await handler(await readRequest(request), {
      signal: abort.signal,
      onProgress: (progress) => write({ progress }),
    });
    write({ result });
  } catch (error) {
    write({ error: describe(error) });
  } finally {
    response.end();
  }
}

async function readRequest(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request) {
    parts.push(part as Buffer);
    size += (part as Buffer).length;
    if (size > REQUEST_LIMIT) throw new InvalidError(`the request is over ${REQUEST_LIMIT} bytes`);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8') || '{}');
  } catch (cause) {
    throw new InvalidError('the request is not JSON', { cause });
  }
}

function describe(error: unknown): { kind?: LarderError['kind']; message: string; facts?: LarderError['facts'] } {
  if (error instanceof LarderError) return { kind: error.kind, message: error.message, facts: error.facts };
  return { message: error instanceof Error ? error.message : String(error) };
}
