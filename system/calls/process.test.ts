import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

describe('a process that lets all others go first', () => {
  it('uses the disk in the idle class, and so does what it starts', () => {
    const module = JSON.stringify(join(import.meta.dirname, 'process.ts'));
    const program = `
      import { execFileSync } from 'node:child_process';
      import { useDiskWhenIdle } from ${module};
      useDiskWhenIdle();
      console.log(String(execFileSync('ionice')));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
    expect(output.trim()).toBe('idle');
  });
});
