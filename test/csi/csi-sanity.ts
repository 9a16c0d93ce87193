import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const VERSION = 'v5.6.0';
const PACKAGE = `github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@${VERSION}`;

/** Why csi-sanity cannot run here; undefined where it can. */
export const whyNoSanity: string | undefined =
  existsSync(program()) || spawnSync('go', ['version']).status === 0
    ? undefined
    : 'csi-sanity is installed with Go, which is not here';

if (whyNoSanity !== undefined) {
  if (process.env.LARDER_TEST_MOUNTS === 'required') throw new Error(`csi-sanity must run here: ${whyNoSanity}`);
  console.warn(`skipped, csi-sanity: ${whyNoSanity}`);
}

export interface SanityCase {
  /** As csi-sanity prints it, from its outermost group to the case. */
  readonly title: string;
  readonly state: 'passed' | 'skipped' | 'pending' | 'failed' | 'panicked' | 'interrupted' | 'aborted' | 'timedout';
  /** Why it was skipped, or how it failed. */
  readonly message: string;
}

export interface SanityOptions {
  /** The plugin's socket. */
  readonly socket: string;
  /** An empty directory for its mount points, parameter file and report. */
  readonly directory: string;
  /** The parameters of every volume that it creates. */
  readonly parameters: Readonly<Record<string, string>>;
  /** What it changes of volumes. */
  readonly mutableParameters: Readonly<Record<string, string>>;
}

/** Runs all of csi-sanity, which is installed first where it is not yet, and returns what became of each case. */
export async function runSanity(options: SanityOptions): Promise<readonly SanityCase[]> {
  const { socket, directory, parameters, mutableParameters } = options;
  await install();
  mkdirSync(directory, { recursive: true });
  const yaml = (name: string, content: object) => {
    const file = join(directory, name);
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(content));
    return file;
  };
  const report = join(directory, 'report.json');
  const child = promisify(execFile)(
    program(),
    [
      `--csi.endpoint=${socket}`,
      `--csi.mountdir=${join(directory, 'target')}`,
      `--csi.stagingdir=${join(directory, 'staging')}`,
      `--csi.testvolumeparameters=${yaml('parameters.yaml', parameters)}`,
      `--csi.testvolumemutableparameters=${yaml('mutable-parameters.yaml', mutableParameters)}`,
      `--ginkgo.json-report=${report}`,
      '--ginkgo.no-color',
    ],
    { maxBuffer: 64 * 2 ** 20 },
  );
  try {
    await child;
  } catch (error) {
    // A failed case is in the report, by name.
    if (!existsSync(report)) throw error;
  }
  return readReport(report);
}

function program(): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return join(cache, 'larder-test', `csi-sanity-${VERSION}`, 'csi-sanity');
}

async function install(): Promise<void> {
  if (existsSync(program())) return;
  const env = { ...process.env, GOBIN: join(program(), '..'), GOFLAGS: '-mod=mod' };
  await promisify(execFile)('go', ['install', PACKAGE], { env, cwd: '/' });
}

interface Report {
  readonly SpecReports: readonly {
    readonly ContainerHierarchyTexts: readonly string[] | null;
    readonly LeafNodeType: string;
    readonly LeafNodeText: string;
    readonly State: SanityCase['state'];
    readonly Failure?: { readonly Message: string };
  }[];
}

function readReport(file: string): readonly SanityCase[] {
  const [suite] = JSON.parse(readFileSync(file, 'utf8')) as Report[];
  return (suite as Report).SpecReports.filter(({ LeafNodeType }) => LeafNodeType === 'It').map((each) => ({
    title: [...(each.ContainerHierarchyTexts ?? []), each.LeafNodeText].join(' '),
    state: each.State,
    message: each.Failure?.Message ?? '',
  }));
}
