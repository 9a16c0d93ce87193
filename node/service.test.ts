import { expect, it } from 'vitest';
import { createLogger } from './log.ts';
import { createSerial } from './serial.ts';
import { nodeServiceOf, type Volumes } from './service.ts';

it('a volume that is unstaged while programs hold its mount is told of in the log, once', async () => {
  const lines: string[] = [];
  using log = createLogger({ component: 'node', format: 'json', write: (text) => lines.push(text) });
  // The second time nothing is mounted any more.
  const results = [
    { unmounted: 1, detached: 1, holders: [{ pid: 4711, command: 'python', how: 'cwd', path: '/stage/a' }] },
    { unmounted: 0, detached: 0, holders: [] },
  ];
  const volumes = { lock: createSerial(), unstage: async () => results.shift() } as unknown as Volumes;
  const service = nodeServiceOf(volumes, '/repository', log);
  await service.unstage('vol-1', '/stage');
  await service.unstage('vol-1', '/stage');
  const told = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(told).toMatchObject([{ level: 'warn', volume: 'vol-1', message: expect.stringMatching(/\/stage.*4711/) }]);
});
