import { ID_LIMIT } from '../controller/settings.ts';
import type { VolumeKind } from '../controller/volume.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { AccessMode, VolumeCapability } from './messages/volume.ts';

/** The volume does not have the capability. */
export class CapabilityError extends InvalidError {}

/** How one access mode is served: by which kinds of volume, and whether on one target at a time. */
interface Access {
  readonly kinds: readonly VolumeKind[];
  readonly exclusive: boolean;
}

/** Modes that are served; the first kind is what a new volume becomes. */
const served: Partial<Record<AccessMode, Access>> = {
  MULTI_NODE_READER_ONLY: { kinds: ['pinned'], exclusive: false },
  SINGLE_NODE_READER_ONLY: { kinds: ['pinned', 'workspace'], exclusive: true },
  SINGLE_NODE_WRITER: { kinds: ['workspace'], exclusive: true },
  SINGLE_NODE_SINGLE_WRITER: { kinds: ['workspace'], exclusive: true },
  SINGLE_NODE_MULTI_WRITER: { kinds: ['workspace'], exclusive: false },
};

const refused: Partial<Record<AccessMode, string>> = {
  MULTI_NODE_MULTI_WRITER:
    'ReadWriteMany is not served: a workspace has one writing node. Give each node a workspace of its own, and merge',
  MULTI_NODE_SINGLE_WRITER: 'a workspace is on one node at a time: others read a version of it, as a pinned volume',
  UNKNOWN: 'the access mode is missing',
};

/** Mount options that are granted, or hold anyway. */
const granted: ReadonlySet<string> = new Set(['ro']);

/**
 * The kind of volume that serves all these capabilities at once.
 * Errors: InvalidError that says why none does, a CapabilityError among them.
 */
export function kindFor(capabilities: readonly VolumeCapability[]): VolumeKind {
  if (capabilities.length === 0) throw new InvalidError('volume_capabilities is missing');
  const accesses = capabilities.map(accessOf);
  // Reading alone is served by both kinds, so a capability that writes decides.
  const kind = accesses.map(({ kinds }) => kinds[0] as VolumeKind).find((first) => first === 'workspace') ?? 'pinned';
  if (accesses.every(({ kinds }) => kinds.includes(kind))) return kind;
  throw new CapabilityError(
    'a volume that is written on one node is not read on many: ask for ReadOnlyMany (a pinned volume) or for one of ' +
      'ReadWriteOnce and ReadWriteOncePod (a workspace)',
  );
}

/**
 * Whether this capability of a volume of `kind` means one target at a time.
 * Errors: CapabilityError where such a volume doesn't have the capability; InvalidError where it is none.
 */
export function isExclusive(capability: VolumeCapability | null, kind: VolumeKind): boolean {
  if (capability === null) throw new InvalidError('volume_capability is missing');
  const { kinds, exclusive } = accessOf(capability);
  if (kinds.includes(kind)) return exclusive;
  throw new CapabilityError(
    `a ${kind} volume has no access mode ${modeOf(capability)}: ` +
      `${kind === 'pinned' ? 'it is read-only (ReadOnlyMany)' : 'it is on one node (ReadWriteOnce, ReadWriteOncePod)'}`,
  );
}

/** Whether the mount options ask for read-only. */
export function asksReadOnly(capability: VolumeCapability | null): boolean {
  return capability?.mount?.mountFlags.includes('ro') ?? false;
}

/**
 * Checks all of a capability but its access mode: an ephemeral volume is what its attributes say, whatever the mode.
 * Errors: as of `isExclusive`.
 */
export function checkMounted(capability: VolumeCapability | null): void {
  if (capability === null) throw new InvalidError('volume_capability is missing');
  if (capability.accessType === 'block')
    throw new CapabilityError('block volumes are not served, a dataset is files: set volumeMode to Filesystem');
  if (capability.accessType === undefined)
    throw new InvalidError('the access type of a volume capability is missing: give mount');
  checkMount(capability);
}

/** The group that files are to belong to; undefined where the capability says nothing. */
export function mountGroupOf(capability: VolumeCapability | null): number | undefined {
  const text = capability?.mount?.volumeMountGroup ?? '';
  if (text === '') return undefined;
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (id <= ID_LIMIT) return id;
  throw new InvalidError(
    `volume_mount_group is ${JSON.stringify(text)}: give the number of a group, from 0 to ${ID_LIMIT}`,
  );
}

/** Checks one capability by itself. */
function accessOf(capability: VolumeCapability): Access {
  checkMounted(capability);
  const mode = modeOf(capability);
  const access = served[mode as AccessMode];
  if (access !== undefined) return access;
  const reason = refused[mode as AccessMode] ?? `access mode ${mode} is unknown`;
  throw new CapabilityError(reason, { facts: { mode: String(mode) } });
}

function checkMount(capability: VolumeCapability): void {
  const { mount } = capability;
  // Mount options may be confidential, so no message repeats them.
  if (mount?.mountFlags.some((flag) => !granted.has(flag)))
    throw new InvalidError(`of mount options only ${[...granted].join(', ')} is served: leave the others out`);
  if (mount?.fsType)
    throw new InvalidError(
      `the file system cannot be chosen (${JSON.stringify(mount.fsType)}): leave csi.storage.k8s.io/fstype out`,
    );
  mountGroupOf(capability);
}

function modeOf({ accessMode }: VolumeCapability): AccessMode | number {
  return accessMode?.mode ?? 'UNKNOWN';
}
