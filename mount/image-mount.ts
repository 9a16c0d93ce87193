import { realpathSync } from 'node:fs';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import { MS, mountAsync } from '../system/calls.ts';
import { attachLoop, backingFile } from './loop.ts';
import { type MountRecord, mountAt } from './mount-table.ts';

export interface ImageMountOptions {
  /** An EROFS image that this node wrote itself: the kernel's parser is not fed with what others made. */
  readonly file: string;
  /** An existing directory. */
  readonly at: string;
  /** `file` mounts the file directly (Linux 6.12), `loop` through a loop device; without it, whichever works. */
  readonly via?: 'file' | 'loop';
}

export interface ImageMount {
  readonly via: 'file' | 'loop';
  /** It was mounted there before. */
  readonly reused: boolean;
}

const flags = MS.readOnly | MS.noSuid | MS.noDev;

/** Mounts an EROFS image read-only. Mounting the same file there again changes nothing. */
export async function mountImage({ file, at, via }: ImageMountOptions): Promise<ImageMount> {
  const existing = mountAt(realpathSync(at));
  if (existing && isImage(existing, file)) {
    return { via: existing.source.startsWith('/dev/loop') ? 'loop' : 'file', reused: true };
  }
  let refusal: unknown;
  if (via !== 'loop') {
    try {
      await mountAsync({ source: file, target: at, type: 'erofs', flags });
      return { via: 'file', reused: false };
    } catch (error) {
      // ENOTBLK before 6.12; EINVAL and the others where this kernel or the file's filesystem cannot back an image.
      const cannot = ['ENOTBLK', 'EINVAL', 'ENOTSUP', 'ELOOP'].some((code) => isErrno(error, code));
      if (via === 'file' || !cannot) throw refused(file, at, error);
      refusal = error;
    }
  }
  try {
    using loop = await attachLoop({ file, readOnly: true });
    await mountAsync({ source: loop.path, target: at, type: 'erofs', flags });
    return { via: 'loop', reused: false };
  } catch (error) {
    throw refused(
      file,
      at,
      refusal ? new AggregateError([refusal, error], `${message(refusal)}; ${message(error)}`) : error,
    );
  }
}

function isImage(record: MountRecord, file: string): boolean {
  if (record.type !== 'erofs') return false;
  const source = Buffer.from(record.source, 'latin1').toString('utf8');
  return source === file || (source.startsWith('/dev/loop') && backingFile(source) === realpathSync(file));
}

function refused(file: string, at: string, cause: unknown): UnavailableError {
  const advice = isErrno(cause, 'ENODEV')
    ? 'the kernel has no EROFS: load it (modprobe erofs) or use a kernel with CONFIG_EROFS_FS'
    : isErrno(cause, 'EPERM')
      ? 'mounting needs CAP_SYS_ADMIN: run as root'
      : `delete the image, it is built again; the kernel's log (dmesg) has the reason`;
  return new UnavailableError(`the image ${file} cannot be mounted at ${at} (${message(cause)}): ${advice}`, {
    cause,
    facts: { file, at },
  });
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
