import { closeSync } from 'node:fs';
import { cloneTree, MOUNT_ATTR, MS, moveMount, setMountAttributes } from '../system/calls.ts';

/**
 * Shows the directory `source` at the directory `target` too. Read-only from the first moment: the attribute is set before the mount has a
 * place. Mounts below `source` come along, and later ones do not.
 */
export function bind(source: string, target: string, options: { readonly readOnly: boolean }): void {
  const tree = cloneTree(source, { recursive: true });
  try {
    const set = MOUNT_ATTR.noSuid | MOUNT_ATTR.noDev | (options.readOnly ? MOUNT_ATTR.readOnly : 0);
    setMountAttributes(tree, { set, propagation: MS.private, recursive: true });
    moveMount(tree, target);
  } finally {
    closeSync(tree);
  }
}
