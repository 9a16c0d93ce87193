/** `npm run soak -- [--minutes N] [--seed N] [--nodes N]` */
import { parseArgs } from 'node:util';
import { runSoak } from './soak.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string' },
    nodes: { type: 'string', default: '2' },
  },
});
const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
const report = await runSoak({
  seed,
  duration: Number(values.minutes) * 60_000,
  nodes: Number(values.nodes),
  log: (line) => console.error(line),
});
console.log(JSON.stringify({ seed, ...report }, undefined, 2));
process.exitCode = report.violations.length === 0 ? 0 : 1;
