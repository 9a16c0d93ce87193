import type { Digest } from '../dataset/digest.ts';
import { type ErrorFacts, InvalidError } from '../dataset/errors.ts';
import type { PodIdentity } from './service-types.ts';

/** Who wants to use what, here. */
export interface Use {
  /** The repository's location. */
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** The volume's id. */
  readonly volume: string;
  /** Absent where nobody says which pod it is for. */
  readonly pod?: PodIdentity;
}

/** Says who may use which dataset. It is asked each time that a volume is given to a pod, before the pod has anything of it. */
export interface Rights {
  /** Errors: UnavailableError where nobody can say now; then the volume is not given either. */
  mayUse(use: Use): Promise<true | Refusal>;
}

export interface Refusal {
  /** For a person: what is missing, and who gives it. */
  readonly reason: string;
}

/** Where nobody says otherwise, whoever may create a pod with the volume may use it. */
export const everyoneMay: Rights = { mayUse: async () => true };

/** Who asks has no right to it: asked again by the same it is refused again, until the right is given. */
export class PermissionError extends InvalidError {}

/** Errors: PermissionError that says who may not use what, and why; those of `mayUse`. */
export async function requireRight(rights: Rights, use: Use): Promise<void> {
  const answer = await rights.mayUse(use);
  if (answer === true) return;
  const { dataset, volume, pod } = use;
  const who = pod === undefined ? 'whoever asks for it' : `pod ${pod.namespace}/${pod.name} (${pod.serviceAccount})`;
  const facts: ErrorFacts = { dataset, volume, ...(pod && { namespace: pod.namespace, pod: pod.name }) };
  throw new PermissionError(`${who} may not use dataset ${dataset}: ${answer.reason}`, { facts });
}
