import type { Bucket } from './bucket/bucket.ts';
import { readObject } from './bucket/read-object.ts';
import type { Digest } from './digest.ts';
import {
  CorruptError,
  type ErrorFacts,
  type ErrorKind,
  InvalidError,
  type LarderError,
  NotFoundError,
} from './errors.ts';
import { canonicalJson, type Json, parseCanonicalJson } from './format/canonical-json.ts';
import { escapeName } from './names.ts';

/*
 * What the controller's side asks of a node, through the repository where they are two processes: an object nodes/<escaped node>/asks/<id>, canonical
 * JSON of
 *
 *     {"ask":{"kind":"cut",…},"format":1}
 *
 * which the node replaces, if nobody changed it, by
 *
 *     {"answer":{"kind":"cut",…},"ask":…,"format":1}      or with "error":{"facts":…,"kind":…,"message":…} instead
 *
 * and which whoever asked deletes. nodes/<escaped node>/bell is written anew with each ask, so that a node that is asked nothing
 * has one small object to look at.
 */

/** A snapshot that is to be cut of a workspace. */
export interface CutMember {
  /** The snapshot's id. */
  readonly snapshot: string;
  /** The volume's id. */
  readonly volume: string;
}

export type Ask =
  /** Clone the workspace as it stands. Asked again for a snapshot that has a clone, it is that one. */
  | ({ readonly kind: 'cut' } & CutMember)
  /** Clone all members as they are at one moment, which is one moment on all nodes that meet at the barrier. */
  | {
      readonly kind: 'cut-group';
      readonly members: readonly CutMember[];
      /** New with each attempt: clones of an earlier one are not taken for this one's. */
      readonly attempt: string;
      /** All that take part, the one that is asked among them. */
      readonly nodes: readonly string[];
      /** How long writers may have to wait at most, in milliseconds. */
      readonly longestPause: number;
    }
  /** Save the workspace, and move its record. */
  | { readonly kind: 'save-now'; readonly volume: string };

/** A clone of a workspace, which becomes the snapshot when its record names it. */
export interface Cut {
  readonly snapshot: string;
  /** New with each clone. */
  readonly cut: string;
  /** The moment that it shows: ISO 8601, UTC. */
  readonly created: string;
  /** How long writers waited, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** The version below the workspace. */
  readonly lower: Digest;
}

export type Answer =
  | { readonly kind: 'cut'; readonly cuts: readonly Cut[] }
  | { readonly kind: 'saved' }
  /** The node does not have this workspace (any more): what its record tells now counts. */
  | { readonly kind: 'elsewhere'; readonly volume: string };

export interface AskRecord {
  readonly ask: Ask;
  readonly answer?: Answer;
  readonly error?: { readonly kind: ErrorKind; readonly message: string; readonly facts?: ErrorFacts };
}

/** The longest of these objects, in bytes. */
const ASK_LIMIT = 256 * 1024;

/** Errors: InvalidError where a node cannot be called so. */
function nodePrefix(node: string): string {
  if (node !== '' && node.isWellFormed()) return `nodes/${escapeName(node)}/`;
  throw new InvalidError(`a node cannot be called ${JSON.stringify(node)}`, { facts: { node } });
}

export function asksPrefix(node: string): string {
  return `${nodePrefix(node)}asks/`;
}

export function bellKey(node: string): string {
  return `${nodePrefix(node)}bell`;
}

/** What a node has come to in an attempt to clone together with others. */
export type BarrierStep = 'ready' | 'frozen';

export function barrierPrefix(node: string): string {
  return `${nodePrefix(node)}barriers/`;
}

export function barrierKey(node: string, attempt: string, step: BarrierStep): string {
  return `${barrierPrefix(node)}${attempt}-${step}`;
}

export function encodeAsk(record: AskRecord): Buffer {
  return Buffer.from(canonicalJson({ format: 1, ...record } as unknown as Json), 'utf8');
}

/** Errors: CorruptError. */
function decodeAsk(bytes: Buffer, key: string): AskRecord {
  const { format, ask, answer, error } = parseCanonicalJson(key, bytes);
  const kind = (ask as { kind?: Json } | undefined)?.kind;
  if (format !== 1 || typeof kind !== 'string')
    throw new CorruptError(`${key} is damaged: it asks nothing`, { facts: { object: key } });
  return { ask, answer, error } as unknown as AskRecord;
}

/** What is asked under a key, and what was answered; undefined where nobody asks or waits any more. Errors: CorruptError. */
export async function readAsk(
  bucket: Bucket,
  key: string,
  signal: AbortSignal,
): Promise<{ readonly record: AskRecord; readonly etag: string } | undefined> {
  try {
    const { bytes, etag } = await readObject(bucket, key, ASK_LIMIT, { signal });
    return { record: decodeAsk(bytes, key), etag };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** An error as an answer has it. */
export function errorOfAnswer({ kind, message, facts }: LarderError): NonNullable<AskRecord['error']> {
  return { kind, message, facts };
}
