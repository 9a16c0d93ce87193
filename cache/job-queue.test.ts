import { describe, expect, it } from 'vitest';
import type { Repository } from '../dataset/repository.ts';
import type { CrewJob } from './crew-protocol.ts';
import { JobQueue, type Priority, type QueuedTask } from './job-queue.ts';

const repository = { id: 'r', location: '/r' } as Repository;

/** A crew that does nothing until it is told that a job has ended. */
function idleCrew() {
  const running = new Map<string, { end(error?: Error): void; aborted?: unknown }>();
  const begun: string[] = [];
  return {
    running,
    begun,
    run(_: Repository, task: CrewJob) {
      const { pack } = task as unknown as { pack: string };
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const job: { end(error?: Error): void; aborted?: unknown } = {
        end: (error) => {
          running.delete(pack);
          if (error) reject(error);
          else resolve();
        },
      };
      running.set(pack, job);
      begun.push(pack);
      return {
        done: promise,
        fraction: 0,
        bytesRead: 0,
        bytesLeft: 10,
        abort: (reason: unknown) => job.end(reason as Error),
      };
    },
  };
}

function task(name: string, more: Partial<QueuedTask> = {}): QueuedTask {
  return { task: { kind: 'pack', pack: name } as unknown as CrewJob, memory: 10, small: false, ...more };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function queueOf(jobs: number, memory = 1000) {
  const crew = idleCrew();
  const queue = new JobQueue(crew, { jobs: () => jobs, memory });
  const share = (name: string, priority: Priority, more?: Partial<QueuedTask>) =>
    queue.share(name, repository, task(name, more), priority);
  return { crew, queue, share };
}

describe('the queue of jobs', () => {
  it('begins what somebody waits for first, then what comes next, then what is fetched ahead', async () => {
    const { crew, queue, share } = queueOf(1);
    share('first', 'prefetch');
    await turn();
    share('a', 'prefetch');
    share('b', 'next');
    share('c', 'urgent');
    share('d', 'next').hurry('urgent');
    await turn();
    expect(queue.stats()).toEqual({ queued: { urgent: 2, next: 1, prefetch: 1 }, running: 1, bytesInFlight: 10 });
    for (const name of ['first', 'c', 'd', 'b', 'a']) {
      crew.running.get(name)!.end();
      await turn();
    }
    expect(crew.begun).toEqual(['first', 'c', 'd', 'b', 'a']);
    expect(queue.stats()).toEqual({ queued: { urgent: 0, next: 0, prefetch: 0 }, running: 0, bytesInFlight: 0 });
  });

  it('begins what most wait for before what fewer wait for', async () => {
    const { crew, share } = queueOf(1);
    share('first', 'urgent');
    await turn();
    share('few', 'urgent');
    for (let count = 0; count < 3; count += 1) share('many', 'urgent');
    crew.running.get('first')!.end();
    await turn();
    expect(crew.begun).toEqual(['first', 'many']);
  });

  it('keeps a place for those who wait', async () => {
    const { crew, share } = queueOf(3);
    for (const name of ['a', 'b', 'c', 'd']) share(name, 'prefetch');
    await turn();
    expect(crew.begun).toEqual(['a', 'b']);
    share('e', 'urgent');
    await turn();
    expect(crew.begun).toEqual(['a', 'b', 'e']);
  });

  it('does not hold more than it may, but for one job, and has small ones not wait for others', async () => {
    const { crew, share } = queueOf(9, 100);
    share('large', 'urgent', { memory: 500 });
    await turn();
    share('other', 'urgent', { memory: 10 });
    share('small', 'urgent', { memory: 10, small: true });
    await turn();
    expect(crew.begun).toEqual(['large', 'small']);
    crew.running.get('large')!.end();
    await turn();
    expect(crew.begun).toEqual(['large', 'small', 'other']);
  });

  it('drops what nobody wants any more, and finishes what has served somebody', async () => {
    const { crew, queue, share } = queueOf(1);
    const running = share('running', 'urgent');
    await turn();
    const waiting = share('waiting', 'urgent');
    waiting.leave(false);
    await expect(waiting.done).rejects.toThrow('nobody wants it any more');
    running.leave(true);
    expect(crew.running.has('running')).toBe(true);
    crew.running.get('running')!.end();
    await turn();
    const other = share('other', 'urgent');
    await turn();
    other.leave(false);
    await expect(other.done).rejects.toThrow('nobody wants it any more');
    expect(queue.has('other')).toBe(false);
  });

  it('makes a task that gathers only when it is begun', async () => {
    const { crew, share } = queueOf(1);
    share('first', 'urgent');
    await turn();
    const gathered = ['x'];
    share('gathering', 'urgent', { task: () => ({ kind: 'pack', pack: gathered.join() }) as unknown as CrewJob });
    gathered.push('y');
    await turn();
    crew.running.get('first')!.end();
    await turn();
    expect(crew.begun).toEqual(['first', 'x,y']);
  });
});
