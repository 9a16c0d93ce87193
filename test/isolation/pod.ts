import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface PodOptions {
  /** Whom its process runs as; root if not said. */
  readonly uid?: number;
  /** With all capabilities, as a privileged container has them. */
  readonly privileged?: boolean;
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What container runtimes leave to root in a container that asks for nothing. */
const CAPABILITIES = [
  'chown',
  'dac_override',
  'fowner',
  'fsetid',
  'kill',
  'setgid',
  'setuid',
  'setpcap',
  'net_bind_service',
  'net_raw',
  'sys_chroot',
  'mknod',
  'audit_write',
  'setfcap',
];

const SCRIPT = `
set -e
root=$1 uid=$2 bounding=$3 line=$4
shift 4
mount -t tmpfs -o mode=755 pod "$root"
cd "$root"
mkdir usr proc dev tmp old scratch
chmod 1777 tmp
mount --rbind /usr usr
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
# What a volume's mount is compared with: a file system that forbids nothing.
mount -t tmpfs scratch scratch
for volume; do
  mkdir -p ".\${volume%%=*}"
  mount --bind "\${volume#*=}" ".\${volume%%=*}"
done
mount -t proc proc proc
pivot_root . old
cd /
umount -l old
export PATH=/usr/bin:/usr/sbin HOME=/tmp
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all --bounding-set="$bounding" sh -c "$line"
`;

/**
 * Runs a line of shell as a container does: in mount and process namespaces of its own, with a root of its own, which has the machine's
 * programs, a `/scratch` without restrictions, and these volumes.
 * @param volumes where in the pod, and what the kubelet gave
 */
export function inPod(volumes: Readonly<Record<string, string>>, line: string, options: PodOptions = {}): Ran {
  const { uid = 0, privileged = false } = options;
  const root = mkdtempSync(join(tmpdir(), 'larder-pod-'));
  const bounding = privileged ? '+all' : `-all,${CAPABILITIES.map((name) => `+${name}`).join(',')}`;
  const given = Object.entries(volumes).map(([at, path]) => `${at}=${path}`);
  const args = ['-m', '-p', '-f', '--propagation', 'private', 'sh', '-c', SCRIPT, 'pod', root];
  const ran = spawnSync('unshare', [...args, String(uid), bounding, line, ...given], { encoding: 'utf8' });
  rmdirSync(root);
  if (ran.error) throw ran.error;
  const { status, stdout, stderr } = ran;
  return { status, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
}

/** Its standard output. Throws where it fails. */
export function podSays(...args: Parameters<typeof inPod>): string {
  const { status, stdout, stderr } = inPod(...args);
  if (status !== 0) throw new Error(`'${args[1]}' ended with ${status}: ${stderr}`);
  return stdout;
}

/** Runs it as a process of the machine itself, outside of any pod, as a user without rights. */
export function asUser(uid: number, line: string): Ran {
  const args = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--', '/bin/sh', '-c', line];
  const { status, stdout, stderr, error } = spawnSync('setpriv', args, { encoding: 'utf8', cwd: '/' });
  if (error) throw error;
  return { status, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
}
