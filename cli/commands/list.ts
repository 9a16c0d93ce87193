import type { Command } from 'commander';
import { type Digest, shortId } from '../../dataset/digest.ts';
import { DEFAULT_BRANCH } from '../../dataset/names.ts';
import { listBranches, listDatasets, listTags } from '../../dataset/refs.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion, type Version } from '../../dataset/version.ts';
import { subjectOf } from '../describe.ts';
import { formatBytes, formatCount, formatDate } from '../format.ts';
import { withExamples } from '../help.ts';
import { ofDataset, printNames, requireDataset } from '../names.ts';
import type { Start } from '../session.ts';
import { type Column, formatTable } from '../table.ts';

const COLUMNS: readonly Column[] = [
  { title: 'DATASET' },
  { title: 'HEAD' },
  { title: 'BRANCHES', align: 'right' },
  { title: 'TAGS', align: 'right' },
  { title: 'ENTRIES', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'WHEN' },
  { title: 'MESSAGE' },
];

/** `larder list` */
export function addList(program: Command, start: Start): void {
  const command = program
    .command('list')
    .summary('list datasets')
    .description("Lists the repository's datasets, or one dataset's branches and tags.")
    .argument('[dataset]', 'a dataset whose names to list')
    .action(async (dataset: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const repository = await session.openRepository();
      if (dataset !== undefined) {
        await requireDataset(repository, dataset);
        await printNames(session, repository, 'branch', ofDataset(dataset, await listBranches(repository, dataset)));
        const tags = await listTags(repository, dataset);
        if (tags.length > 0) output.line('');
        await printNames(session, repository, 'tag', ofDataset(dataset, tags));
        return;
      }
      const rows: string[][] = [];
      for (const name of await listDatasets(repository)) {
        signal.throwIfAborted();
        const summary = await summarize(repository, name);
        const { branches, tags, head } = summary;
        output.document({
          dataset: name,
          branches: branches.length,
          tags: tags.length,
          ...(head !== undefined && {
            branch: head.branch,
            version: head.version.id,
            entries: head.version.entries,
            bytes: head.version.bytes,
            time: head.version.time,
            message: head.version.message,
          }),
        });
        rows.push([name, ...headCells(summary)]);
      }
      if (rows.length === 0) {
        if (!output.json) output.note(`no datasets in ${repository.location}: 'larder import' makes one`);
        return;
      }
      for (const line of formatTable(COLUMNS, rows)) output.line(line);
    });
  withExamples(command, [
    ['list', 'All datasets'],
    ['list emoji', 'The branches and tags of one'],
  ]);
}

interface Summary {
  readonly branches: readonly { readonly name: string; readonly version: Digest }[];
  readonly tags: readonly unknown[];
  /** Of the default branch, or of another where there is none. */
  readonly head?: { readonly branch: string; readonly version: Version };
}

async function summarize(repository: Repository, dataset: string): Promise<Summary> {
  const [branches, tags] = await Promise.all([listBranches(repository, dataset), listTags(repository, dataset)]);
  const branch = branches.find(({ name }) => name === DEFAULT_BRANCH) ?? branches[0];
  if (branch === undefined) return { branches, tags };
  return { branches, tags, head: { branch: branch.name, version: await readVersion(repository, branch.version) } };
}

function headCells({ branches, tags, head }: Summary): string[] {
  const counts = [formatCount(branches.length), formatCount(tags.length)];
  if (head === undefined) return ['-', ...counts, '-', '-', '-', ''];
  const { id, entries, bytes, time, message } = head.version;
  const at = head.branch === DEFAULT_BRANCH ? shortId(id) : `${head.branch} ${shortId(id)}`;
  return [at, ...counts, formatCount(entries), formatBytes(bytes), formatDate(time), subjectOf(message)];
}
