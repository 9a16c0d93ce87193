import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { contentOf, JOURNAL } from './journal.ts';

/*
 * A pod that writes: file after file, each on disk before the journal says so, and the journal before the next. Its arguments are the directory and the
 * pause between two files, in milliseconds. It prints each number, with the time, once the journal has it.
 */

const [directory = '', pause = '20'] = process.argv.slice(2);
const journal = openSync(join(directory, JOURNAL), 'a');

let number = 0;
const write = () => {
  const file = openSync(join(directory, `${number}.out`), 'w');
  writeSync(file, contentOf(number));
  fsyncSync(file);
  closeSync(file);
  writeSync(journal, `${number}\n`);
  fsyncSync(journal);
  process.stdout.write(`${number} ${Date.now()}\n`);
  number += 1;
};
setInterval(write, Number(pause));
