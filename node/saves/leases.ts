import { readObject } from '../../dataset/bucket/read-object.ts';
import { NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { NodeIdentity } from '../../dataset/volume-terms.ts';
import type { Ledger } from '../ledger.ts';
import type { Logger } from '../log.ts';
import type { Repositories } from '../repositories.ts';
import { instanceOf } from './instance.ts';

/** What a node tells of itself with each sign of life. */
export interface NodeFacts {
  /** Room for workspaces' changes, in bytes. */
  readonly freeBytes?: number;
}

export interface Heartbeat {
  /** Resolved when the first sign of life is written. */
  readonly beating: Promise<void>;
  stop(options: { readonly remove: boolean }): Promise<void>;
}

/** How a daemon has to do with volumes that have records; what it is made of is the controller's, which this side does not know. */
export interface Registry {
  /** What the cluster calls this node. */
  readonly node: string;
  ledgerOf(repository: Repository): Ledger | Promise<Ledger>;
  /** Gives signs of life from now on. */
  heartbeatOf(
    repository: Repository,
    node: NodeIdentity,
    options: { readonly facts: () => Promise<NodeFacts>; readonly onError: (error: unknown) => void },
  ): Heartbeat | Promise<Heartbeat>;
}

/** This node's part in the volumes of one repository. */
export interface Membership {
  readonly repository: Repository;
  readonly identity: NodeIdentity;
  readonly ledger: Ledger;
  /** When this resolves, the node has given a sign of life. Errors: UnavailableError where that takes long. */
  alive(): Promise<void>;
  /**
   * That the repository is the one that it was: a directory on a disk that is not mounted any more looks like one in which all was deleted.
   * Errors: UnavailableError.
   */
  confirm(): Promise<void>;
  /** `confirm`, where it costs nothing: before anything is written. */
  present(): Promise<void>;
  /** Whether it was the one that it was a minute ago, or is: for all volumes of the repository it is asked once. Why not is what `present` says. */
  wasPresent(): Promise<boolean>;
}

export interface Memberships {
  /** @param location the repository's. The first time, signs of life begin. */
  at(location: string): Promise<Membership>;
  /** @param holds whether this node still holds a volume of the repository: others are then to wait until they give it up */
  close(holds: (location: string) => boolean): Promise<void>;
}

export interface MembershipsParts {
  readonly registry: Registry;
  readonly repositories: Repositories;
  /** The cache's directory. */
  readonly cache: string;
  readonly facts: () => Promise<NodeFacts>;
  readonly log: Logger;
}

/** For so long a repository that was there is thought to be there, where nothing is going to be written; in milliseconds. */
const LATELY = 60_000;
/** How long a first sign of life may take, in milliseconds, before who waits for it is told to try again. */
const PATIENCE = 15_000;

export function createMemberships({ registry, repositories, cache, facts, log }: MembershipsParts): Memberships {
  const joined = new Map<string, Promise<Membership & { readonly heartbeat: Heartbeat }>>();
  let instance: Promise<string> | undefined;

  const join = async (location: string) => {
    const repository = await repositories.at(location);
    instance ??= instanceOf(cache);
    const identity = { node: registry.node, instance: await instance };
    const ledger = await registry.ledgerOf(repository);
    const onError = (error: unknown) => {
      const text = `no sign of life could be given in ${location}: ${(error as Error).message}; after a while, others may take what this node has`;
      log.warn(text, { repository: location, error, repeats: `heartbeat ${location}` });
    };
    let presentAt = performance.now();
    let asking: Promise<boolean> | undefined;
    const present = async () => {
      await confirmDirectory(repository);
      presentAt = performance.now();
    };
    const wasPresent = async () => {
      if (performance.now() - presentAt < LATELY) return true;
      asking ??= present()
        .then(
          () => true,
          () => false,
        )
        .finally(() => {
          asking = undefined;
        });
      return await asking;
    };
    const told = async () => {
      await present();
      return await facts();
    };
    const heartbeat = await registry.heartbeatOf(repository, identity, { facts: told, onError });
    return {
      repository,
      identity,
      ledger,
      heartbeat,
      present,
      wasPresent,
      alive: () => within(PATIENCE, heartbeat.beating, location),
      confirm: () => confirm(repository),
    };
  };

  return {
    at(location) {
      const known = joined.get(location);
      if (known !== undefined) return known;
      const joining = join(location);
      joined.set(location, joining);
      joining.catch(() => joined.delete(location));
      return joining;
    },
    async close(holds) {
      for (const [location, joining] of joined) {
        try {
          const { heartbeat } = await joining;
          await heartbeat.stop({ remove: !holds(location) });
        } catch (error) {
          // Nobody has to wait long for a node that is not there any more.
          log.debug(`signs of life in ${location} did not end in order: ${(error as Error).message}`, { error });
        }
      }
      joined.clear();
    },
  };
}

async function within(milliseconds: number, beating: Promise<void>, location: string): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(
      new UnavailableError(`no sign of life could be given in ${location} for ${milliseconds / 1000} s: try again`),
    );
  }, milliseconds);
  try {
    await Promise.race([beating, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What is written to where a disk was mounted would be in its way. */
async function confirmDirectory(repository: Repository): Promise<void> {
  if (repository.location.startsWith('/')) await confirm(repository);
}

async function confirm({ bucket, id, location }: Repository): Promise<void> {
  const facts = { repository: location };
  try {
    const { bytes } = await readObject(bucket, 'repository.json', 64 * 1024);
    if ((JSON.parse(bytes.toString('utf8')) as { id?: unknown }).id === id) return;
  } catch (error) {
    if (!(error instanceof NotFoundError) && !(error instanceof SyntaxError)) throw error;
    throw new UnavailableError(`there is no repository at ${location} any more: is its disk mounted?`, {
      cause: error,
      facts,
    });
  }
  throw new UnavailableError(`at ${location} is now another repository: put the one back that was there`, { facts });
}
