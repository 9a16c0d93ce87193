import { randomBytes } from 'node:crypto';
import { type Digest, isDigest, sha256 } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';
import { canonicalJson, parseCanonicalJson } from '../dataset/format/canonical-json.ts';

/*
 * A volume's record: canonical JSON (dataset/format/canonical-json.ts) of
 *
 *     {"capacityBytes":1073741824,"created":"2026-01-02T03:04:05.678Z","dataset":"birds","format":1,
 *      "id":"vol-<32 hex>-<8 hex>","kind":"workspace","name":"pvc-1","prefetch":"all","ref":"v3","version":version id}
 *
 * under the key volumes/vol-<32 hex>, where the 32 digits follow from the name, and the 8 are new with each creation. So a name
 * has one record at most, whoever creates it again finds the first one's volume without any index, and a volume that is created
 * by a deleted one's name is another volume: nothing that a node keeps of the old one, and no late call for it, reaches the new.
 * `ref` and `prefetch` may be missing. Fields that a reader does not know are none of its business.
 */

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
  /** What a node fetches when it stages the volume: `all`, or a glob over paths; absent for nothing. */
  readonly prefetch?: string;
  /** What that was when the volume was created. It stays when the branch moves on. */
  readonly version: Digest;
  /** Of a workspace the room for changes, of a pinned volume its size, in bytes. */
  readonly capacityBytes: number;
  /** ISO 8601, UTC. */
  readonly created: string;
}

const FORMAT = 1;

const PREFIX = 'volumes/';
const SLOT = /^vol-[0-9a-f]{32}$/;
const ID = /^(vol-[0-9a-f]{32})-[0-9a-f]{8}$/;

/** The longest record, in bytes. */
export const VOLUME_LIMIT = 16 * 1024;

/** Where the record of a name is, below `volumes/`: one volume at a time. */
export function slotOf(name: string): string {
  return `vol-${sha256(`larder volume\0${name}`).slice(0, 32)}`;
}

/** The slot of a volume's id; undefined for what can't be one, which needs no look in the repository. */
export function slotOfId(id: string): string | undefined {
  return ID.exec(id)?.[1];
}

export function isSlot(text: string): boolean {
  return SLOT.test(text);
}

/** An id for a volume that is created now. */
export function newVolumeId(name: string): string {
  return `${slotOf(name)}-${randomBytes(4).toString('hex')}`;
}

export function volumeKey(slot: string): string {
  return `${PREFIX}${slot}`;
}

export function encodeVolume(volume: Volume): Buffer {
  return Buffer.from(canonicalJson({ format: FORMAT, ...volume }), 'utf8');
}

/**
 * Reads a record; `key` names it in errors.
 * Errors: CorruptError that names the field at fault.
 */
export function decodeVolume(bytes: Buffer, key: string): Volume {
  const fields = parseCanonicalJson(key, bytes);
  const { format, id, name, kind, dataset, ref, prefetch, version, capacityBytes, created } = fields;
  const check = (field: string, holds: boolean) => {
    if (!holds)
      throw new CorruptError(`${key} is damaged: ${field} is ${JSON.stringify(fields[field])}`, {
        facts: { object: key, field },
      });
  };
  check('format', format === FORMAT);
  check('name', typeof name === 'string' && name !== '');
  check(
    'id',
    typeof id === 'string' && slotOfId(id) === slotOf(name as string) && key === volumeKey(slotOf(name as string)),
  );
  check('kind', kind === 'pinned' || kind === 'workspace');
  check('dataset', typeof dataset === 'string' && dataset !== '');
  check('ref', ref === undefined || (typeof ref === 'string' && ref !== ''));
  check('prefetch', prefetch === undefined || (typeof prefetch === 'string' && prefetch !== ''));
  check('version', typeof version === 'string' && isDigest(version));
  check('capacityBytes', Number.isSafeInteger(capacityBytes) && (capacityBytes as number) >= 0);
  check('created', typeof created === 'string' && !Number.isNaN(Date.parse(created)));
  return {
    id,
    name,
    kind,
    dataset,
    ref,
    ...(prefetch !== undefined && { prefetch }),
    version,
    capacityBytes,
    created,
  } as Volume;
}
