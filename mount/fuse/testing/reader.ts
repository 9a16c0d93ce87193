import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

// Reads files all at the same time, with as many threads as UV_THREADPOOL_SIZE allows, and prints for each `name digest` or
// `name !CODE`, as one sorted list at the end. Arguments: a directory, then names, or `prefix:count`.

const [directory, ...given] = process.argv.slice(2);
const names = given.flatMap((name) => {
  const [prefix, count] = name.split(':');
  return count === undefined ? [name] : Array.from({ length: Number(count) }, (_, index) => `${prefix}${index}`);
});
const lines = await Promise.all(
  names.map(async (name) => {
    try {
      return `${name} ${hash('sha256', await readFile(`${directory}/${name}`))}`;
    } catch (error) {
      return `${name} !${(error as NodeJS.ErrnoException).code}`;
    }
  }),
);
console.log(lines.sort().join('\n'));
