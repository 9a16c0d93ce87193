import { runKeeper } from '../../keeper.ts';

const ending = new AbortController();
process.on('SIGTERM', () => ending.abort());
const [, , socket, patience] = process.argv;
await runKeeper({
  socket: socket!,
  ...(patience && { patience: Number(patience) }),
  onEvent: (event) => console.log(event),
  signal: ending.signal,
});
