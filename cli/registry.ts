import type { NodeObserver } from '../controller/nodes.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Registry } from '../node/saves/leases.ts';

export interface RegistrySettings {
  /** How often the node gives a sign of life, in milliseconds. */
  readonly heartbeat?: number;
  /** After how long without one others are given up, in milliseconds. */
  readonly giveUp?: number;
}

export interface NodeRegistry extends Registry {
  /** Who tells which nodes are alive; one a repository, since what it has seen counts. */
  observerOf(repository: Repository): Promise<NodeObserver>;
}

/** What a daemon needs of the controller's side to have to do with volumes' records; loaded when a volume has one. */
export function createRegistry(node: string, { heartbeat, giveUp }: RegistrySettings): NodeRegistry {
  const observers = new Map<string, Promise<NodeObserver>>();
  const observe = async (repository: Repository) => {
    const { createNodeObserver } = await import('../controller/nodes.ts');
    return createNodeObserver({ repository, ...(giveUp !== undefined && { window: giveUp }) });
  };
  const observerOf = (repository: Repository) => {
    const known = observers.get(repository.location) ?? observe(repository);
    observers.set(repository.location, known);
    return known;
  };
  return {
    node,
    observerOf,
    async ledgerOf(repository) {
      const [{ createLedger }, nodes] = await Promise.all([import('../controller/ledger.ts'), observerOf(repository)]);
      return createLedger({ repository, nodes });
    },
    async heartbeatOf(repository, identity, options) {
      const { startHeartbeat } = await import('../controller/heartbeat.ts');
      return startHeartbeat({
        repository,
        node: identity,
        ...options,
        ...(heartbeat !== undefined && { interval: heartbeat }),
      });
    },
  };
}
