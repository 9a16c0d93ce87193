import { type Digest, isDigest, sha256 } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';

/** `pinned`: read-only, one version. `workspace`: writable, copy-on-write on a version. */
export type VolumeKind = 'pinned' | 'workspace';

/** What a claim in a cluster stands for: a record in the repository, under `volumes/`. */
export interface Volume {
  readonly id: string;
  /** What the volume was created under; whoever creates it again by this name gets the same. */
  readonly name: string;
  readonly kind: VolumeKind;
  readonly dataset: string;
  /** The reference that was asked for; absent for the head of `main`. */
  readonly ref?: string;
  /** What that was when the volume was created. It stays when the branch moves on. */
  readonly version: Digest;
  /** Of a workspace the room for changes, of a pinned volume its size, in bytes. */
  readonly capacityBytes: number;
  /** ISO 8601, UTC. */
  readonly created: string;
}

const FORMAT = 1;
const ID = /^vol-[0-9a-f]{32}$/;

/** The id follows from the name, so that a repeated creation finds the first one's volume without any index. */
export function volumeId(name: string): string {
  return `vol-${sha256(`larder volume\0${name}`).slice(0, 32)}`;
}

/** Whether `id` can be a volume's; what can't needs no look in the repository, and never becomes part of a key. */
export function isVolumeId(id: string): boolean {
  return ID.test(id);
}

/** A volume's record as bytes: JSON in UTF-8, docs/formats.md has the fields. */
export function encodeVolume(volume: Volume): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...volume })}\n`, 'utf8');
}

/**
 * Reads a record; `key` names it in errors.
 * Errors: CorruptError that names the field at fault.
 */
export function decodeVolume(bytes: Uint8Array, key: string): Volume {
  const fields = parse(bytes, key);
  const { format, id, name, kind, dataset, ref, version, capacityBytes, created } = fields;
  const check = (field: string, holds: boolean) => {
    if (!holds)
      throw new CorruptError(`${key} is not a volume's record: ${field} is ${JSON.stringify(fields[field])}`, {
        facts: { key, field },
      });
  };
  check('format', format === FORMAT);
  check('id', typeof id === 'string' && key === volumeKey(id));
  check('name', typeof name === 'string' && name !== '');
  check('kind', kind === 'pinned' || kind === 'workspace');
  check('dataset', typeof dataset === 'string' && dataset !== '');
  check('ref', ref === undefined || (typeof ref === 'string' && ref !== ''));
  check('version', typeof version === 'string' && isDigest(version));
  check('capacityBytes', Number.isSafeInteger(capacityBytes) && (capacityBytes as number) >= 0);
  check('created', typeof created === 'string' && !Number.isNaN(Date.parse(created)));
  return { id, name, kind, dataset, ref, version, capacityBytes, created } as Volume;
}

/** Where a volume's record lies. */
export function volumeKey(id: string): string {
  return `volumes/${id}`;
}

function parse(bytes: Uint8Array, key: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CorruptError(`${key} is not a volume's record: it is not JSON`, { cause, facts: { key } });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new CorruptError(`${key} is not a volume's record: it is not a JSON object`, { facts: { key } });
}
