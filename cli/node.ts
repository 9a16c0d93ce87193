import type { CallOptions } from '../node/client.ts';
import type { Method, Methods } from '../node/protocol.ts';
import type { Session } from './session.ts';

/** A call to the node's daemon, with a bar while it takes. */
export type NodeCall = <M extends Method>(method: M, request: Methods[M]['request']) => Promise<Methods[M]['reply']>;

export interface NodeOptions {
  /** Start the daemon and its keeper where none runs. */
  readonly start: boolean;
  /** What the bar says where the daemon does not. */
  readonly phase: string;
}

/**
 * Talks to this node's daemon, and lets go of it at the end.
 * Errors: UnavailableError where none runs and none is started.
 */
export async function withNode<T>(
  { environment, output, signal }: Session,
  { start, phase }: NodeOptions,
  work: (call: NodeCall) => Promise<T>,
): Promise<T> {
  const { runtime, cache } = environment;
  const { connectNode } = await import('../node/client.ts');
  const client = await connectNode({ runtime, cache, start });
  using progress = output.progress();
  const options: CallOptions = {
    signal,
    onProgress: (state) => progress.update({ ...state, phase: state.phase || phase }),
  };
  try {
    return await work((method, request) => client.call(method, request, options));
  } finally {
    client.close();
  }
}
