import { randomBytes } from 'node:crypto';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';
import { canonicalJson, type Json, parseCanonicalJson } from '../dataset/format/canonical-json.ts';
import type { Holder, NodeIdentity, VolumeSettings } from '../dataset/volume-terms.ts';
import {
  type Fault,
  type Fields,
  faultIn,
  isCount,
  isFlag,
  isMoment,
  isText,
  isVersion,
  listOf,
  oneOf,
  optional,
  type Rules,
} from './record-rules.ts';

/*
 * A volume's record: canonical JSON (dataset/format/canonical-json.ts) of
 *
 *     {"aside":["aside/pvc-1/node-7-1"],"asked":{"capacityBytes":1073741824,"ref":"v3","settings":{"retention":"drop"}},
 *      "base":version id,"capacityBytes":1073741824,"created":"2026-01-02T03:04:05.678Z","dataset":"birds","format":1,"generation":2,
 *      "holder":{"instance":uuid,"node":"node-8","since":"2026-01-02T04:00:00.000Z"},"id":"vol-<32 hex>-<8 hex>","kind":"workspace",
 *      "lower":version id,"name":"pvc-1","ref":"v3","savedAt":"2026-01-02T04:10:00.000Z","settings":{"prefetch":"all","retention":"drop"},
 *      "version":version id}
 *
 * under the key volumes/vol-<32 hex>, where the 32 digits follow from the name, and the 8 are new with each creation. So a name
 * has one record at most, whoever creates it again finds the first one's volume without any index, and a volume that is created
 * by a deleted one's name is another volume: nothing that a node keeps of the old one, and no late call for it, reaches the new.
 *
 * A record changes by compare-and-swap only (`changeVolume` in volume-store.ts). Members that a reader does not know, at any depth, are
 * none of its business: they stay in the object that it is given, and go back with it.
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
  /** What `version` was looked up by when it was last looked up: a branch, a tag or a version; absent for the head of `main`. */
  readonly ref?: string;
  /** What the volume was created from. */
  readonly base: Digest;
  /** What it has now: of a workspace, what was saved last; of a pinned volume, what is mounted next. */
  readonly version: Digest;
  /** Of a workspace, the version below the image of whoever holds it, or held it last. */
  readonly lower?: Digest;
  /** Versions that were there before, and that a pod may still have mounted; the newest last. */
  readonly kept?: readonly Digest[];
  /** Of a workspace the room for changes; of a pinned volume its size, as it was created or expanded. In bytes. */
  readonly capacityBytes: number;
  /** What was asked for when it was created, which is what a repeated creation is compared with. */
  readonly asked: Asked;
  readonly settings: VolumeSettings;
  /** What it was restored or cloned from. */
  readonly source?: VolumeSource;
  /** How often it was taken: only who has this one saves. */
  readonly generation: number;
  /** The node that may save to it; absent while no node does. */
  readonly holder?: Holder;
  /** Who held it before, and released it with all changes saved: it may go on with its image. */
  readonly last?: NodeIdentity;
  /** When `version` was last saved by a node: ISO 8601, UTC. */
  readonly savedAt?: string;
  /** Branches with changes of nodes that were no longer the holder; the newest last. */
  readonly aside?: readonly string[];
  /** ISO 8601, UTC. */
  readonly created: string;
}

export interface Asked {
  readonly ref?: string;
  readonly capacityBytes: number;
  readonly settings: VolumeSettings;
}

export interface VolumeSource {
  readonly kind: 'snapshot' | 'volume';
  readonly id: string;
}

const FORMAT = 1;

/** Entries of `kept` and `aside` in a record: the oldest make room. */
export const KEPT_LIMIT = 32;

const PREFIX = 'volumes/';
const SLOT = /^vol-[0-9a-f]{32}$/;
const ID = /^(vol-[0-9a-f]{32})-[0-9a-f]{8}$/;

/** The longest record, in bytes. */
export const VOLUME_LIMIT = 32 * 1024;

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

/** Versions that the record keeps, each once (dataset/pins.ts reads the same members). */
export function pinnedBy({ version, base, lower, kept = [] }: Volume): Digest[] {
  return [...new Set([version, base, ...(lower === undefined ? [] : [lower]), ...kept])];
}

/** Errors: InvalidError that names the field that cannot be recorded. */
export function encodeVolume(volume: Volume): Buffer {
  const fields = { format: FORMAT, ...volume } as unknown as Fields;
  const fault = faultOf(fields, volumeKey(slotOf(volume.name)));
  if (fault !== undefined)
    throw new InvalidError(`volume ${JSON.stringify(volume.id)} cannot be recorded: ${fault.field} is ${fault.value}`, {
      facts: { volume: volume.id, field: fault.field },
    });
  const bytes = Buffer.from(canonicalJson(fields as Json), 'utf8');
  if (bytes.length <= VOLUME_LIMIT) return bytes;
  throw new InvalidError(
    `volume ${JSON.stringify(volume.id)} cannot be recorded: its record has ${bytes.length} bytes, and may have ${VOLUME_LIMIT}`,
    { facts: { volume: volume.id } },
  );
}

/**
 * Reads a record; `key` names it in errors.
 * Errors: CorruptError that names the field at fault.
 */
export function decodeVolume(bytes: Buffer, key: string): Volume {
  const fields = parseCanonicalJson(key, bytes);
  const fault = faultOf(fields, key);
  if (fault !== undefined)
    throw new CorruptError(`${key} is damaged: ${fault.field} is ${fault.value}`, {
      facts: { object: key, field: fault.field },
    });
  const { format: _, ...volume } = fields;
  return volume as unknown as Volume;
}

const identityRules: Rules = { node: isText, instance: isText };
const settingsRules: Rules = {
  prefetch: optional(isText),
  uid: optional(isCount),
  gid: optional(isCount),
  mode: optional((value) => isCount(value) && (value as number) <= 0o777),
  deadline: optional(isCount),
  autosave: optional(isCount),
  bandwidth: optional(isCount),
  retention: oneOf('drop', 'keep'),
  follow: optional(isFlag),
};
const rules: Rules = {
  kind: oneOf('pinned', 'workspace'),
  dataset: isText,
  ref: optional(isText),
  base: isVersion,
  version: isVersion,
  lower: optional(isVersion),
  kept: optional(listOf(isVersion, KEPT_LIMIT)),
  capacityBytes: isCount,
  asked: { ref: optional(isText), capacityBytes: isCount, settings: settingsRules },
  settings: settingsRules,
  source: optional({ kind: oneOf('snapshot', 'volume'), id: isText }),
  generation: isCount,
  holder: optional({ ...identityRules, since: isMoment, unsaved: optional(isFlag) }),
  last: optional(identityRules),
  savedAt: optional(isMoment),
  aside: optional(listOf(isText, KEPT_LIMIT)),
  created: isMoment,
};

function faultOf(fields: Fields, key: string): Fault | undefined {
  const { format, name, id } = fields;
  const fault = (field: string): Fault => ({ field, value: String(JSON.stringify(fields[field])) });
  if (format !== FORMAT) return fault('format');
  if (typeof name !== 'string' || name === '') return fault('name');
  const slot = slotOf(name);
  if (typeof id !== 'string' || slotOfId(id) !== slot || key !== volumeKey(slot)) return fault('id');
  return faultIn(fields, rules);
}
