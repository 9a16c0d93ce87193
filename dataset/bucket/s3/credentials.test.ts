import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UnavailableError } from '../../errors.ts';
import { credentialsFrom } from './credentials.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'larder-credentials-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** As the kubelet writes a Secret: files are links into a directory whose link is replaced in one step. */
function writeSecret(generation: string, values: Readonly<Record<string, string>>): void {
  const folder = join(directory, `..${generation}`);
  mkdirSync(folder);
  for (const [name, value] of Object.entries(values)) {
    writeFileSync(join(folder, name), value);
    rmSync(join(directory, name), { force: true });
    symlinkSync(join('..data', name), join(directory, name));
  }
  symlinkSync(`..${generation}`, join(directory, '..data_tmp'));
  renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
}

test("a mounted Secret's values are read again when it is replaced", async () => {
  const read = credentialsFrom(directory);
  writeSecret('1', { AWS_ACCESS_KEY_ID: 'one\n', AWS_SECRET_ACCESS_KEY: 'secret-1' });
  expect(await read()).toMatchObject({ accessKeyId: 'one', secretAccessKey: 'secret-1' });
  expect((await read()).sessionToken).toBeUndefined();
  writeSecret('2', { AWS_ACCESS_KEY_ID: 'two', AWS_SECRET_ACCESS_KEY: 'secret-2', AWS_SESSION_TOKEN: 'token' });
  expect(await read()).toMatchObject({ accessKeyId: 'two', secretAccessKey: 'secret-2', sessionToken: 'token' });
});

test('they are good for a few seconds beyond the five minutes in which the client asks again', async () => {
  writeSecret('1', { AWS_ACCESS_KEY_ID: 'one', AWS_SECRET_ACCESS_KEY: 'secret-1' });
  const left = (await credentialsFrom(directory)()).expiration.getTime() - Date.now();
  expect(left).toBeGreaterThan(5 * 60_000 - 1000);
  expect(left).toBeLessThan(6 * 60_000);
});

test('a directory or file that lacks something says what, and repeats no secret', async () => {
  await expect(credentialsFrom(directory)()).rejects.toThrow(`${directory} has no file AWS_ACCESS_KEY_ID`);
  writeFileSync(join(directory, 'AWS_ACCESS_KEY_ID'), 'x');
  await expect(credentialsFrom(directory)()).rejects.toThrow('has no file AWS_SECRET_ACCESS_KEY');
  await expect(credentialsFrom(join(directory, 'none'))()).rejects.toThrow(UnavailableError);
  const file = join(directory, 'credentials');
  writeFileSync(file, '[other]\naws_access_key_id = a\naws_secret_access_key = topsecret\n');
  await expect(credentialsFrom(file)()).rejects.toThrow('in [default]');
  await expect(credentialsFrom(file)()).rejects.not.toThrow('topsecret');
});

test('a credentials file gives the keys of its default profile', async () => {
  const file = join(directory, 'credentials');
  writeFileSync(
    file,
    '# mine\n[other]\naws_access_key_id=no\naws_secret_access_key=no\n\n[default]\naws_access_key_id = AKIA\naws_secret_access_key = a/b=c+d==\n',
  );
  const keys = await credentialsFrom(file)();
  expect(keys).toMatchObject({ accessKeyId: 'AKIA', secretAccessKey: 'a/b=c+d==' });
});
