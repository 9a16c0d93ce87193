import type { PodIdentity } from '../node/service-types.ts';
import type { StringMap } from './messages/volume.ts';

/** A kubelet says so of a volume that is written in a pod's own specification. */
const EPHEMERAL = 'csi.storage.k8s.io/ephemeral';
/** It tells for whom a volume is where the CSIDriver has podInfoOnMount. */
const NAMESPACE = 'csi.storage.k8s.io/pod.namespace';
const NAME = 'csi.storage.k8s.io/pod.name';
const SERVICE_ACCOUNT = 'csi.storage.k8s.io/serviceAccount.name';

export function isEphemeral(context: StringMap): boolean {
  return context[EPHEMERAL] === 'true';
}

/** Undefined where the cluster does not tell. */
export function podOf(context: StringMap): PodIdentity | undefined {
  const { [NAMESPACE]: namespace, [NAME]: name = '', [SERVICE_ACCOUNT]: serviceAccount = '' } = context;
  return namespace ? { namespace, name, serviceAccount } : undefined;
}
