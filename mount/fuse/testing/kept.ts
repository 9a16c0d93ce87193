import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { contentOf, writeContentIds } from './contents.ts';
import type { DaemonOptions } from './daemon.ts';
import { type Running, start, startScript, threadStates } from './processes.ts';
import { createRig, type Rig, rigFile } from './rig.ts';

/** A rig of `f0`, `f1`, … with keepers and daemons as processes, all of which end with it. */
export interface Kept {
  readonly rig: Rig;
  readonly socket: string;
  /** The keeper; `patience` in ms. */
  keeper(patience?: number): Promise<Running>;
  /** Starts one, and waits until it prints `expected`. */
  daemon(options?: Partial<DaemonOptions>, expected?: string): Promise<Running>;
  track(running: Running): Running;
  printed(running: Running, text: string | RegExp): Promise<void>;
  kill(running: Running): Promise<void>;
  cat(path: string): Running;
  read(path: string): Promise<string>;
  /** Until it waits, in a way that a signal ends. */
  untilWaiting(running: Running): Promise<void>;
  cleanup(): Promise<void>;
}

export async function createKept(files: number): Promise<Kept> {
  const processes: Running[] = [];
  const rig = await createRig(Array.from({ length: files }, (_, index) => rigFile(`f${index}`, contentOf(index))));
  const directory = mkdtempSync(join(tmpdir(), 'larder-keeper-'));
  const socket = join(directory, 'keeper.sock');
  writeContentIds(join(directory, 'ids'), files);

  function track(running: Running): Running {
    processes.push(running);
    return running;
  }
  const printed = async (running: Running, text: string | RegExp) => {
    await expect.poll(() => running.output(), { timeout: 20_000, interval: 5 }).toMatch(text);
  };

  return {
    rig,
    socket,
    track,
    printed,
    async keeper(patience) {
      const running = track(startScript('keeper.ts', [socket, ...(patience === undefined ? [] : [String(patience)])]));
      await printed(running, 'keeping');
      return running;
    },
    async daemon(options = {}, expected = 'up:') {
      const given: DaemonOptions = {
        root: rig.root,
        socket,
        ids: join(directory, 'ids'),
        deadline: 60_000,
        delay: 0,
        ...options,
      };
      const running = track(startScript('daemon.ts', [JSON.stringify(given)]));
      await printed(running, expected);
      return running;
    },
    async kill(running) {
      running.child.kill('SIGKILL');
      await running.ended;
    },
    cat: (path) => track(start('cat', [path])),
    read: (path) => readFile(path).then(String),
    async untilWaiting(running) {
      await expect.poll(() => threadStates(running.pid), { timeout: 5000 }).toEqual(['S']);
      await sleep(100);
      expect(threadStates(running.pid)).toEqual(['S']);
    },
    async cleanup() {
      for (const { child, ended } of processes) {
        child.kill('SIGKILL');
        await ended;
      }
      await rig.cleanup();
      rmSync(directory, { recursive: true });
    },
  };
}

export const heldBy = (keeper: Running) => `the keeper, process ${keeper.pid}, holds the ring`;
