import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { forksApart } from './test/support/forks-apart.ts';
import { ProcessesFirst } from './test/support/processes-first.ts';

// What the tests' processes and threads compile is kept: without it, most of a thread's start is the stripping of types.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules', '.cache', 'compiled');

export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    // By test/run.sh only: there it may.
    pool: process.env.LARDER_TEST_NAMESPACE === '1' ? forksApart : 'forks',
    // One more than the default leaves to itself: many tests wait, for a disk, a process that they started, or a deadline.
    maxWorkers: Math.max(2, availableParallelism()),
    sequence: { sequencer: ProcessesFirst },
    // docs/decisions/webassembly-in-threads.md
    execArgv: ['--wasm-wrapper-tiering-budget=2000000000'],
    // For a machine that is busy with other things: what is waited for here comes in moments.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 30_000 } },
    reporters: ['default', './test/support/count-reporter.ts'],
  },
});
