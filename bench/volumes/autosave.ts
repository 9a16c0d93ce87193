import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytes, shuffledFiles, writeImages } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import { median } from '../measure.ts';
import { megabytes, type Row } from '../report.ts';
import type { Bench } from './context.ts';
import { packedBytes, untilDurable } from './durable.ts';
import { startPlugin, volumeOf } from './plugin.ts';
import { type Load, writeLoad } from './writers.ts';

/** How many files of a workspace change before a save. */
const CHANGED = 100;
const FILE_BYTES = 1000;

/** What saves cost those who write, and what a save costs that has little to do in a large workspace. */
export async function benchAutosave(bench: Bench): Promise<Row[]> {
  using disk = freshXfs(bench.scratch, 'disk', 40);
  await using plugin = await startPlugin(disk.directory, { files: 100 });
  const workspace = async (name: string, autosave: string) => {
    const volume = volumeOf(plugin, name, 'workspace', { bytes: 8 * 2 ** 30, parameters: { autosave } });
    await volume.create();
    await volume.stage();
    await volume.publish();
    return volume;
  };
  const volumes = {
    off: await workspace('off', 'off'),
    default: await workspace('default', 'default'),
    often: await workspace('often', '1s'),
  };
  const rows: Row[] = [];
  const rounds: Record<keyof typeof volumes, Load & { readonly processor: number }>[] = [];
  for (let round = 0; round < bench.sizes.rounds; round += 1) {
    const loadOn = async (name: keyof typeof volumes) => {
      const before = plugin.processorSeconds();
      const load = await writeLoad(bench, volumes[name].targetPath, bench.sizes.writeSeconds);
      return { ...load, processor: plugin.processorSeconds() - before };
    };
    const one = { off: await loadOn('off'), default: await loadOn('default'), often: await loadOn('often') };
    bench.record({ part: 'autosave', ...one });
    rounds.push(one);
  }
  const of = (value: (one: (typeof rounds)[number]) => number) => median(rounds.map(value));
  const speed = ({ operations, seconds }: Load) => operations / seconds;
  const count = (value: number) => Math.round(value).toLocaleString('en-US');
  for (const { name, every } of [
    { name: 'default', every: 'as usual' },
    { name: 'often', every: 'of 1 s' },
  ] as const) {
    rows.push({
      what: `a writer beside autosave ${every}`,
      larder: `${count(of((one) => speed(one[name])))} operations/s`,
      rival: count(of(({ off }) => speed(off))),
      rivalName: 'autosave off',
      value: of((one) => speed(one[name]) / speed(one.off)),
    });
    rows.push({
      what: 'the longest that it waited for one operation',
      larder: `${of(({ off }) => off.longest * 1000).toFixed(1)} ms with autosave off`,
      value: of((one) => one[name].longest * 1000),
      unit: 'ms',
    });
    rows.push({
      what: "the processor time of the node's processes meanwhile",
      larder: `${of(({ off }) => (off.processor / off.seconds) * 100).toFixed(1)} % with autosave off`,
      value: of((one) => (one[name].processor / one[name].seconds) * 100),
      unit: '% of a core',
    });
  }
  for (const volume of Object.values(volumes)) {
    await volume.unpublish();
    await volume.unstage();
  }
  const { files } = bench.sizes;
  const large = await workspace('large', '1s');
  const since = packedBytes(plugin);
  const folder = join(large.targetPath, 'files');
  mkdirSync(folder);
  writeImages(folder, files, FILE_BYTES);
  const all = await untilDurable(plugin, large, since);
  bench.record({ part: 'save, all', files, ...all });
  const next = randomBytes(9);
  const names = shuffledFiles(folder);
  const saves = [];
  for (let round = 0; round < bench.sizes.rounds; round += 1) {
    // What the pace of saves asks for after a long one is over.
    await sleep(Math.min(all.seconds * 5, 60) * 1000);
    const before = packedBytes(plugin);
    for (const name of names.slice(round * CHANGED, (round + 1) * CHANGED)) writeFileSync(name, next(FILE_BYTES));
    saves.push(await untilDurable(plugin, large, before));
    bench.record({ part: 'save, changes', files, changed: CHANGED, ...saves.at(-1) });
  }
  await large.unpublish();
  await large.unstage();
  const what = `${CHANGED} of ${files.toLocaleString('en-US')} files changed`;
  rows.push(
    {
      what: `${what}: until they are in the repository, with the second that autosave waits`,
      larder: `${megabytes(median(saves.map(({ bytesUploaded }) => bytesUploaded)))} uploaded`,
      value: median(saves.map(({ seconds }) => seconds)),
      unit: 's',
    },
    {
      what: 'the processor time of that',
      larder: `${all.processor.toFixed(1)} s for all the files, at first`,
      value: median(saves.map(({ processor }) => processor)),
      unit: 's',
    },
  );
  return rows;
}
