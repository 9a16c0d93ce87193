import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { classify, interruptionOf } from './ring-signals.ts';

function status(masks: {
  own?: number[];
  shared?: number[];
  blocked?: number[];
  ignored?: number[];
  caught?: number[];
}) {
  const line = (name: string, signals: number[] = []) => {
    const mask = signals.reduce((sum, signal) => sum | (1n << BigInt(signal - 1)), 0n);
    return `${name}:\t${mask.toString(16).padStart(16, '0')}\n`;
  };
  return [
    'Name:\tcat\nState:\tD (disk sleep)\nSigQ:\t1/95961\n',
    line('SigPnd', masks.own),
    line('ShdPnd', masks.shared),
    line('SigBlk', masks.blocked),
    line('SigIgn', masks.ignored),
    line('SigCgt', masks.caught),
    'CapInh:\t0000000000000000\n',
  ].join('');
}

const [HUP, INT, QUIT, KILL, SEGV, ALRM, TERM, CHLD, STOP, URG, PROF] = [1, 2, 3, 9, 11, 14, 15, 17, 19, 23, 27];

describe('an interrupted thread', () => {
  it('is dying once a SIGKILL is pending, whatever it blocks', () => {
    expect(classify(status({ own: [KILL], blocked: [INT, TERM] }))).toBe('dying');
  });

  it('is asked to end by a signal that it handles: hang-up, interrupt, quit, alarm, termination', () => {
    for (const signal of [HUP, INT, QUIT, ALRM, TERM])
      for (const masks of [{ own: [signal] }, { shared: [signal] }])
        expect(classify(status({ ...masks, caught: [signal] }))).toBe('asked');
  });

  it('is asked to end by a signal that would kill it with a core dump', () => {
    expect(classify(status({ own: [QUIT] }))).toBe('asked');
    expect(classify(status({ shared: [SEGV] }))).toBe('asked');
    expect(classify(status({ shared: [SEGV], caught: [SEGV] }))).toBe('busy');
  });

  it('is busy with a child that ended, a profiler, a stop, a blocked or ignored signal, or none', () => {
    expect(classify(status({ shared: [CHLD], caught: [CHLD] }))).toBe('busy');
    expect(classify(status({ own: [URG, PROF], caught: [URG, PROF] }))).toBe('busy');
    expect(classify(status({ shared: [STOP] }))).toBe('busy');
    expect(classify(status({ shared: [INT], blocked: [INT], caught: [INT] }))).toBe('busy');
    expect(classify(status({ shared: [INT], ignored: [INT] }))).toBe('busy');
    expect(classify(status({}))).toBe('busy');
  });

  it('is busy while it lives and dying once it is gone, by its number', async () => {
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    const pid = child.pid!;
    expect(interruptionOf(pid)).toBe('busy');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(interruptionOf(pid)).toBe('dying');
  });

  it('is let go where its number is unknown', () => {
    expect(interruptionOf(0)).toBe('asked');
  });
});
