import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { isErrno } from '../../dataset/errors.ts';
import { pollReadable, tryRead } from '../../system/calls-fuse.ts';
import { type FuseRequest, parseRequest } from './request.ts';

/** Answers on the reading thread: an answer to write, `nothing` where none is due, or undefined: not mine. */
export type AnswerAtOnce = (shared: SharedArrayBuffer) => (request: FuseRequest) => Buffer | 'nothing' | undefined;

/** What the reader is started with. */
export interface ReaderData {
  /** The session's descriptor, not blocking. */
  readonly fd: number;
  /** The eventfd that ends it. */
  readonly wake: number;
  /** URL of a module that exports an `answerAtOnce`, and the memory that it shares with others. */
  readonly module: string;
  readonly shared: SharedArrayBuffer;
}

/** What it posts: whole messages, one after the other, or why it ended. */
export type ReaderMessage = { readonly messages: Uint8Array<ArrayBuffer> } | { readonly end: string };

/** At least FUSE_MIN_READ_BUFFER; the kernel refuses to read into less than a header and the longest WRITE. */
const ROOM = 64 * 1024;
const BATCH = 64;

const { fd, wake, module, shared } = workerData as ReaderData;
const port = parentPort!;
const buffer = Buffer.alloc(ROOM);
const { answerAtOnce } = (await import(module)) as { answerAtOnce: AnswerAtOnce };
const answer = answerAtOnce(shared);

function post(message: ReaderMessage, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function answered(message: Buffer): boolean {
  const request = parseRequest(message);
  const reply = request && answer(request);
  if (reply === undefined) return false;
  if (reply === 'nothing') return true;
  try {
    writeSync(fd, reply);
  } catch (error) {
    // Nobody waits for it any more: interrupted, or unmounted since.
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENODEV') && !isErrno(error, 'ENOTCONN')) throw error;
  }
  return true;
}

/** Reads what is there, up to a batch. Gives the reason when the session is over. */
function readBatch(): string | undefined {
  const parts: Buffer[] = [];
  let end: string | undefined;
  for (let count = 0; count < BATCH; count += 1) {
    const got = tryRead(fd, buffer);
    if (typeof got === 'number') {
      if (got === 0) end = 'unmounted';
      else if (!answered(buffer.subarray(0, got))) parts.push(Buffer.copyBytesFrom(buffer, 0, got));
    } else if (got === 'ENODEV') end = 'unmounted';
    else if (got === 'ECONNABORTED') end = 'aborted';
    // EAGAIN: nothing more; ENOENT: the request was withdrawn while we read it; EINTR: again.
    else if (got !== 'ENOENT' && got !== 'EINTR' && got !== 'EAGAIN') end = got;
    if (got === 'EAGAIN' || end !== undefined) break;
  }
  if (parts.length > 0) {
    const total = parts.reduce((sum, part) => sum + part.length, 0);
    const messages = new Uint8Array(total);
    let at = 0;
    for (const part of parts) {
      messages.set(part, at);
      at += part.length;
    }
    post({ messages }, [messages.buffer]);
  }
  return end;
}

for (let end: string | undefined; end === undefined; ) {
  const ready = pollReadable([fd, wake], -1);
  if (ready.includes(wake)) end = 'stopped';
  else end = readBatch();
  if (end !== undefined) post({ end });
}
