import { runKeeper } from '../../keeper.ts';

const ending = new AbortController();
process.on('SIGTERM', () => ending.abort());
await runKeeper({ socket: process.argv[2]!, onEvent: (event) => console.log(event), signal: ending.signal });
