import { describe, expect, it } from 'vitest';
import { COMMANDS, wantedBy } from './commands.ts';

const names = Object.values(COMMANDS).flatMap((commands) => Object.keys(commands));
const wanted = (...argv: string[]) => names.filter(wantedBy(argv));

describe('the commands that a command line needs', () => {
  it('is the one that it names, wherever options stand', () => {
    expect(wanted('list', 'photos')).toEqual(['list']);
    expect(wanted('--json', '--repository', '/srv/data', 'log', 'list')).toEqual(['log']);
    expect(wanted('--repository=/srv/data', 'status', '--help')).toEqual(['status']);
  });

  it('is not what only looks like a command', () => {
    expect(wanted('--repository', 'list', 'status')).toEqual(['status']);
    expect(wanted('constructor')).toEqual(names);
  });

  it('is all of them for help, and to say what was meant by a name that none has', () => {
    for (const argv of [[], ['--help'], ['help', 'list'], ['lisst', 'list']]) expect(wanted(...argv)).toEqual(names);
  });

  it('is none where the version is asked for', () => {
    expect(wanted('--json', '--version')).toEqual([]);
    expect(wanted('-V', 'list')).toEqual([]);
  });
});
