import { type Digest, isDigest, sha256 } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';
import { canonicalJson, parseCanonicalJson } from '../dataset/format/canonical-json.ts';

/*
 * A volume's record: canonical JSON (dataset/format/canonical-json.ts) of
 *
 *     {"capacityBytes":1073741824,"created":"2026-01-02T03:04:05.678Z","dataset":"birds","format":1,"id":"vol-…","kind":"workspace",
 *      "name":"pvc-…","ref":"v3","version":version id}
 *
 * under the key volumes/<id>. `ref` may be missing. Fields that a reader does not know are none of its business.
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
  /** What that was when the volume was created. It stays when the branch moves on. */
  readonly version: Digest;
  /** Of a workspace the room for changes, of a pinned volume its size, in bytes. */
  readonly capacityBytes: number;
  /** ISO 8601, UTC. */
  readonly created: string;
}

const FORMAT = 1;

/** The longest record, in bytes. */
export const VOLUME_LIMIT = 16 * 1024;

const ID = /^vol-[0-9a-f]{32}$/;

/** The id follows from the name, so that a repeated creation finds the first one's volume without any index. */
export function volumeId(name: string): string {
  return `vol-${sha256(`larder volume\0${name}`).slice(0, 32)}`;
}

/** Whether `id` can be a volume's; what can't needs no look in the repository, and never becomes part of a key. */
export function isVolumeId(id: string): boolean {
  return ID.test(id);
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
  const { format, id, name, kind, dataset, ref, version, capacityBytes, created } = fields;
  const check = (field: string, holds: boolean) => {
    if (!holds)
      throw new CorruptError(`${key} is damaged: ${field} is ${JSON.stringify(fields[field])}`, {
        facts: { object: key, field },
      });
  };
  check('format', format === FORMAT);
  check('name', typeof name === 'string' && name !== '');
  check('id', typeof id === 'string' && key === volumeKey(id) && id === volumeId(name as string));
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
