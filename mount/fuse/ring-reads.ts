import { constants } from 'node:os';
import { dataHeader, emptyReply, errorReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import { createExpired } from './ring-expired.ts';
import type { OpenedFile } from './ring-files.ts';
import type { Holds } from './ring-holds.ts';
import type { NodeRecord } from './ring-nodes.ts';
import { expiredError } from './ring-waits.ts';
import type { AnswerPort } from './session.ts';

const { EIO } = constants.errno;

export interface ReadsOptions {
  readonly holds: Holds;
  /** In ms, of each read of this id. */
  readonly deadlineOf: (id: string) => number;
  /** The longest READ, in bytes. */
  readonly maxRead: number;
  readonly onFailure: ((id: string, error: unknown) => void) | undefined;
  /** The file of a node, where it is there. */
  readonly opened: (record: NodeRecord) => OpenedFile | undefined;
  /** Asks for it, where it is not, for `left` ms at most. Gives what leaves. */
  readonly bring: (
    record: NodeRecord,
    left: number,
    end: (one: OpenedFile | 'failed' | 'expired') => void,
  ) => () => void;
}

/** READs of file nodes that the reading threads do not answer: each ends with its bytes, or with EIO. */
export function createReads(options: ReadsOptions) {
  const { holds, deadlineOf, maxRead, onFailure } = options;
  const expired = createExpired();
  const counters = { reads: 0, readBytes: 0, readsFailed: 0, readsExpired: 0 };

  function read(
    request: FuseRequest & { readonly offset: bigint; readonly count: number },
    record: NodeRecord,
    port: AnswerPort,
  ): void {
    counters.reads += 1;
    const from = Number(request.offset);
    const to = Math.min(from + Math.min(request.count, maxRead), record.size);
    if (from >= to) {
      port.send(emptyReply(request.unique));
      return;
    }
    if (expired.has(record.node, from)) {
      counters.readsExpired += 1;
      port.send(errorReply(request.unique, EIO));
      return;
    }
    holds.add(
      request,
      port,
      (key, left) => startRead(key, left, record, from, to),
      () => {},
      deadlineOf(record.id),
    );
  }

  /** Brings the bytes and answers, within `left` ms. Gives what calls it off. */
  function startRead(key: bigint, left: number, record: NodeRecord, from: number, to: number): () => void {
    const controller = new AbortController();
    const { signal } = controller;
    let leave = () => {};
    const fail = (why: 'readsFailed' | 'readsExpired') => {
      if (holds.answer(key, (unique) => errorReply(unique, EIO)) !== 'gone') counters[why] += 1;
    };
    const callOff = () => {
      clearTimeout(timer);
      leave();
      controller.abort();
    };
    const timer = setTimeout(() => {
      expired.add(record.node, from, to);
      callOff();
      onFailure?.(record.id, expiredError(record.id, deadlineOf(record.id)));
      fail('readsExpired');
    }, left);
    const start = async (one: OpenedFile) => {
      one.reading += 1;
      try {
        const data = await one.file.read(from, to - from, signal);
        if (data.length !== to - from) throw new Error(`a read of ${to - from} bytes at ${from} gave ${data.length}`);
        const sent = holds.answer(key, (unique) => [
          dataHeader(unique, data.length),
          Buffer.from(data.buffer, data.byteOffset, data.byteLength),
        ]);
        if (sent === 'taken') counters.readBytes += data.length;
      } catch (error) {
        if (signal.aborted) return;
        onFailure?.(record.id, error);
        fail('readsFailed');
      } finally {
        clearTimeout(timer);
        one.reading -= 1;
      }
    };
    const one = options.opened(record);
    if (one) void start(one);
    else {
      leave = options.bring(record, left, (brought) => {
        if (typeof brought === 'object') return void start(brought);
        clearTimeout(timer);
        fail(brought === 'expired' ? 'readsExpired' : 'readsFailed');
      });
    }
    return callOff;
  }

  return { read, counters: () => ({ ...counters }) };
}
