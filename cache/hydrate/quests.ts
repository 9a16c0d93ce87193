import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, InvalidError, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { isSourceFault } from '../../dataset/source/read-source.ts';
import type { Cache } from '../cache.ts';
import type { Crew } from '../crew.ts';
import { PRIORITIES, type Priority } from '../job-queue.ts';
import { isFull, noRoom } from '../object-writer.ts';
import type { Room } from '../room.ts';
import type { Place } from '../segment-reader.ts';
import { isMistake, lastError, pauses } from './failures.ts';

/** `stream`: too large to be waited for, and nobody wants it but those who wait. */
export type Outcome = 'ready' | 'absent' | 'stream';

/** One object on its way, for all who want it. */
export interface Quest {
  readonly id: Digest;
  readonly outcome: Promise<Outcome>;
  /** Resolves when a writer has placed it. */
  readonly placed: Promise<void>;
  /** Aborted when nobody wants it any more. */
  readonly signal: AbortSignal;
  readonly priority: Priority;
  /** Nobody wants what is beside it. */
  readonly byPiece: boolean;
  /** Resolves where it is found to be larger than what somebody should wait for. */
  readonly large: Promise<void>;
  /** Where it was found. */
  place?: Place;
  /** When it was found, and when a job for it was started, by `performance.now()`. */
  located?: number;
  started?: number;
  /** To be called when its priority rises. */
  hurry: (priority: Priority) => void;
}

/** A part in bringing an object: until it is there, or until `leave`, which must be called in either case. */
export interface Interest {
  readonly quest: Quest;
  leave(): void;
}

export interface Quests {
  /** @param byPiece it alone is wanted, not what is beside it */
  join(id: Digest, priority: Priority, byPiece?: boolean): Interest;
  /** How many objects somebody waits for. */
  readonly waiting: number;
  close(): void;
}

export interface QuestsParts {
  readonly cache: Cache;
  readonly crew: Pick<Crew, 'urge' | 'calm'>;
  /** How long to try for an object, in milliseconds; asked after each failure, for it may change. */
  readonly patience: (id: Digest) => number;
  /** Who waits for a larger object, in bytes, is told to stream it. */
  readonly streamOver: (id: Digest) => number;
  readonly room?: Room | undefined;
  readonly makeRoom?: ((bytes: number) => Promise<boolean>) | undefined;
  readonly locate: (id: Digest, fresh: boolean) => Promise<Place | undefined>;
  /** Somebody waits for what was found here. */
  readonly onMiss?: (place: Place) => void;
  /** Has a share in what brings the object, until it is there or that has ended. */
  readonly take: (quest: Quest, place: Place, byPiece: boolean) => Promise<Taken>;
}

export interface Taken {
  readonly placed: boolean;
  /** What ended had begun before, and may have passed the object. */
  readonly underway: boolean;
  /** It reads more than this object, and may not have met it. */
  readonly whole: boolean;
}

const nobodyWaits = new Error('nobody wants it any more');
const closing = () => new UnavailableError('the cache is closing');

type OwnQuest = Quest & {
  readonly settle: PromiseWithResolvers<Outcome>;
  readonly place_: PromiseWithResolvers<void>;
  readonly tooLarge: PromiseWithResolvers<void>;
  readonly stopping: AbortController;
  readonly interested: Record<Priority, number>;
  byPiece: boolean;
};

/** What of an object is not a hole, in bytes. */
export function bytesToWrite({ content, size }: Place): number {
  if (content.kind !== 'chunks') return size;
  return content.parts.reduce((sum, { chunk, length }) => (chunk === undefined ? sum : sum + length), 0);
}

export function createQuests(parts: QuestsParts): Quests {
  const { cache, crew, patience, streamOver, room, makeRoom, locate, onMiss, take } = parts;
  const quests = new Map<Digest, OwnQuest>();
  let closed = false;
  let making: Promise<boolean> | undefined;

  cache.onPlaced((placed) => {
    if (quests.size === 0) return;
    for (const { id } of placed) {
      const quest = quests.get(id);
      // What is told may have been removed since, and be on its way again.
      if (quest && cache.has(id)) quest.place_.resolve();
    }
  });

  function begin(id: Digest): OwnQuest {
    const settle = Promise.withResolvers<Outcome>();
    const place = Promise.withResolvers<void>();
    const tooLarge = Promise.withResolvers<void>();
    const stopping = new AbortController();
    const interested: Record<Priority, number> = { urgent: 0, next: 0, prefetch: 0 };
    const quest: OwnQuest = {
      id,
      settle,
      place_: place,
      tooLarge,
      stopping,
      interested,
      byPiece: true,
      outcome: settle.promise,
      placed: place.promise,
      large: tooLarge.promise,
      signal: stopping.signal,
      get priority() {
        return PRIORITIES.find((priority) => interested[priority] > 0) ?? 'prefetch';
      },
      hurry: () => {},
    };
    settle.promise.catch(() => {});
    quests.set(id, quest);
    return quest;
  }

  function start(quest: OwnQuest): void {
    bring(quest)
      .then(quest.settle.resolve, quest.settle.reject)
      .finally(() => forget(quest));
  }

  function forget(quest: OwnQuest): void {
    if (quests.get(quest.id) === quest) quests.delete(quest.id);
  }

  /** One making of room at a time, for all who need some. */
  function roomFor(bytes: number): Promise<boolean> {
    making ??= (makeRoom?.(bytes) ?? Promise.resolve(false)).finally(() => {
      making = undefined;
    });
    return making;
  }

  async function bring(quest: OwnQuest): Promise<Outcome> {
    const { id, signal, interested } = quest;
    const began = performance.now();
    const pause = pauses();
    let fresh = false;
    let byPiece = false;
    let madeRoom = false;
    for (;;) {
      try {
        const place = await locate(id, fresh);
        if (!place) return cache.has(id) ? 'ready' : 'absent';
        signal.throwIfAborted();
        quest.place = place;
        if (quest.located === undefined && interested.urgent > 0) onMiss?.(place);
        quest.located ??= performance.now();
        if (place.size > streamOver(id)) {
          quest.tooLarge.resolve();
          if (interested.next + interested.prefetch === 0) return 'stream';
        }
        // It may have come with others meanwhile; then nothing is to be read for it.
        if (cache.has(id)) return 'ready';
        if (room && room.bytes < bytesToWrite(place)) throw noRoom(cache.layout.directory, id);
        const { placed, underway, whole } = await take(quest, place, byPiece);
        if (placed || cache.has(id)) return 'ready';
        // Read to its end, and the object was not in it: the locations were old, or it had gone by before we came.
        if (!underway && whole) byPiece = true;
        fresh = !underway;
      } catch (error) {
        signal.throwIfAborted();
        if (cache.has(id)) return 'ready';
        if (error instanceof InvalidError || isMistake(error) || isSourceFault(error)) throw error;
        if (error instanceof CorruptError) {
          // Another chunk of the pack may be the damaged one, or the whole was written anew elsewhere.
          if (byPiece && fresh) throw error;
          if (byPiece) fresh = true;
          byPiece = true;
          continue;
        }
        if (isFull(error)) {
          if (madeRoom || !(await roomFor(quest.place ? bytesToWrite(quest.place) : 0))) throw error;
          madeRoom = true;
          continue;
        }
        const wait = pause.next().value;
        const within = patience(id);
        if (performance.now() + wait > began + within) throw lastError(id, error, within);
        // What is named and not there may have been moved by a repack.
        fresh = error instanceof NotFoundError;
        await sleep(wait, undefined, { signal });
      }
    }
  }

  return {
    join(id, priority, byPiece = false) {
      if (closed) throw closing();
      const known = quests.get(id);
      const quest = known ?? begin(id);
      quest.interested[priority] += 1;
      quest.byPiece &&= byPiece;
      if (priority === 'urgent') crew.urge(id);
      if (known) quest.hurry(priority);
      else start(quest);
      const leave = () => {
        quest.interested[priority] -= 1;
        const { urgent, next, prefetch } = quest.interested;
        if (urgent + next + prefetch > 0) return;
        forget(quest);
        quest.stopping.abort(nobodyWaits);
        if (!quests.has(id)) crew.calm(id);
      };
      return { quest, leave };
    },
    get waiting() {
      return quests.values().reduce((count, { interested }) => count + (interested.urgent > 0 ? 1 : 0), 0);
    },
    close() {
      closed = true;
      for (const quest of quests.values()) quest.stopping.abort(closing());
    },
  };
}
