import { join } from 'node:path';
import { ForksPoolWorker, type PoolOptions } from 'vitest/node';

const inNamespace = join(import.meta.dirname, 'mount-namespace.sh');

/**
 * A process for each file of tests, each in a mount namespace of its own: some of what is tested acts on every mount of ours that it sees, and
 * files run beside each other.
 */
class ForkApart extends ForksPoolWorker {
  constructor(options: PoolOptions) {
    super({ ...options, env: { ...options.env, LARDER_TEST_NODE: process.execPath } });
  }

  override async start(): Promise<void> {
    const node = process.execPath;
    // It is read where the process is forked, before anything is waited for.
    process.execPath = inNamespace;
    const started = super.start();
    process.execPath = node;
    await started;
  }
}

export const forksApart = {
  name: 'forks-apart',
  createPoolWorker: (options: PoolOptions) => new ForkApart(options),
};
