/**
 * The main job, from nothing, on the embedded defaults: a directory as repository, this machine as the node, two releases of a
 * real image set as data. As root it mounts; without root it checks out, and says so.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOfTree, type Epoch, filesOf, readEpoch, shuffle } from './epoch.ts';
import { bold, green, larder, say, step } from './stage.ts';

const canMount = process.getuid?.() === 0;
const home = mkdtempSync(join(tmpdir(), 'larder-demo-'));
process.env.LARDER_REPOSITORY = join(home, 'repository');
process.env.LARDER_CACHE = join(home, 'cache');
process.env.LARDER_RUNTIME = join(home, 'runtime');
process.env.LARDER_STATE = join(home, 'state');

const releases = {
  '15.1.2': join(import.meta.dirname, 'data/node_modules/emoji-15/img/google/64'),
  '16.0.0': join(import.meta.dirname, 'data/node_modules/emoji-16/img/google/64'),
};
const at = (name: string) => join(home, name);

try {
  console.log(bold('Larder: two releases of an image set, versioned, mounted, edited'));
  say(`everything is below ${home}, and goes when the demo ends`);
  importReleases();
  if (canMount) await withMounts();
  else withCheckouts();
  console.log(`\n${green(bold('Every byte was right.'))}`);
} finally {
  await stopNode();
  rmSync(home, { recursive: true, force: true });
}

function importReleases(): void {
  step('Import both releases. The second stores only what is new in it.');
  larder(['repository', 'init']);
  for (const [release, directory] of Object.entries(releases)) {
    larder(['import', directory, 'emoji', '-m', `emoji-datasource-google ${release}`, '--tag', `v${release}`]);
  }
  larder(['repository', 'show']);

  step('Look at the history, and at what changed.');
  larder(['log', 'emoji']);
  larder(['diff', 'emoji@v15.1.2', 'emoji@v16.0.0'], { show: 6 });
}

async function withMounts(): Promise<void> {
  const [old, current, edited, kept] = [at('v15'), at('v16'), at('workspace'), at('kept')];
  for (const directory of [old, current, edited, kept]) mkdirSync(directory);

  step('Mount both versions at once. Nothing is downloaded yet, and the trees are whole.');
  larder(['mount', 'emoji@v15.1.2', old]);
  larder(['mount', 'emoji@v16.0.0', current]);
  say(`${filesOf(old).length} and ${filesOf(current).length} files`);

  step('Read a shuffled epoch: cold (from the repository), then warm, beside the plain directory.');
  const order = shuffle(filesOf(current));
  const plain = releases['16.0.0'];
  readEpoch(plain, order);
  show('cold, hydrated on demand', readEpoch(current, order));
  const warm = readEpoch(current, order);
  const beside = readEpoch(plain, order);
  show('warm, on the mount', warm);
  show('the plain directory', beside);
  say(`the mount reads at ${bold((beside.seconds / warm.seconds).toFixed(2))} of the plain directory's speed`);

  step("Kill the node's daemon, and read on: the kernel serves what is cached.");
  const { pid } = JSON.parse(larder(['status', '--json'], { quiet: true })) as { pid: number };
  process.kill(pid, 'SIGKILL');
  say(`$ kill -9 ${pid}`);
  show('an epoch without a daemon', readEpoch(current, shuffle(order)));

  step('Open a workspace, edit it, and snapshot what is worth keeping.');
  larder(['mount', 'emoji@v16.0.0', edited, '--workspace']);
  const [first, second, third] = filesOf(edited) as [string, string, string];
  rmSync(join(edited, first));
  copyFileSync(join(edited, second), join(edited, third));
  writeFileSync(join(edited, 'labels.csv'), 'file,class\n0023-fe0f-20e3.png,keycap\n');
  say(`removed ${first}, replaced ${third}, added labels.csv`);
  larder(['snapshot', 'create', edited, '-m', 'with labels', '--tag', 'labelled']);
  larder(['diff', 'emoji@v16.0.0', 'emoji@labelled']);

  step('Mount the snapshot, and prove every byte with SHA-256.');
  larder(['mount', 'emoji@labelled', kept]);
  prove('v15.1.2', old, releases['15.1.2']);
  prove('v16.0.0', current, releases['16.0.0']);
  prove('labelled', kept, edited);
  for (const directory of [kept, edited, current, old]) larder(['unmount', directory], { quiet: true });
}

function withCheckouts(): void {
  step('Without root there is no mount: check both versions out instead.');
  for (const release of Object.keys(releases)) larder(['checkout', `emoji@v${release}`, at(release)]);

  step('Edit a checkout, and commit what is worth keeping.');
  const edited = at('16.0.0');
  const [first] = filesOf(edited) as [string];
  rmSync(join(edited, first));
  writeFileSync(join(edited, 'labels.csv'), 'file,class\n0023-fe0f-20e3.png,keycap\n');
  say(`removed ${first}, added labels.csv`);
  larder(['commit', edited, 'emoji', '-m', 'with labels', '--tag', 'labelled']);
  larder(['diff', 'emoji@v16.0.0', 'emoji@labelled']);

  step('Check the result out, and prove every byte with SHA-256.');
  larder(['checkout', 'emoji@labelled', at('kept')]);
  larder(['checkout', 'emoji@v16.0.0', at('again')], { quiet: true });
  prove('v15.1.2', at('15.1.2'), releases['15.1.2']);
  prove('v16.0.0', at('again'), releases['16.0.0']);
  prove('labelled', at('kept'), edited);
}

function show(what: string, { files, bytes, seconds }: Epoch): void {
  const rate = Math.round(files / seconds).toLocaleString('en-US');
  say(`${what.padEnd(28)} ${rate.padStart(8)} files/s  ${(bytes / 1e6 / seconds).toFixed(0).padStart(5)} MB/s`);
}

function prove(what: string, ours: string, theirs: string): void {
  const [a, b] = [digestOfTree(ours), digestOfTree(theirs)];
  if (a !== b) throw new Error(`${what} differs from ${theirs}: ${a} and ${b}`);
  say(`${green('✓')} ${what.padEnd(10)} ${filesOf(ours).length} files, ${a.slice(0, 16)}…`);
}

/** Ends the daemon, then the keeper, and waits until each is gone. */
async function stopNode(): Promise<void> {
  if (!canMount) return;
  for (const pid of nodeProcesses()) {
    process.kill(pid, 'SIGTERM');
    for (let tries = 0; tries < 200 && isAlive(pid); tries += 1) await sleep(50);
  }
}

/** The daemon and the keeper that `larder mount` started for this demo. */
function nodeProcesses(): number[] {
  try {
    const status = JSON.parse(larder(['status', '--json'], { quiet: true })) as { pid: number; keeperPid?: number };
    return [status.pid, ...(status.keeperPid === undefined ? [] : [status.keeperPid])];
  } catch {
    return []; // None runs.
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
