import { readdirSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { NotFoundError } from '../../dataset/errors.ts';
import type { Logger } from '../log.ts';
import type { Serial } from '../serial.ts';
import type { WorkspacePlace } from '../volumes/workspace.ts';
import { readWorkspaceRecord, removeWorkspace, type WorkspaceRecord } from '../workspace-record.ts';
import type { Memberships } from './leases.ts';
import type { Saver } from './saver.ts';

/** Images that are saved and released are looked through so often, in milliseconds. */
const SWEEP_EVERY = 60_000;
/** At least, for each image, in milliseconds: each is a question to its repository. */
const SWEEP_EACH = 1_000;
/** And kept for so long, in milliseconds. */
const KEPT_FOR = 86_400_000;

type Kept = readonly [key: string, record: WorkspaceRecord];

interface KeptParts {
  /** Where the cache has workspaces. */
  readonly workspaces: string;
  readonly workspaceOf: (key: string) => WorkspacePlace;
  readonly log: Logger;
}

/** Workspaces in the cache that have a record in a repository, by their keys. */
export function keptWorkspaces({ workspaces, workspaceOf, log }: KeptParts): Kept[] {
  return readdirSync(workspaces).flatMap((name): Kept[] => {
    if (!name.endsWith('.json')) return [];
    const key = decodeURIComponent(name.slice(0, -'.json'.length));
    try {
      const record = readWorkspaceRecord(workspaceOf(key).record);
      return record?.lease === undefined ? [] : [[key, record]];
    } catch (error) {
      log.error(`what is recorded of workspace ${key} cannot be read: ${(error as Error).message}`, { error });
      return [];
    }
  });
}

export interface SweepParts extends Omit<KeptParts, 'workspaces'> {
  readonly kept: () => Kept[];
  /** Whether it is staged, or something goes on with it. */
  readonly isUsed: (key: string) => boolean;
  readonly memberships: Pick<Memberships, 'at'>;
  readonly saver: Pick<Saver, 'forget'>;
  readonly lock: Serial;
}

/** Removes images that were saved and released, and that nobody will go on with: now and then, until it is aborted. Errors: the signal's reason. */
export async function sweepOften(parts: SweepParts, signal: AbortSignal): Promise<never> {
  const { kept, log } = parts;
  for (;;) {
    await sleep(Math.max(SWEEP_EVERY, kept().length * SWEEP_EACH), undefined, { signal, ref: false });
    try {
      await sweep(parts, signal);
    } catch (error) {
      signal.throwIfAborted();
      const text = `images of workspaces could not be looked through: ${(error as Error).message}`;
      log.warn(text, { error, repeats: 'sweep workspaces' });
    }
  }
}

async function sweep(parts: SweepParts, signal: AbortSignal): Promise<void> {
  const { kept, isUsed, saver, lock, workspaceOf, log } = parts;
  for (const [key] of kept()) {
    await lock(key, async () => {
      const record = readWorkspaceRecord(workspaceOf(key).record);
      if (record?.lease?.state !== 'released' || isUsed(key)) return;
      if (await isOfUse(parts, key, record)) return;
      await saver.forget(workspaceOf(key).saves);
      await removeWorkspace(workspaceOf(key));
      log.info(`the image of workspace ${key} is removed: all its changes are saved`, { volume: key });
    });
    signal.throwIfAborted();
  }
}

async function isOfUse(
  { memberships, workspaceOf }: SweepParts,
  key: string,
  { lease, version }: WorkspaceRecord,
): Promise<boolean> {
  if (Date.now() - statSync(workspaceOf(key).record).mtimeMs > KEPT_FOR) return false;
  const member = await memberships.at(lease!.location);
  try {
    const { generation, lower } = await member.ledger.read(lease!.volume);
    return generation === lease!.generation && lower === version;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    await member.confirm();
    return false;
  }
}
