import type { Bucket } from '../bucket/bucket.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { canonicalJson, type Json, parseCanonicalJson } from '../format/canonical-json.ts';
import type { Repository } from '../repository.ts';

/*
 * How far the collection of a repository is: canonical JSON (format/canonical-json.ts) under `gc/state`, changed by compare-and-swap
 * only, and never removed:
 *
 *     {"format":1,"phase":"idle","turn":12}
 *     {"before":time,"condemned":{kind:{"bytes":…,"lists":…,"objects":…}},"format":1,"grace":ms,"phase":"condemned","run":uuid,"turn":12}
 *     the same with "phase":"sweeping", "owner":uuid, and "deleting":true once the first turn has begun
 *
 * `turn` counts the batches of deletions that were ever begun: as long as it stands still, nothing is deleted.
 */

export const GC_STATE = 'gc/state';

/** What is collected, in the order in which it is deleted: a version goes before anything of it does. */
export const COLLECTED = ['versions', 'segments', 'locations', 'packs'] as const;
export type Collected = (typeof COLLECTED)[number];

/** What a list holds of one kind. */
export interface Amount {
  readonly objects: number;
  readonly bytes: number;
}

export interface Condemned {
  readonly run: string;
  /** Only what was last written before this, by the store's clock, in milliseconds since 1970. */
  readonly before: number;
  /** In milliseconds. */
  readonly grace: number;
  /** Of each kind what there is, and in how many objects the list is. */
  readonly amounts: { readonly [K in Collected]: Amount & { readonly lists: number } };
}

export interface GcState {
  readonly phase: 'idle' | 'condemned' | 'sweeping';
  readonly turn: number;
  /** Whether a turn may be under way. */
  readonly deleting: boolean;
  /** Of `condemned` and `sweeping`. */
  readonly condemned?: Condemned;
  /** The collector that sweeps. */
  readonly owner?: string;
}

export interface StoredState extends GcState {
  /** For `writeState`. */
  readonly etag: string | 'absent';
  /** When it was written, by the store's clock, in milliseconds since 1970. */
  readonly modified: number;
}

const FORMAT = 1;
const LIMIT = 64 * 1024;

export async function readState({ bucket }: Pick<Repository, 'bucket'>, signal?: AbortSignal): Promise<StoredState> {
  try {
    const { body, etag, modified, size } = await bucket.get(GC_STATE, { signal });
    const parts: Buffer[] = [];
    for await (const part of body) if (size <= LIMIT) parts.push(part);
    return { ...decodeState(Buffer.concat(parts)), etag, modified: modified.getTime() };
  } catch (error) {
    if (error instanceof NotFoundError)
      return { phase: 'idle', turn: 0, deleting: false, etag: 'absent', modified: Number.NEGATIVE_INFINITY };
    throw error;
  }
}

/** Replaces the state that was read; a ConflictError where it is another since. @returns it as it is stored */
export async function writeState(
  { bucket }: { readonly bucket: Bucket },
  before: Pick<StoredState, 'etag'>,
  state: GcState,
  signal?: AbortSignal,
): Promise<GcState & { readonly etag: string }> {
  const condition = before.etag === 'absent' ? ('absent' as const) : { etag: before.etag };
  return { ...state, etag: await bucket.put(GC_STATE, encodeState(state), { condition, signal }) };
}

function encodeState({ phase, turn, deleting, condemned, owner }: GcState): Buffer {
  const json: { [key: string]: Json | undefined } = {
    format: FORMAT,
    phase,
    turn,
    deleting: deleting || undefined,
    owner,
    run: condemned?.run,
    before: condemned && new Date(condemned.before).toISOString(),
    grace: condemned?.grace,
    condemned: condemned?.amounts as unknown as Json | undefined,
  };
  return Buffer.from(canonicalJson(json), 'utf8');
}

function decodeState(object: Buffer): GcState {
  const fields = parseCanonicalJson(GC_STATE, object);
  const { format, phase, turn, deleting, owner, run, before, grace, condemned: amounts } = fields;
  const check = (field: string, holds: boolean) => {
    if (!holds)
      throw new CorruptError(`${GC_STATE} is damaged: ${field} is ${JSON.stringify(fields[field])}`, {
        facts: { object: GC_STATE, field },
      });
  };
  check('format', format === FORMAT);
  check('phase', phase === 'idle' || phase === 'condemned' || phase === 'sweeping');
  check('turn', isCount(turn));
  check('deleting', deleting === undefined || (deleting === true && phase === 'sweeping'));
  const state = { phase: phase as GcState['phase'], turn: turn as number, deleting: deleting === true };
  if (phase === 'idle') return state;
  check('run', typeof run === 'string' && /^[0-9a-f-]{36}$/.test(run));
  check('before', typeof before === 'string' && !Number.isNaN(Date.parse(before)));
  check('grace', isCount(grace));
  check('owner', phase === 'sweeping' ? typeof owner === 'string' : owner === undefined);
  const isAmount = (value: Json | undefined) => {
    const { objects, bytes, lists } = (value ?? {}) as { readonly [key: string]: Json };
    return isCount(objects) && isCount(bytes) && isCount(lists);
  };
  check(
    'condemned',
    COLLECTED.every((kind) => isAmount((amounts as { readonly [key: string]: Json } | undefined)?.[kind])),
  );
  return {
    ...state,
    owner: owner as string | undefined,
    condemned: {
      run: run as string,
      before: Date.parse(before as string),
      grace: grace as number,
      amounts: amounts as unknown as Condemned['amounts'],
    },
  };
}

function isCount(value: Json | undefined): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
