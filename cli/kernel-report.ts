import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { isErrno } from '../dataset/errors.ts';
import type { Feature, KernelReport } from '../mount/probe.ts';
import type { Environment } from './environment.ts';

type Place = Pick<Environment, 'cache' | 'runtime'>;

/** Kept in the runtime directory: gone after a reboot, as the kernel is that was asked. */
interface KeptReport extends KernelReport {
  /** Reflinks are the cache's file system's. */
  readonly cache: string;
}

const fileIn = ({ runtime }: Place) => join(runtime, 'kernel.json');

/** What was found out about this kernel and this cache since it booted; undefined where nobody has looked. */
export async function readKernelReport(place: Place): Promise<KernelReport | undefined> {
  let text: string;
  try {
    text = await readFile(fileIn(place), 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const report = JSON.parse(text) as KeptReport;
  return report.cache === place.cache && report.kernel === release() ? report : undefined;
}

/** The same, and looks where nobody has: that mounts one thing after another, once after each boot. */
export async function kernelReport(place: Place): Promise<KernelReport> {
  const kept = await readKernelReport(place);
  if (kept !== undefined) return kept;
  const [{ probeKernel }, { writeFileAtomic }] = await Promise.all([
    import('../mount/probe.ts'),
    import('../system/atomic.ts'),
  ]);
  const report: KeptReport = { ...(await probeKernel({ directory: place.cache })), cache: place.cache };
  await writeFileAtomic(fileIn(place), `${JSON.stringify(report)}\n`, { mode: 0o600 });
  return report;
}

/** `no reflink on the cache's filesystem (EOPNOTSUPP): a live snapshot copies …; to have it, put the cache on XFS or btrfs` */
export function lackLines({ features }: KernelReport): string[] {
  return features.filter(({ have }) => !have).map(lackLine);
}

function lackLine({ title, reason, instead, remedy }: Feature): string {
  return `no ${title} (${reason}): ${instead}; to have it, ${remedy}`;
}
