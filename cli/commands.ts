import type { Command } from 'commander';
import type { Start } from './session.ts';

/** Adds a command to the program. */
export type Add = (program: Command, start: Start) => void;

/** Every command by the group that help shows it in: each is loaded when it is wanted, for most runs want one of them. */
export const COMMANDS: Readonly<Record<string, Readonly<Record<string, () => Promise<Add>>>>> = {
  'Repository:': {
    repository: async () => (await import('./commands/repository.ts')).addRepository,
    verify: async () => (await import('./commands/verify.ts')).addVerify,
    repair: async () => (await import('./commands/repair.ts')).addRepair,
    collect: async () => (await import('./commands/collect.ts')).addCollect,
    copy: async () => (await import('./commands/copy.ts')).addCopy,
  },
  'Versions:': {
    import: async () => (await import('./commands/import.ts')).addImport,
    commit: async () => (await import('./commands/commit.ts')).addCommit,
    checkout: async () => (await import('./commands/checkout.ts')).addCheckout,
    list: async () => (await import('./commands/list.ts')).addList,
    log: async () => (await import('./commands/log.ts')).addLog,
    show: async () => (await import('./commands/show.ts')).addShow,
    files: async () => (await import('./commands/files.ts')).addFiles,
    cat: async () => (await import('./commands/cat.ts')).addCat,
    diff: async () => (await import('./commands/diff.ts')).addDiff,
    history: async () => (await import('./commands/history.ts')).addHistory,
    merge: async () => (await import('./commands/merge.ts')).addMerge,
    revert: async () => (await import('./commands/revert.ts')).addRevert,
  },
  'Names:': {
    tag: async () => (await import('./commands/tag.ts')).addTag,
    branch: async () => (await import('./commands/branch.ts')).addBranch,
    delete: async () => (await import('./commands/delete.ts')).addDelete,
  },
  'Mounts and workspaces:': {
    mount: async () => (await import('./commands/mount.ts')).addMount,
    unmount: async () => (await import('./commands/unmount.ts')).addUnmount,
    snapshot: async () => (await import('./commands/snapshot.ts')).addSnapshot,
    volume: async () => (await import('./commands/volume.ts')).addVolume,
    status: async () => (await import('./commands/status.ts')).addStatus,
  },
  "The node's cache:": {
    prefetch: async () => (await import('./commands/prefetch.ts')).addPrefetch,
    cache: async () => (await import('./commands/cache.ts')).addCache,
    top: async () => (await import('./commands/top.ts')).addTop,
  },
  'Daemons:': {
    node: async () => (await import('./commands/node.ts')).addNode,
    controller: async () => (await import('./commands/controller.ts')).addController,
    keeper: async () => (await import('./commands/keeper.ts')).addKeeper,
  },
};

/** The program's own options that have a value. */
const WITH_VALUE = new Set(['--repository']);

/** Which commands this command line needs: the one that it names, all where it asks for help or names none that there is. */
export function wantedBy(argv: readonly string[]): (name: string) => boolean {
  for (let at = 0; at < argv.length; at += 1) {
    const argument = argv[at]!;
    if (argument === '--version' || argument === '-V') return () => false;
    if (WITH_VALUE.has(argument)) at += 1;
    else if (!argument.startsWith('-')) return isCommand(argument) ? (name) => name === argument : () => true;
  }
  return () => true;
}

function isCommand(name: string): boolean {
  return Object.values(COMMANDS).some((commands) => Object.hasOwn(commands, name));
}
