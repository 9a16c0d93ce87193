import type { SweepMark } from '../dataset/collect/guard.ts';
import type { Digest } from '../dataset/digest.ts';
import { InvalidError, NotFoundError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { FencedError, HeldError, type NodeIdentity } from '../dataset/volume-terms.ts';
import { asideBranch, makeBranch } from './branches.ts';
import type { NodeObserver } from './nodes.ts';
import { createSettingsReader } from './settings-reader.ts';
import { createSnapshotLedger } from './snapshot-ledger.ts';
import { KEPT_LIMIT, type Volume } from './volume.ts';
import { changeVolume, readVolume } from './volume-store.ts';

export interface LedgerOptions {
  readonly repository: Repository;
  readonly nodes: Pick<NodeObserver, 'look'>;
  /** The time of day, for records; no decision depends on it. */
  readonly now?: () => Date;
  /** Waits between two tries of a change, for tests. */
  readonly wait?: (milliseconds: number) => Promise<unknown>;
}

/**
 * The ledger that a node's daemon is given (node/ledger.ts says what each call does): leases of workspaces with a generation, in the
 * volumes' records.
 *
 * What keeps two nodes apart is the generation alone: it is raised by `take`, by compare-and-swap, and every save compares it. Heartbeats
 * decide only whether a take is worth it: a holder that is given up wrongly loses nothing, its changes are set aside.
 */
export function createLedger(options: LedgerOptions) {
  const { repository, nodes, now = () => new Date(), wait } = options;
  return {
    snapshots: createSnapshotLedger(repository),

    settings: createSettingsReader(repository),

    read: (volume: string): Promise<Volume> => readVolume(repository, volume),

    async take(id: string, node: NodeIdentity, { image }: { readonly image?: Digest } = {}) {
      let continues = false;
      const volume = await changeVolume(
        repository,
        id,
        async (before) => {
          refusePinned(before);
          const { holder, last, lower, version } = before;
          const isMine = isSame(holder ?? last, node);
          continues = isMine && image !== undefined && image === lower;
          const { last: _, ...rest } = before;
          const mine = { node: node.node, instance: node.instance, since: now().toISOString() };
          if (continues && holder === undefined) return { ...rest, holder: mine };
          // Also where it was cut short between this and the first record of its image.
          if (isMine && holder !== undefined && (continues || (image === undefined && lower === version))) {
            const { unsaved: released, ...held } = holder;
            return released ? { ...rest, holder: held } : undefined;
          }
          if (holder !== undefined && !isMine) {
            const freshFor = await nodes.look(holder);
            if (freshFor > 0) throw new HeldError(before, holder, freshFor);
          }
          // There is an image on it still, of which changes may have to be set aside.
          const isUsed = lower !== undefined && (holder !== undefined || image === lower);
          return {
            ...rest,
            generation: before.generation + 1,
            holder: mine,
            lower: version,
            ...(isUsed && lower !== version && { kept: added(before.kept, lower) }),
          };
        },
        { wait },
      );
      return { volume, generation: volume.generation, continues };
    },

    async saved(id: string, generation: number, version: Digest, { since }: { readonly since?: SweepMark } = {}) {
      const change = (before: Volume) => {
        refusePinned(before);
        refuseFenced(before, generation);
        return before.version === version ? undefined : { ...before, version, savedAt: now().toISOString() };
      };
      return await changeVolume(repository, id, change, { since, wait });
    },

    async release(id: string, generation: number, state: 'saved' | 'unsaved'): Promise<void> {
      const change = (before: Volume) => {
        refuseFenced(before, generation);
        const { holder, ...rest } = before;
        if (holder === undefined) return undefined;
        if (state === 'saved') return { ...rest, last: { node: holder.node, instance: holder.instance } };
        return holder.unsaved ? undefined : { ...rest, holder: { ...holder, unsaved: true } };
      };
      await changeVolume(repository, id, change, { wait });
    },

    async setAside(changes: {
      readonly volume: Pick<Volume, 'id' | 'name' | 'dataset'>;
      readonly node: string;
      readonly generation: number;
      readonly version: Digest;
    }): Promise<string> {
      const { volume, node, generation, version } = changes;
      const name = asideBranch(volume.name, node, generation);
      const branch = await makeBranch(repository, volume.dataset, name, version);
      const change = (before: Volume) =>
        before.aside?.includes(branch) ? undefined : { ...before, aside: added(before.aside, branch) };
      try {
        await changeVolume(repository, volume.id, change, { wait });
      } catch (error) {
        // The volume was deleted; what its node had not saved is kept all the same.
        if (!(error instanceof NotFoundError)) throw error;
      }
      return branch;
    },
  };
}

/** What a list in a record is with one more: each once, the newest last, the oldest left out. */
export function added<T>(list: readonly T[] | undefined, value: T): readonly T[] {
  return [...(list ?? []).filter((each) => each !== value), value].slice(-KEPT_LIMIT);
}

function isSame(one: NodeIdentity | undefined, other: NodeIdentity): boolean {
  return one !== undefined && one.node === other.node && one.instance === other.instance;
}

function refuseFenced(volume: Volume, generation: number): void {
  if (volume.generation !== generation) throw new FencedError(volume, generation);
}

function refusePinned({ id, kind }: Volume): void {
  if (kind === 'workspace') return;
  throw new InvalidError(`volume ${JSON.stringify(id)} is pinned: nobody writes to it, so nobody holds it`, {
    facts: { volume: id },
  });
}
