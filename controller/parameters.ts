import { InvalidError } from '../dataset/errors.ts';
import { PREFETCH_CHOICES, parsePrefetch } from './prefetch.ts';

/** What a volume is made of, as somebody named it. */
export interface Source {
  readonly dataset: string;
  /** A branch, a tag, `latest`, or the start of a version's id; absent for the head of `main`. */
  readonly ref?: string;
  /** What a node fetches when it stages the volume: `all`, or a glob over paths; absent for nothing. */
  readonly prefetch?: string;
}

/** What a StorageClass may say, and what each means. */
const meanings = {
  dataset: 'a dataset: NAME, or NAME@REF',
  version: 'a branch, a tag, or the start of a version id; not together with NAME@REF',
  prefetch: `what a node fetches when it stages the volume: ${PREFETCH_CHOICES}`,
} as const;

type Key = keyof typeof meanings;

/** Keys of Kubernetes itself (the claim's name, say) come along with ours. */
const FOREIGN_PREFIX = 'csi.storage.k8s.io/';

/**
 * Reads a volume's parameters.
 * Errors: InvalidError that names the key at fault, and the keys that there are.
 */
export function readParameters(parameters: Readonly<Record<string, string>>): Source {
  for (const key of Object.keys(parameters)) {
    if (!Object.hasOwn(meanings, key) && !key.startsWith(FOREIGN_PREFIX))
      throw refuse(key, 'there is no such parameter');
  }
  const dataset = read(parameters, 'dataset');
  if (dataset === undefined) throw refuse('dataset', 'it is missing');
  const version = read(parameters, 'version');
  const asked = read(parameters, 'prefetch');
  const prefetch = asked === undefined ? undefined : parsePrefetch(asked, 'parameter "prefetch"');
  const fetched = prefetch === undefined ? {} : { prefetch };
  const at = dataset.indexOf('@');
  if (at < 0) return { dataset, ...(version === undefined ? {} : { ref: version }), ...fetched };
  const [name, ref] = [dataset.slice(0, at), dataset.slice(at + 1)];
  if (name === '' || ref === '') throw refuse('dataset', `${JSON.stringify(dataset)} is not NAME or NAME@REF`);
  if (version !== undefined) throw refuse('version', `dataset has @${ref} already: give one of the two`);
  return { dataset: name, ref, ...fetched };
}

/** `NAME[@REF]`, as everything else takes it. */
export function sourceName({ dataset, ref }: Pick<Source, 'dataset' | 'ref'>): string {
  return ref === undefined ? dataset : `${dataset}@${ref}`;
}

function read(parameters: Readonly<Record<string, string>>, key: Key): string | undefined {
  const value = parameters[key];
  if (value === '') throw refuse(key, 'it is empty');
  return value;
}

function refuse(key: string, fault: string): InvalidError {
  const choices = Object.entries(meanings).map(([name, meaning]) => `${name} (${meaning})`);
  return new InvalidError(`parameter ${JSON.stringify(key)}: ${fault}. The parameters are: ${choices.join('; ')}`, {
    facts: { parameter: key },
  });
}
