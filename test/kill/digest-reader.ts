/**
 * Reads every file of a list once, in an order of its own, four at a time, and compares digests: `DIRECTORY LIST`, where the list is a JSON
 * file of names and digests. Prints what it found.
 */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface DigestsRead {
  right: number;
  wrong: string[];
  /** Names of files by error code. */
  errors: Record<string, string[]>;
}

const [directory, list] = process.argv.slice(2) as [string, string];
const left = (JSON.parse(readFileSync(list, 'utf8')) as [string, string][])
  .map((file) => ({ file, at: Math.random() }))
  .sort((a, b) => a.at - b.at);
const found: DigestsRead = { right: 0, wrong: [], errors: {} };

async function read(): Promise<void> {
  for (let next = left.pop(); next; next = left.pop()) {
    const [name, digest] = next.file;
    try {
      const bytes = await readFile(join(directory, name));
      if (hash('sha256', bytes) === digest) found.right += 1;
      else found.wrong.push(name);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      found.errors[code] ??= [];
      found.errors[code].push(name);
    }
  }
}

await Promise.all([read(), read(), read(), read()]);
process.stdout.write(`${JSON.stringify(found)}\n`);
