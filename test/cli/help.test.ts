import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { pathOf } from '../../cli/help.ts';
import { createProgram } from '../../cli/program.ts';
import { createWorld } from './support.ts';

const { larder, ok, documents } = createWorld();

const silent = { write: () => true, once: () => {} };
const whole = await createProgram(
  () => {
    throw new Error('nothing is run here');
  },
  { stdout: silent, stderr: silent },
);

function* leaves(command: Command): Generator<Command> {
  if (command.commands.length === 0) yield command;
  for (const child of command.commands) yield* leaves(child);
}

describe('help', () => {
  it('groups the commands, and has one line for each', () => {
    const help = ok('--help');
    for (const group of [
      'Repository:',
      'Versions:',
      'Names:',
      'Mounts and workspaces:',
      "The node's cache:",
      'Daemons:',
    ]) {
      expect(help).toContain(`\n${group}\n`);
    }
    for (const command of whole.commands) {
      expect(help).toMatch(new RegExp(`^  ${command.name()}\\b.* {2}${command.summary().slice(0, 12)}`, 'm'));
    }
    for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('has a description and at least one example for every command', () => {
    for (const command of leaves(whole)) {
      let help = '';
      command.configureOutput({
        writeOut: (text) => {
          help += text;
        },
      });
      command.outputHelp();
      expect(command.description(), pathOf(command)).not.toBe('');
      expect(help, pathOf(command)).toContain(`\nExamples:\n  # `);
      expect(help, pathOf(command)).toContain(`\n  ${pathOf(command)}`);
    }
  });

  it('is the same asked for in either way', () => {
    expect(ok('help', 'list')).toBe(ok('list', '--help'));
    expect(ok('tag', 'help', 'create')).toBe(ok('tag', 'create', '-h'));
  });

  it('documents every command in docs/command-line.md', () => {
    const text = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'command-line.md'), 'utf8');
    for (const command of leaves(whole)) {
      const words = pathOf(command).replace(/^larder /, '');
      expect(text, words).toMatch(new RegExp(`\`${words}[ \`]`));
    }
  });

  it('prints the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(ok('--version')).toBe(`${version}\n`);
  });
});

describe('wrong use', () => {
  it('prints help and ends with 2 where there is no command', () => {
    for (const args of [[], ['tag'], ['cache'], ['repository']]) {
      const { status, stdout, stderr } = larder(...args);
      expect(status).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).toContain('Usage: larder');
    }
  });

  it('suggests the nearest command and option', () => {
    expect(larder('lst')).toMatchObject({
      status: 2,
      stdout: '',
      stderr: "larder: unknown command 'lst'\n(Did you mean list?)\nSee 'larder --help'.\n",
    });
    expect(larder('tag', 'crate')).toMatchObject({
      status: 2,
      stderr: "larder: unknown command 'crate'\n(Did you mean create?)\nSee 'larder tag --help'.\n",
    });
    expect(larder('list', '--jsn').stderr).toContain('Did you mean --json?');
  });

  it('names what is missing, what is too much, and what is no size', () => {
    expect(larder('show')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("missing required argument 'name'"),
    });
    expect(larder('show', 'a', 'b')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('too many arguments'),
    });
    expect(larder('mount', 'a', '/b', '--capacity', 'much')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('such as 20G'),
    });
  });

  it('is a document on standard error with --json', () => {
    const { status, stdout, stderr } = larder('show', 'emoji', '--json');
    expect({ status, stdout }).toEqual({ status: 3, stdout: '' });
    expect(JSON.parse(stderr)).toMatchObject({ error: { kind: 'not-found', exitStatus: 3, facts: {} } });
    expect(JSON.parse(larder('--json', 'lst').stderr)).toMatchObject({ error: { kind: 'invalid', exitStatus: 2 } });
  });
});

describe('a repository', () => {
  it('is missed with the command that makes it', () => {
    const { status, stderr } = larder('list');
    expect(status).toBe(3);
    expect(stderr).toContain("'larder repository init");
  });

  it('is made once, and made again stays as it is', () => {
    const [made] = documents('repository', 'init');
    const [again] = documents('repository', 'init');
    expect(made).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      location: expect.stringMatching(/\/repository$/),
    });
    expect(again).toEqual(made);
    expect(ok('repository', 'init')).toBe(`repository ${made!.id} at ${made!.location}\n`);
  });

  it('begins empty', () => {
    expect(documents('list')).toEqual([]);
    expect(documents('repository', 'show')).toMatchObject([{ datasets: 0, objects: 0, bytes: 0 }]);
  });

  it('is not made in a store that nobody knows, with a parameter that nothing reads, nor in a folder of something else', () => {
    const store = larder('repository', 'init', 'ftp://bucket/prefix');
    expect(store.status).toBe(2);
    expect(store.stderr).toContain('ftp://');
    const parameter = larder('repository', 'init', 's3://bucket/prefix?regoin=eu-central-1');
    expect(parameter.status).toBe(2);
    expect(parameter.stderr).toContain("'region'");
    expect(larder('repository', 'init', '/usr').status).toBe(2);
  });
});
