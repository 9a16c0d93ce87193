import type { Command } from 'commander';
import { requestsOf, totalOf } from '../../dataset/bucket/metrics.ts';
import { listDatasets } from '../../dataset/refs.ts';
import { formatBytes, formatCount, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import type { Start } from '../session.ts';
import { formatTable } from '../table.ts';

/** `larder repository …` */
export function addRepository(program: Command, start: Start): void {
  const repository = program
    .command('repository')
    .summary('make or show a repository')
    .description('Makes or shows a repository: where datasets are kept.');
  addInit(repository, start);
  addShow(repository, start);
  withExamples(repository, [
    ['repository init', 'Make the default repository'],
    ['repository show', 'What it holds and what it costs'],
  ]);
}

function addInit(parent: Command, start: Start): void {
  const command = parent
    .command('init')
    .description(
      'Makes a repository, and proves that its store can change an object only if nobody else did. A repository that is there already stays as it is.',
    )
    .argument('[location]', 'where; the default is what --repository or LARDER_REPOSITORY says')
    .action(async (location: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const { initRepository } = await import('../../dataset/repository.ts');
      const repository = await initRepository(location ?? session.environment.repository);
      await repository.bucket.close();
      session.output.document({ id: repository.id, location: repository.location });
      session.output.line(`repository ${repository.id} at ${repository.location}`);
    });
  withExamples(command, [
    ['repository init', "Make a repository in the user's data folder"],
    ['repository init /srv/datasets', 'Make one elsewhere'],
    ["repository init 's3://datasets/team?region=eu-central-1'", 'Make one in a bucket that is there'],
  ]);
}

/** What a repository's objects are, by the first part of their keys. */
const AREAS = [
  'packs',
  'segments',
  'locations',
  'versions',
  'datasets',
  'volumes',
  'snapshots',
  'groups',
  'nodes',
  'sources',
  'gc',
] as const;

function addShow(parent: Command, start: Start): void {
  const command = parent
    .command('show')
    .description('Shows what the repository holds and what that costs.')
    .action(async (_options: object, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const repository = await session.openRepository();
      const datasets = await listDatasets(repository);
      const areas: Record<string, { objects: number; bytes: number }> = {};
      for (const area of AREAS) {
        const sum = { objects: 0, bytes: 0 };
        for await (const { size } of repository.bucket.list(`${area}/`, { signal })) {
          sum.objects += 1;
          sum.bytes += size;
        }
        areas[area] = sum;
      }
      const total = { objects: 0, bytes: 0 };
      for (const { objects, bytes } of Object.values(areas)) {
        total.objects += objects;
        total.bytes += bytes;
      }
      const { id, location } = repository;
      const requests = requestsOf(repository.bucket);
      output.document({ id, location, datasets: datasets.length, ...total, areas, ...(requests ? { requests } : {}) });
      output.line(`repository ${id}`);
      output.line(`location   ${location}`);
      output.line(`datasets   ${formatCount(datasets.length)}`);
      output.line(`stored     ${formatBytes(total.bytes)} in ${formatNumberOf(total.objects, 'object')}`);
      if (requests !== undefined) output.line(`requests   ${formatCount(totalOf(requests).count)} to find this out`);
      output.line('');
      const rows = Object.entries(areas)
        .filter(([, { objects }]) => objects > 0)
        .map(([area, { objects, bytes }]) => [area, formatCount(objects), formatBytes(bytes)]);
      const columns = [
        { title: 'KIND' },
        { title: 'OBJECTS', align: 'right' },
        { title: 'SIZE', align: 'right' },
      ] as const;
      for (const line of formatTable(columns, rows)) output.line(line);
    });
  withExamples(command, [
    ['repository show', 'The default repository'],
    ['repository show --repository /srv/datasets --json', 'Another one, for a program'],
  ]);
}
