import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FAULT_POINTS } from '../system/fault.ts';

const root = resolve(import.meta.dirname, '..');

/** What each folder may import besides itself: dependencies point one way. */
const layers: Record<string, readonly string[]> = {
  system: [],
  dataset: ['system'],
  cache: ['dataset', 'system'],
  mount: ['dataset', 'system'],
  node: ['cache', 'mount', 'dataset', 'system'],
  controller: ['dataset', 'system'],
  csi: ['node', 'controller', 'dataset', 'system'],
  cli: ['csi', 'node', 'controller', 'cache', 'mount', 'dataset', 'system'],
};

/** The one place that may import each big library. */
const owners: Record<string, RegExp> = {
  koffi: /^system\/calls/,
  'better-sqlite3': /^system\/database\.ts$/,
  '@grpc/grpc-js': /^csi\//,
  '@grpc/proto-loader': /^csi\//,
  commander: /^cli\//,
  '@aws-sdk/client-s3': /^dataset\/bucket\/s3/,
  '@kubernetes/client-node': /^controller\//,
  pino: /^(cli|node)\//,
  'prom-client': /^node\//,
  '@opentelemetry/api': /^node\//,
  '@opentelemetry/sdk-trace': /^node\//,
  '@opentelemetry/resources': /^node\//,
  '@opentelemetry/exporter-trace-otlp-http': /^node\//,
};

interface Import {
  readonly from: string;
  readonly to: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const specifiers = [
    ...text.matchAll(/\bfrom\s+'([^']+)'/g),
    ...text.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g),
    ...text.matchAll(/^import\s+'([^']+)'/gm),
  ].map((match) => match[1] as string);
  return specifiers.map((specifier) => ({
    from: file,
    to: specifier.startsWith('.') ? relative(root, resolve(root, dirname(file), specifier)) : specifier,
  }));
}

const isTest = (file: string) => file.endsWith('.test.ts');
const files = Object.keys(layers).flatMap(sources);
const imports = files.flatMap(importsOf);

describe('the architecture', () => {
  it('has imports to check in every folder', () => {
    for (const folder of Object.keys(layers)) {
      expect(files.filter((file) => file.startsWith(`${folder}/`)).length, folder).toBeGreaterThan(0);
    }
  });

  it('lets dependencies point one way only', () => {
    const wrong = imports.filter(({ from, to }) => {
      const source = from.split('/')[0] as string;
      const target = to.split('/')[0] as string;
      if (target === source || !(target in layers || target === 'test')) return false;
      if (target === 'test') return !isTest(from);
      // A test may bring in the real parts that its subject is joined to.
      return !isTest(from) && !(layers[source] as readonly string[]).includes(target);
    });
    expect(wrong).toEqual([]);
  });

  it('gives each big library one owner', () => {
    const wrong = imports.filter(({ from, to }) => owners[to] !== undefined && !owners[to].test(from));
    expect(wrong).toEqual([]);
  });

  it('has each fault point in one place', () => {
    const passed = files
      .filter((file) => !isTest(file))
      .flatMap((file) => [...readFileSync(join(root, file), 'utf8').matchAll(/\bfaultPoint\('([^']+)'\)/g)])
      .map(([, name]) => name as string);
    expect(passed.sort()).toEqual([...FAULT_POINTS].sort());
  });

  it('starts threads in one place', () => {
    const starters = files.filter(
      (file) => !isTest(file) && /\bnew Worker\(/.test(readFileSync(join(root, file), 'utf8')),
    );
    expect(starters).toEqual(['system/thread.ts']);
  });
});
