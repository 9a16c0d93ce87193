import { type Digest, sha256 } from '../dataset/digest.ts';
import type { Holder, NodeIdentity, VolumeSettings } from '../dataset/volume-terms.ts';
import { recordKind } from './record-kind.ts';
import { isCount, isFlag, isMoment, isText, isVersion, listOf, oneOf, optional, type Rules } from './record-rules.ts';

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
 * A record changes by compare-and-swap only (`RecordStore.change`). Members that a reader does not know, at any depth, are
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

/** Entries of `kept` and `aside` in a record: the oldest make room. */
export const KEPT_LIMIT = 32;

/** The longest record, in bytes. */
const VOLUME_LIMIT = 32 * 1024;

/** Where the record of a name is, below `volumes/`: one volume at a time. */
export function volumeSlot(name: string): string {
  return `vol-${sha256(`larder volume\0${name}`).slice(0, 32)}`;
}

/** Versions that the record keeps, each once (dataset/pins.ts reads the same members). */
export function pinnedBy({ version, base, lower, kept = [] }: Volume): Digest[] {
  return [...new Set([version, base, ...(lower === undefined ? [] : [lower]), ...kept])];
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

export const volumeRecords = recordKind<Volume>({
  word: 'volume',
  fact: 'volume',
  prefix: 'volumes/',
  limit: VOLUME_LIMIT,
  letters: 'vol',
  slotOf: ({ name }) => volumeSlot(name),
  pinned: pinnedBy,
  /** What of it has nothing to do with versions stays as it is now. */
  putBack(now, before, next) {
    const isOurs = now.version === next.version && now.lower === next.lower && now.generation === next.generation;
    const { ref, base, version, lower, kept, savedAt } = before;
    return isOurs ? { ...now, ref, base, version, lower, kept, savedAt } : undefined;
  },
  rules: {
    name: isText,
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
  },
});
