import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    pool: 'forks',
    // docs/decisions/webassembly-in-threads.md
    execArgv: ['--wasm-wrapper-tiering-budget=2000000000'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['default', './test/support/count-reporter.ts'],
  },
});
