import { InvalidError } from '../dataset/errors.ts';
import { validateName } from '../dataset/names.ts';
import type { SnapshotAbout } from './snapshot.ts';

/** What a VolumeSnapshotClass may say, and what each means. */
const meanings = {
  message: 'what the version says',
  author: 'who made it',
  tag: 'a tag of the dataset for it',
  branch: 'a branch of the dataset that moves to it, where that is not ahead of it',
} as const;

/** Keys of Kubernetes itself (the snapshot's name, say) come along with ours. */
const FOREIGN_PREFIX = 'csi.storage.k8s.io/';

/** Errors: InvalidError that names the key at fault, and the keys that there are. */
export function readSnapshotParameters(parameters: Readonly<Record<string, string>> = {}): SnapshotAbout {
  const about: Record<string, string> = {};
  for (const [key, value] of Object.entries(parameters)) {
    if (key.startsWith(FOREIGN_PREFIX)) continue;
    if (!Object.hasOwn(meanings, key)) throw refuse(key, 'there is no such parameter');
    if (value === '') throw refuse(key, 'it is empty');
    if (key === 'tag' || key === 'branch') validateName(key, value);
    about[key] = value;
  }
  return about;
}

function refuse(key: string, fault: string): InvalidError {
  const choices = Object.entries(meanings).map(([name, meaning]) => `${name} (${meaning})`);
  return new InvalidError(
    `parameter ${JSON.stringify(key)} of a snapshot: ${fault}. The parameters are: ${choices.join('; ')}`,
    { facts: { parameter: key } },
  );
}
