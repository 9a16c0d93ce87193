import type { ByteString } from '../dataset/byte-string.ts';
import type { Ownership } from './view.ts';

/**
 * The attribute by which an image that shows a view tells what the version has instead: mode (octal), uid and gid, a space between them. overlayfs
 * copies it up with the file, and it stays with the inode whatever becomes of its name.
 */
export const OWNER_MARK = 'trusted.larder.owner' as ByteString;

export function encodeOwner({ mode, uid, gid }: Ownership): Buffer {
  return Buffer.from(`${mode.toString(8)} ${uid} ${gid}`, 'latin1');
}

/** Undefined for what is none: whoever is root in a workspace may write what he likes there. */
export function decodeOwner(value: Buffer | undefined): Ownership | undefined {
  const found = /^([0-7]{1,4}) (\d{1,10}) (\d{1,10})$/.exec(value?.toString('latin1') ?? '');
  if (found === null) return undefined;
  const [mode, uid, gid] = [Number.parseInt(found[1]!, 8), Number(found[2]), Number(found[3])];
  return uid > 0xffff_ffff || gid > 0xffff_ffff ? undefined : { mode, uid, gid };
}
