import { hostname, tmpdir, userInfo } from 'node:os';
import { abortOnSignal } from './interrupt.ts';
import { run } from './program.ts';

// A reader that has seen enough, such as `head`, ends the program quietly.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (stream === process.stdout) process.exit(0);
  });
}

using signal = abortOnSignal();
const { uid, username, homedir } = userInfo();
process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  machine: { uid, user: username, host: hostname(), home: process.env.HOME || homedir, temporary: tmpdir() },
  stdout: process.stdout,
  stderr: process.stderr,
  // Opened only by who reads it.
  get stdin() {
    return process.stdin;
  },
  signal,
});
