import type { KnownVersions } from '../cache/known-versions.ts';
import type { Digest } from '../dataset/digest.ts';
import type { LogFields } from './log.ts';
import type { StagedRecords } from './records.ts';

export interface VersionSources {
  readonly known: KnownVersions;
  readonly volumes: { readonly records: StagedRecords };
}

/** What is known of a version that an event names: its dataset, its repository, and the volumes that have it staged. */
export function aboutVersion({ known, volumes }: VersionSources, version: string): LogFields {
  const { dataset, repository } = known.get(version as Digest) ?? {};
  const using = volumes.records.all().filter((record) => record.version === version);
  const volume = using.map((record) => record.volume).join(',');
  return { ...(volume !== '' && { volume }), dataset, version, repository };
}
