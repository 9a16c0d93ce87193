import { workerData } from 'node:worker_threads';
import type { Digest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { readPackIndex, streamPack } from '../pack.ts';
import { openRepository } from '../repository.ts';
import { serve } from '../threads/serve.ts';

/** A pack to be read whole. */
export interface VerifyTask {
  readonly pack: Digest;
}

export interface VerifiedPack {
  /** What is wrong with the pack itself; its chunks cannot be told then. */
  readonly fault: string | undefined;
  readonly chunks: readonly { readonly id: Digest; readonly fault: string }[];
  /** Bytes of chunks that were found whole. */
  readonly bytes: number;
}

const repository = await openRepository((workerData as { readonly repository: string }).repository);

serve<VerifyTask>(async ({ pack }) => ({ result: await verifyPack(pack) }), 2);

async function verifyPack(pack: Digest): Promise<VerifiedPack> {
  const chunks: { id: Digest; fault: string }[] = [];
  let bytes = 0;
  try {
    const bad = new Set<Digest>();
    const done = new Set<Digest>();
    const { length } = await readPackIndex(repository, pack);
    // Each round ends at a damaged chunk; the next one goes on behind it.
    for (let round = 0; round <= length; round++)
      try {
        await streamPack(
          repository,
          pack,
          (id) => !done.has(id) && !bad.has(id),
          async (id, found) => {
            done.add(id);
            bytes += found.length;
          },
          undefined,
          { lend: true },
        );
        break;
      } catch (error) {
        const chunk = error instanceof CorruptError ? (error.facts.chunk as Digest | undefined) : undefined;
        if (chunk === undefined || bad.has(chunk)) throw error;
        bad.add(chunk);
        chunks.push({ id: chunk, fault: faultOf(error as CorruptError) });
      }
  } catch (error) {
    if (error instanceof CorruptError) return { fault: faultOf(error), chunks, bytes };
    if (error instanceof NotFoundError) return { fault: 'it went while it was read', chunks, bytes };
    throw error;
  }
  return { fault: undefined, chunks, bytes };
}

function faultOf(error: CorruptError): string {
  return (error.facts.fault as string | undefined) ?? error.message;
}
