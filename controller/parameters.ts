import { InvalidError } from '../dataset/errors.ts';
import { parseBytes } from '../dataset/quantities.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { type CapacityRange, workspaceCapacity } from './capacity.ts';
import { defaultSettings, parseSetting, parseWord, SETTING_CHOICES, type SettingKey } from './settings.ts';
import type { VolumeKind } from './volume.ts';

/** What a volume is made of, as somebody named it. */
export interface Source {
  readonly dataset: string;
  /** A branch, a tag, `latest`, or the start of a version's id; absent for the head of `main`. */
  readonly ref?: string;
}

export interface VolumeParameters {
  /** Absent only where the volume is made of a snapshot or of another volume. */
  readonly source?: Source;
  readonly settings: VolumeSettings;
}

/** What changes when a volume is modified; a setting that is undefined goes back to its default. */
export interface Modification {
  readonly ref?: string;
  readonly settings: Partial<VolumeSettings>;
}

/** An ephemeral volume: it begins and ends with its pod. */
export interface EphemeralParameters {
  readonly source: Source;
  readonly kind: VolumeKind;
  /** A workspace's room for changes, in bytes. */
  readonly capacityBytes?: number;
  readonly settings: VolumeSettings;
}

type Key = 'dataset' | 'version' | SettingKey;
type EphemeralKey = Exclude<Key, 'follow' | 'autosave' | 'retention'> | 'writable' | 'size';
type Strings = Readonly<Record<string, string>>;

/** What a StorageClass may say, and what each means. */
const meanings: Readonly<Record<Key, string>> = {
  dataset: 'a dataset: NAME, or NAME@REF',
  version: 'a branch, a tag, or the start of a version id; not together with NAME@REF',
  follow: `whether a pinned volume's branch or tag is looked up anew each time that a node stages it: ${SETTING_CHOICES.follow}`,
  prefetch: `what a node fetches when it stages the volume: ${SETTING_CHOICES.prefetch}`,
  uid: `the user whom all files seem to belong to: ${SETTING_CHOICES.uid}`,
  gid: `the group whom all files seem to belong to: ${SETTING_CHOICES.gid}`,
  mode: `permissions of all directories, and of files, which may be executed only where the dataset says so: ${SETTING_CHOICES.mode}`,
  deadline: `how long a read waits for bytes before it fails: ${SETTING_CHOICES.deadline}`,
  autosave: `how often a workspace's changes are saved: ${SETTING_CHOICES.autosave}`,
  bandwidth: `what a node fetches for the volume at most, a second: ${SETTING_CHOICES.bandwidth}`,
  retention: `what becomes of the content when the volume is deleted: ${SETTING_CHOICES.retention}`,
};

/** What a VolumeAttributesClass may say: what changes while pods run. */
const MUTABLE = ['version', 'follow', 'prefetch', 'deadline', 'autosave', 'bandwidth', 'retention'] as const;

/** What the attributes of an ephemeral volume may say. */
const ephemeralMeanings: Readonly<Record<EphemeralKey, string>> = {
  dataset: meanings.dataset,
  version: meanings.version,
  prefetch: meanings.prefetch,
  uid: meanings.uid,
  gid: meanings.gid,
  mode: meanings.mode,
  deadline: meanings.deadline,
  bandwidth: meanings.bandwidth,
  writable: 'whether the pod may write, and loses what it wrote at its end: true or false',
  size: 'with writable: true, the room for what it writes: a number of bytes, such as 2G',
};

/** Why some keys have no meaning for an ephemeral volume. */
const notEphemeral: Readonly<Record<string, string>> = {
  follow: 'an ephemeral volume is looked up when its pod starts, and never again',
  autosave: 'an ephemeral volume ends with its pod, and nothing of it is saved',
  retention: 'an ephemeral volume ends with its pod, and nothing of it is kept',
};

/** Keys of Kubernetes itself (the claim's name, say) come along with ours. */
const FOREIGN_PREFIX = 'csi.storage.k8s.io/';

/**
 * Reads a volume's parameters.
 * @param options.mutable what a VolumeAttributesClass says; it counts where both say something
 * @param options.restored whether the volume is made of a snapshot or of another volume: `dataset` may be missing then
 * Errors: InvalidError that names the key at fault, and the keys that there are.
 */
export function readParameters(
  parameters: Strings,
  options: { readonly mutable?: Strings; readonly restored?: boolean } = {},
): VolumeParameters {
  const { mutable = {}, restored = false } = options;
  checkKeys(parameters, meanings);
  const { ref, settings: changed } = readMutable(mutable);
  const source = readSource(parameters, meanings, restored);
  const settings = without({ ...defaultSettings, ...readSettings(parameters, meanings), ...changed });
  if (source === undefined) return { settings };
  return { source: ref === undefined ? source : { ...source, ref }, settings };
}

/**
 * Reads what of a volume is to change.
 * Errors: InvalidError that names the key at fault, and the keys that can change.
 */
export function readMutable(parameters: Strings): Modification {
  const changing = Object.fromEntries(MUTABLE.map((key) => [key, meanings[key]]));
  for (const key of Object.keys(parameters))
    if (Object.hasOwn(meanings, key) && !Object.hasOwn(changing, key))
      throw refuse(key, 'it is settled when the volume is created', changing, 'parameters that can change');
  checkKeys(parameters, changing, 'parameters that can change');
  const ref = read(parameters, 'version', changing);
  return { ...(ref !== undefined && { ref }), settings: readSettings(parameters, changing) };
}

/**
 * Reads the attributes of an ephemeral volume.
 * Errors: InvalidError that names the key at fault, and the keys that there are; CapacityError.
 */
export function readEphemeral(attributes: Strings): EphemeralParameters {
  for (const [key, reason] of Object.entries(notEphemeral))
    if (Object.hasOwn(attributes, key)) throw refuse(key, reason, ephemeralMeanings);
  checkKeys(attributes, ephemeralMeanings);
  const source = readSource(attributes, ephemeralMeanings, false) as Source;
  const settings = without({ ...defaultSettings, ...readSettings(attributes, ephemeralMeanings) });
  const writable = read(attributes, 'writable', ephemeralMeanings);
  const size = read(attributes, 'size', ephemeralMeanings);
  const isWritable =
    writable !== undefined && parseWord(writable, ['true', 'false'], 'parameter "writable"') === 'true';
  if (!isWritable) {
    if (size !== undefined) throw refuse('size', 'it needs writable: true', ephemeralMeanings);
    return { source, kind: 'pinned', settings };
  }
  const range: CapacityRange = size === undefined ? {} : { required: sizeIn(size) };
  return { source, kind: 'workspace', capacityBytes: workspaceCapacity(range), settings };
}

/** `NAME[@REF]`, as everything else takes it. */
export function sourceName({ dataset, ref }: Source): string {
  return ref === undefined ? dataset : `${dataset}@${ref}`;
}

function readSource(
  parameters: Strings,
  known: Readonly<Record<string, string>>,
  restored: boolean,
): Source | undefined {
  const dataset = read(parameters, 'dataset', known);
  const version = read(parameters, 'version', known);
  if (dataset === undefined) {
    if (restored) return undefined;
    throw refuse('dataset', 'it is missing', known);
  }
  const at = dataset.indexOf('@');
  if (at < 0) return { dataset, ...(version !== undefined && { ref: version }) };
  const [name, ref] = [dataset.slice(0, at), dataset.slice(at + 1)];
  if (name === '' || ref === '') throw refuse('dataset', `${JSON.stringify(dataset)} is not NAME or NAME@REF`, known);
  if (version !== undefined) throw refuse('version', `dataset has @${ref} already: give one of the two`, known);
  return { dataset: name, ref };
}

/** Settings that are given, those among them that mean a default as undefined. */
function readSettings(parameters: Strings, known: Readonly<Record<string, string>>): Partial<VolumeSettings> {
  const settings: Partial<Record<SettingKey, unknown>> = {};
  for (const key of Object.keys(SETTING_CHOICES) as SettingKey[]) {
    if (!Object.hasOwn(known, key)) continue;
    const text = read(parameters, key, known);
    if (text !== undefined) settings[key] = parseSetting(key, text);
  }
  return settings as Partial<VolumeSettings>;
}

function sizeIn(text: string): number {
  const bytes = parseBytes(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw refuse('size', `${JSON.stringify(text)} is not a number of bytes, such as 2G`, ephemeralMeanings);
}

function without(settings: VolumeSettings): VolumeSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as never;
}

function checkKeys(parameters: Strings, known: Readonly<Record<string, string>>, which?: string): void {
  for (const key of Object.keys(parameters)) {
    if (!Object.hasOwn(known, key) && !key.startsWith(FOREIGN_PREFIX))
      throw refuse(key, 'there is no such parameter', known, which);
  }
}

function read(parameters: Strings, key: string, known: Readonly<Record<string, string>>): string | undefined {
  const value = Object.hasOwn(parameters, key) ? parameters[key] : undefined;
  if (value === '') throw refuse(key, 'it is empty', known);
  return value;
}

function refuse(
  key: string,
  fault: string,
  known: Readonly<Record<string, string>>,
  which = 'parameters',
): InvalidError {
  const choices = Object.entries(known).map(([name, meaning]) => `${name} (${meaning})`);
  return new InvalidError(`parameter ${JSON.stringify(key)}: ${fault}. The ${which} are: ${choices.join('; ')}`, {
    facts: { parameter: key },
  });
}
