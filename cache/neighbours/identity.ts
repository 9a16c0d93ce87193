import { readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { InvalidError } from '../../dataset/errors.ts';

/** PEM files: this node's certificate (with what lies between it and the authority), its key, and the authority of all neighbours. */
export interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

export interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

/** A node's certificate as it is in its files at the moment. */
export interface IdentityKeeper {
  readonly current: Identity;
  /** Looks whether the files have changed; also done at intervals. */
  refresh(): void;
  close(): void;
}

export interface IdentityOptions {
  readonly files: IdentityFiles;
  /** In milliseconds. */
  readonly interval: number;
  readonly onChange: (identity: Identity) => void;
  readonly onWarning: (message: string) => void;
}

/** @throws InvalidError that names the file which does not serve */
export function openIdentity({ files, interval, onChange, onWarning }: IdentityOptions): IdentityKeeper {
  let seen = versionOf(files);
  let current = read(files);
  const refresh = () => {
    try {
      const version = versionOf(files);
      if (version === seen) return;
      // Where certificate and key are replaced one after the other, the next look finds both.
      current = read(files);
      seen = version;
    } catch (error) {
      onWarning(`the certificate for neighbours stays as it was: ${(error as Error).message}`);
      return;
    }
    onChange(current);
  };
  const timer = setInterval(refresh, interval);
  timer.unref();
  return {
    get current() {
      return current;
    },
    refresh,
    close: () => clearInterval(timer),
  };
}

function read({ certificate, key, authority }: IdentityFiles): Identity {
  const identity = { cert: fileOf(certificate), key: fileOf(key), ca: fileOf(authority) };
  try {
    createSecureContext(identity);
  } catch (error) {
    throw new InvalidError(
      `${certificate}, ${key} and ${authority} are no certificate, its key and its authority in PEM: ${(error as Error).message}`,
      { cause: error, facts: { certificate, key, authority } },
    );
  }
  return identity;
}

function fileOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new InvalidError(`${path} cannot be read: ${(error as Error).message}`, { cause: error, facts: { path } });
  }
}

function versionOf(files: IdentityFiles): string {
  return Object.values(files)
    .map((path) => statSync(path, { throwIfNoEntry: false }))
    .map((stats) => (stats === undefined ? 'gone' : `${stats.ino} ${stats.size} ${stats.mtimeMs}`))
    .join(', ');
}
