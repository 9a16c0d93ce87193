import { readEphemeral, sourceName } from '../controller/parameters.ts';
import { resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import type { EphemeralRequest, StagedVolume } from '../node/service-types.ts';
import { asksReadOnly, checkMounted, mountGroupOf } from './access.ts';
import type { NodePublishVolumeRequest } from './messages/node.ts';
import { podOf } from './pod.ts';
import { servingOf } from './stage-request.ts';

/**
 * What a pod's own volume is: its attributes say it, and no record. Its access mode says nothing: a kubelet gives the same for all of them.
 * @param known what is published of it: asked for again, it stays the version that it is
 * Errors: InvalidError for the attributes; NotFoundError for the dataset or the version.
 */
export async function ephemeralRequestOf(
  repository: Repository,
  request: NodePublishVolumeRequest,
  options: { readonly id: string; readonly targetPath: string; readonly known?: StagedVolume },
): Promise<EphemeralRequest> {
  const { volumeCapability, volumeContext } = request;
  checkMounted(volumeCapability);
  const { source, kind, capacityBytes, settings } = readEphemeral(volumeContext);
  const pod = podOf(volumeContext);
  const { dataset, version } = options.known ?? (await resolveName(repository, sourceName(source)));
  return {
    volume: options.id,
    dataset,
    version,
    kind,
    ...(capacityBytes !== undefined && { capacityBytes }),
    ...servingOf(settings, mountGroupOf(volumeCapability)),
    targetPath: options.targetPath,
    readOnly: kind === 'pinned' || request.readonly || asksReadOnly(volumeCapability),
    ...(pod !== undefined && { pod }),
  };
}
