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
