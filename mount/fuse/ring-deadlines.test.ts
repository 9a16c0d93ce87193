import { fstatSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { anonymousFile } from '../../system/calls.ts';
import { UNIQUE_RESENT } from './protocol.ts';
import { createDeadlines, lastChance } from './ring-deadlines.ts';
import { openWaitTable, type WaitSide } from './ring-wait-table.ts';
import { randomNumbers } from './testing/messages.ts';

const DEADLINE = 60_000;
const CHANCE = lastChance(DEADLINE);
const CONNECTION = 51;
const again = (unique: bigint) => unique | UNIQUE_RESENT;

/** Daemons and keepers that come one after the other to one memory, and a clock that stands still. */
function succession(slots?: number) {
  const memory = anonymousFile('test-waits');
  const clock = { time: 5_000_000 };
  const come = (side: WaitSide, connection = CONNECTION) =>
    createDeadlines({
      deadline: DEADLINE,
      table: openWaitTable(memory, connection, side, slots),
      serving: side === 'daemon',
      now: () => clock.time,
    });
  return { memory, clock, daemon: () => come('daemon'), keeper: () => come('keeper'), come };
}

describe('the deadline of a request that waits', () => {
  it('begins when it comes first, and goes on in each daemon and keeper that is sent it again', () => {
    const { clock, daemon, keeper } = succession();
    expect(daemon().begin(2n)).toBe(DEADLINE);
    clock.time += 10_000;
    expect(keeper().begin(again(2n))).toBe(50_000);
    clock.time += 10_000;
    const next = daemon();
    expect(next.begin(again(2n))).toBe(40_000);
    expect(next.counters()).toEqual({ carried: 1, lastChances: 0, unwritten: 0 });
    expect(next.begin(4n)).toBe(DEADLINE);
  });

  it('is its own where it has one, also in the next daemon; in the keeper it is that of all', () => {
    const { clock, daemon, keeper } = succession();
    const first = daemon();
    expect([first.begin(2n, 5_000), first.begin(4n, 600_000)]).toEqual([5_000, 600_000]);
    clock.time += 4_000;
    const next = daemon();
    // Of the short one, no more than a quarter is given as a last chance.
    expect([next.begin(again(2n), 5_000), next.begin(again(4n), 600_000)]).toEqual([1_250, 596_000]);
    expect(keeper().begin(again(4n))).toBe(56_000);
  });

  it('begins in the keeper where that got it first', () => {
    const { clock, daemon, keeper } = succession();
    keeper().begin(2n);
    clock.time += 10_000;
    expect(daemon().begin(again(2n))).toBe(50_000);
    clock.time += 10_000;
    expect(keeper().begin(again(2n))).toBe(40_000);
  });

  it('ends in the keeper without more', () => {
    const { clock, daemon, keeper } = succession();
    daemon().begin(2n);
    clock.time += DEADLINE - 1;
    expect(keeper().begin(again(2n))).toBe(1);
    clock.time += 2;
    expect(keeper().begin(again(2n))).toBe(0);
  });

  it('has a last chance in a daemon that has just come up, once, however many come after it', () => {
    const { clock, daemon, keeper } = succession();
    daemon().begin(2n);
    clock.time += DEADLINE - 10;
    const second = daemon();
    expect(second.begin(again(2n))).toBe(CHANCE);
    expect(second.counters()).toEqual({ carried: 1, lastChances: 1, unwritten: 0 });
    clock.time += CHANCE - 100;
    expect(keeper().begin(again(2n))).toBe(100);
    const third = daemon();
    expect(third.begin(again(2n))).toBe(100);
    expect(third.counters()).toEqual({ carried: 1, lastChances: 0, unwritten: 0 });
    clock.time += 200;
    expect(daemon().begin(again(2n))).toBe(0);
  });

  it('is at most one deadline and one last chance all in all, whoever comes and goes', () => {
    const random = randomNumbers(7);
    for (let round = 0; round < 200; round += 1) {
      const { clock, daemon, keeper } = succession(8);
      const began = clock.time;
      let left = (random(2) === 0 ? daemon() : keeper()).begin(2n);
      while (left > 0) {
        clock.time += random(Math.ceil(left) + 1);
        left = (random(3) > 0 ? daemon() : keeper()).begin(again(2n));
        expect(clock.time + left).toBeLessThanOrEqual(began + DEADLINE + CHANCE);
      }
    }
  });

  it('is as long as before without a table', () => {
    const deadlines = createDeadlines({ deadline: DEADLINE, serving: true });
    expect([deadlines.begin(2n), deadlines.begin(again(2n))]).toEqual([DEADLINE, DEADLINE]);
    expect(deadlines.counters()).toEqual({ carried: 0, lastChances: 0, unwritten: 0 });
  });

  it('goes on where an answer was refused: the request may be sent again under another number', () => {
    const { clock, daemon } = succession();
    const one = daemon();
    one.begin(2n);
    clock.time += 20_000;
    one.end(2n, false);
    expect(one.begin(again(2n))).toBe(40_000);
    one.end(2n, true);
    expect(one.begin(again(2n))).toBe(DEADLINE);
  });

  it('is found by who has the table open when another writes it', () => {
    const { clock, daemon, keeper } = succession();
    const [stopped, beside] = [daemon(), keeper()];
    stopped.begin(2n);
    clock.time += 10_000;
    expect(beside.begin(again(2n))).toBe(50_000);
    beside.begin(4n);
    clock.time += 10_000;
    expect(stopped.begin(again(4n))).toBe(50_000);
  });
});

describe('what was written of the waits', () => {
  it('is not believed by a ring on another connection, nor where it is of a time to come', () => {
    const { clock, daemon, come } = succession();
    daemon().begin(2n);
    clock.time += 10_000;
    expect(come('daemon', CONNECTION + 1).begin(again(2n))).toBe(DEADLINE);
    const other = succession();
    other.daemon().begin(2n);
    other.clock.time -= 1000;
    expect(other.daemon().begin(again(2n))).toBe(DEADLINE);
  });

  it('is not believed where any byte of it is another', () => {
    const { memory, clock, daemon } = succession();
    daemon().begin(2n);
    clock.time += 10_000;
    const whole = Buffer.alloc(fstatSync(memory).size);
    readSync(memory, whole, 0, whole.length, 0);
    const restore = () => writeSync(memory, whole, 0, whole.length, 0);
    for (let at = 0; at < 28; at += 1) {
      restore();
      writeSync(memory, Buffer.from([whole[at]! ^ 0x11]), 0, 1, at);
      expect([at, daemon().begin(again(2n))]).toEqual([at, DEADLINE]);
    }
    restore();
    expect(daemon().begin(again(2n))).toBe(50_000);
  });

  it('is not believed where it was cut short at any byte', () => {
    const { memory, clock, daemon } = succession();
    daemon().begin(2n);
    const before = Buffer.alloc(32);
    readSync(memory, before, 0, 32, 0);
    clock.time += 10_000;
    for (let length = 1; length < 28; length += 1) {
      const torn = Buffer.alloc(32);
      before.copy(torn, 0, 0, length);
      // What is left of the check may be zeros by chance.
      if (torn.equals(before)) continue;
      writeSync(memory, torn, 0, 32, 0);
      expect([length, daemon().begin(again(2n))]).toEqual([length, DEADLINE]);
    }
  });

  it('has room for so many; the others begin anew in the next daemon, and are counted', () => {
    const { clock, daemon } = succession(4);
    const first = daemon();
    for (let unique = 2n; unique <= 12n; unique += 2n) first.begin(unique);
    expect(first.counters().unwritten).toBe(2);
    clock.time += 10_000;
    const second = daemon();
    const left = [2n, 4n, 6n, 8n, 10n, 12n].map((unique) => second.begin(again(unique)));
    expect(left).toEqual([50_000, 50_000, 50_000, 50_000, DEADLINE, DEADLINE]);
  });

  it('makes room when a request is answered, and when it must be over', () => {
    const { clock, daemon } = succession(2);
    const first = daemon();
    first.begin(2n);
    first.begin(4n);
    first.end(2n, true);
    first.begin(6n);
    expect(first.counters().unwritten).toBe(0);
    // Nobody tells the next one that these two have ended.
    const second = daemon();
    second.begin(8n);
    expect(second.counters().unwritten).toBe(1);
    clock.time += 2 * DEADLINE + 1;
    second.begin(10n);
    second.begin(12n);
    expect(second.counters().unwritten).toBe(1);
    clock.time += 2 * DEADLINE + 1;
    second.begin(14n);
    expect(second.counters().unwritten).toBe(2);
  });

  it('gives no last chance that cannot be written down', () => {
    const { clock, daemon, keeper } = succession(1);
    daemon().begin(2n);
    keeper().begin(4n);
    clock.time += DEADLINE - 10;
    const next = daemon();
    expect(next.begin(again(4n))).toBe(10);
    expect(next.begin(again(2n))).toBe(CHANCE);
  });

  it('takes memory only where it is used, and does not grow', () => {
    const { memory, daemon } = succession();
    const one = daemon();
    for (let unique = 2n; unique < 10_000n; unique += 2n) {
      one.begin(unique);
      one.end(unique, true);
    }
    expect(fstatSync(memory).size).toBe(32);
  });
});
