import { mountRing } from '../ring-server.ts';

// A daemon that mounts a ring and then ends in the way that its second argument names. It prints `up` before that.

const [target, how] = process.argv.slice(2);
const server = await mountRing(target!, { resolve: async () => 'absent', deadline: 1000 });
console.log('up');
if (how === 'exit') process.exit(3);
else if (how === 'throw')
  setImmediate(() => {
    throw new Error('on purpose');
  });
else if (how === 'release') await server.release();
