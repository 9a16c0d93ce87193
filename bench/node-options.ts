import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

/** The options that bin/larder gives to Node, so that what is measured beside it runs as it does. */
export function nodeOptions(): string[] {
  const program = readFileSync(resolve(import.meta.dirname, '..', 'bin', 'larder'), 'utf8');
  const options = /^exec "\$node" (.*) "\$here/m.exec(program)?.[1];
  if (options === undefined) throw new Error('bin/larder does not start Node as it did: node-options.ts must follow');
  return options.split(' ');
}
