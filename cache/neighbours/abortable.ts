/** What `promise` gives, or the signal's reason as soon as that is aborted. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * A generator's bytes, with what must be let go of when it ends, also where it is left before it began: a generator's own `finally`
 * does not run then.
 */
export function closing(generator: AsyncGenerator<Buffer>, close: () => void): AsyncIterableIterator<Buffer> {
  let closed = false;
  const end = () => {
    if (!closed) close();
    closed = true;
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        const result = await generator.next();
        if (result.done) end();
        return result;
      } catch (error) {
        end();
        throw error;
      }
    },
    async return() {
      try {
        return await generator.return(undefined);
      } finally {
        end();
      }
    },
  };
}
