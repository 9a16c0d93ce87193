/**
 * `load` of each value of `source`, in order, with up to `width` of them under way while the consumer works. An error comes at
 * its place in the order. Returning early leaves nothing behind but what is under way.
 */
export async function* mapAhead<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  width: number,
  load: (value: T) => Promise<R>,
): AsyncGenerator<R> {
  const waiting: Promise<R>[] = [];
  for await (const value of source) {
    const result = load(value);
    // It may fail before its turn comes; the failure is thrown then.
    result.catch(() => undefined);
    waiting.push(result);
    if (waiting.length >= width) yield await waiting.shift()!;
  }
  for (const result of waiting) yield await result;
}
