import { writeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { isErrno } from '../../dataset/errors.ts';
import { pollReadable, tryRead } from '../../system/calls-fuse.ts';
import { type FuseRequest, parseRequest } from './request.ts';
import { STATE } from './session-state.ts';

/** What a module of the session's owner does on each reading thread. */
export interface AtOnce {
  /** An answer to write, `nothing` where none is due, or undefined: not mine. */
  answer(request: FuseRequest): Buffer | 'nothing' | undefined;
  /** Takes what the owner tells all threads. */
  take(message: unknown): void;
}

export type AnswerAtOnce = (shared: SharedArrayBuffer) => AtOnce;

/** What a reader is started with. */
export interface ReaderData {
  /** The session's descriptor, not blocking. */
  readonly fd: number;
  /** The eventfd that says that there is something in `state`, or a message. */
  readonly wake: number;
  /** URL of a module that exports an `answerAtOnce`, and the memory that it shares with others. */
  readonly module: string;
  readonly shared: SharedArrayBuffer;
  /** Shared by all threads of the session: STATE. */
  readonly state: SharedArrayBuffer;
}

/** What it posts: whole messages, one after the other; that it took what it was told; or why it ended. */
export type ReaderMessage =
  | { readonly messages: Uint8Array<ArrayBuffer> }
  | { readonly taken: number }
  | { readonly end: string };

/** What it is posted. */
export interface ToldMessage {
  readonly number: number;
  readonly message: unknown;
}

/** At least FUSE_MIN_READ_BUFFER; the kernel refuses to read into less than a header and the longest WRITE. */
const ROOM = 64 * 1024;
const BATCH = 64;
/** A main thread that has not moved for so long is stuck, in seconds: a keeper that stands in shall have the first go. */
const STUCK = 5;
const STUCK_PAUSE = 100;

const { fd, wake, module, shared, state } = workerData as ReaderData;
const port = parentPort!;
const buffer = Buffer.alloc(ROOM);
const cells = new Int32Array(state);
const { answerAtOnce } = (await import(module)) as { answerAtOnce: AnswerAtOnce };
const atOnce = answerAtOnce(shared);

function post(message: ReaderMessage, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function answered(message: Buffer): boolean {
  const request = parseRequest(message);
  const reply = request && atOnce.answer(request);
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

function takeTold(): void {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (!received) return;
    const { number, message } = received.message as ToldMessage;
    atOnce.take(message);
    post({ taken: number });
  }
}

const isStuck = () => Date.now() / 1000 - Atomics.load(cells, STATE.alive) > STUCK;

const count = Buffer.alloc(8);
for (let end: string | undefined; end === undefined; ) {
  const ready = pollReadable([fd, wake], -1);
  if (ready.includes(wake)) {
    tryRead(wake, count);
    takeTold();
    if (Atomics.load(cells, STATE.stopping) !== 0) end = 'stopped';
  } else {
    // What nobody else takes in the meantime is read all the same: the main thread may be stuck in a call that waits for us.
    if (isStuck() && (pollReadable([wake], STUCK_PAUSE).length > 0 || pollReadable([fd], 0).length === 0)) continue;
    end = readBatch();
  }
  if (end !== undefined) post({ end });
}
