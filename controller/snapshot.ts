import { type Digest, sha256 } from '../dataset/digest.ts';
import { type RecordKind, recordKind } from './record-kind.ts';
import {
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
  type Rule,
  type Rules,
} from './record-rules.ts';
import type { VolumeKind } from './volume.ts';

/*
 * A snapshot's record: canonical JSON of
 *
 *     {"about":{"message":"labels cleaned","tag":"v4"},"capacityBytes":1073741824,"created":"2026-01-02T03:04:05.678Z","cut":uuid,"dataset":"birds",
 *      "format":1,"id":"snap-<32 hex>-<8 hex>","kind":"workspace","lower":version id,"name":"snapshot-1","node":"node-7",
 *      "pauseMilliseconds":1.5,"ready":false,"source":"vol-<32 hex>-<8 hex>","version":version id,"volumeName":"pvc-1"}
 *
 * under the key snapshots/snap-<32 hex>. The 32 digits follow from the name (of a group's member, from the group and the volume), the 8 are new
 * with each creation, as of volumes.
 *
 * `version` is what the record keeps: the snapshot's content once it is `ready`; before, what its volume had last, and `lower`, what is below
 * the changes that a node has a clone of. `created` is there once it is cut: without it, the snapshot is not one yet. `cut` tells which of a node's
 * clones counts.
 *
 * A group's record: canonical JSON of
 *
 *     {"about":{},"created":"2026-01-02T03:04:05.678Z","cuts":[{"cut":uuid,"instance":uuid,"lower":version id,"node":"node-7",
 *      "pauseMilliseconds":12.5},{"version":version id}],"format":1,"id":"group-<32 hex>-<8 hex>","name":"group-1","pauseMilliseconds":12.5,
 *      "snapshots":["snap-…","snap-…"],"sources":["vol-…","vol-…"]}
 *
 * under the key groups/group-<32 hex>; `created` and `cuts` come together, once all of it is cut: from then on its members' records follow
 * from it, whoever writes them.
 */

/** What a volume was at one moment. */
export interface Snapshot {
  readonly id: string;
  /** What it was created under; whoever creates it again by this name gets the same. */
  readonly name: string;
  /** The volume's id. */
  readonly source: string;
  /** What the volume was created under. */
  readonly volumeName: string;
  readonly kind: VolumeKind;
  readonly dataset: string;
  /** Its content, once that is in the repository. */
  readonly version?: Digest;
  /** The room that its volume had, in bytes. */
  readonly capacityBytes: number;
  /** The moment that it shows: ISO 8601, UTC. */
  readonly created: string;
  /** Whether its content is in the repository. Until then, one node has it. */
  readonly ready: boolean;
  /** What keeps it from being ready, or what could not be done with it as was asked. */
  readonly failure?: string;
  /** The id of the group that it is a member of. */
  readonly group?: string;
  /** How long writers waited for it, in milliseconds; absent where nobody had to. */
  readonly pauseMilliseconds?: number;
  /** The node that it was cut on. */
  readonly node?: string;
  readonly about: SnapshotAbout;
}

/** Snapshots of several volumes, all of one moment. */
export interface GroupSnapshot {
  readonly id: string;
  readonly name: string;
  /** In the order of the volumes' ids. */
  readonly snapshots: readonly Snapshot[];
  /** ISO 8601, UTC. */
  readonly created: string;
  /** Whether all are. */
  readonly ready: boolean;
  /** The longest that writers waited anywhere, in milliseconds; absent where nobody had to. */
  readonly pauseMilliseconds?: number;
}

/** What its version says, and which names it gets. */
export interface SnapshotAbout {
  readonly message?: string;
  readonly author?: string;
  readonly meta?: Readonly<Record<string, string>>;
  readonly tag?: string;
  readonly branch?: string;
}

/** As it is recorded. */
export interface SnapshotRecord extends Omit<Snapshot, 'version' | 'created'> {
  readonly version: Digest;
  readonly lower?: Digest;
  readonly created?: string;
  readonly cut?: string;
  /** Of the installation on the node that it was cut on. */
  readonly instance?: string;
}

export interface GroupRecord {
  readonly id: string;
  readonly name: string;
  /** Volumes' ids, sorted. */
  readonly sources: readonly string[];
  /** Their snapshots' ids, in the same order. */
  readonly snapshots: readonly string[];
  readonly created?: string;
  /** In the same order. */
  readonly cuts?: readonly GroupCut[];
  readonly pauseMilliseconds?: number;
  readonly about: SnapshotAbout;
}

/** What a member is: a clone that a node has, or a version that its volume's record had. */
export type GroupCut =
  | {
      readonly cut: string;
      readonly node: string;
      readonly instance: string;
      readonly lower: Digest;
      readonly pauseMilliseconds: number;
    }
  | { readonly version: Digest };

const SNAPSHOT_LIMIT = 32 * 1024;
const GROUP_RECORD_LIMIT = 128 * 1024;
/** Volumes in one group. */
export const GROUP_LIMIT = 100;

export function snapshotSlot(name: string): string {
  return `snap-${sha256(`larder snapshot\0${name}`).slice(0, 32)}`;
}

/** Where the record of a group's member is, whatever its name. */
export function memberSlot(group: string, source: string): string {
  return `snap-${sha256(`larder group member\0${group}\0${source}`).slice(0, 32)}`;
}

export function groupSlot(name: string): string {
  return `group-${sha256(`larder group\0${name}`).slice(0, 32)}`;
}

const isAmount: Rule = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
const isTexts: Rule = (value) =>
  typeof value === 'object' && value !== null && Object.values(value).every((each) => typeof each === 'string');

const cutRules: Rules = {
  cut: isText,
  node: isText,
  instance: isText,
  lower: isVersion,
  pauseMilliseconds: isAmount,
};
const isGroupCut: Rule = (value) =>
  typeof value === 'object' &&
  value !== null &&
  [cutRules, { version: isVersion }].some((rules) => faultIn(value as Fields, rules) === undefined);

const aboutRules: Rules = {
  message: optional((value) => typeof value === 'string'),
  author: optional(isText),
  meta: optional(isTexts),
  tag: optional(isText),
  branch: optional(isText),
};

export const snapshotRecords: RecordKind<SnapshotRecord> = recordKind<SnapshotRecord>({
  word: 'snapshot',
  fact: 'snapshot',
  prefix: 'snapshots/',
  limit: SNAPSHOT_LIMIT,
  letters: 'snap',
  slotOf: ({ name, group, source }) => (group === undefined ? snapshotSlot(name) : memberSlot(group, source)),
  pinned: ({ version, lower }) => (lower === undefined || lower === version ? [version] : [version, lower]),
  rules: {
    name: isText,
    source: isText,
    volumeName: isText,
    kind: oneOf('pinned', 'workspace'),
    dataset: isText,
    version: isVersion,
    lower: optional(isVersion),
    capacityBytes: isCount,
    created: optional(isMoment),
    ready: isFlag,
    failure: optional(isText),
    group: optional(isText),
    pauseMilliseconds: optional(isAmount),
    node: optional(isText),
    instance: optional(isText),
    cut: optional(isText),
    about: aboutRules,
  },
});

export const groupRecords: RecordKind<GroupRecord> = recordKind<GroupRecord>({
  word: 'group snapshot',
  fact: 'group',
  prefix: 'groups/',
  limit: GROUP_RECORD_LIMIT,
  letters: 'group',
  slotOf: ({ name }) => groupSlot(name),
  pinned: () => [],
  rules: {
    name: isText,
    sources: listOf(isText, GROUP_LIMIT),
    snapshots: listOf(isText, GROUP_LIMIT),
    created: optional(isMoment),
    cuts: optional(listOf(isGroupCut, GROUP_LIMIT)),
    pauseMilliseconds: optional(isAmount),
    about: aboutRules,
  },
});

/** What a cut record tells; undefined before it is cut. */
export function snapshotOf(record: SnapshotRecord): Snapshot | undefined {
  const { version, lower: _l, created, cut: _c, instance: _i, ...rest } = record;
  if (created === undefined) return undefined;
  return { ...rest, created, ...(record.ready && { version }) };
}
