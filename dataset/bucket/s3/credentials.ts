import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isErrno, UnavailableError } from '../../errors.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When the client asks again. */
  readonly expiration: Date;
}

/** The client asks again five minutes before the end: so this asks the file system every few seconds. */
const VALID_MS = 5 * 60_000 + 5_000;

/**
 * What a client asks for its keys: reads the file or directory again whenever it asks.
 * @param place an AWS credentials file (its profile is AWS_PROFILE or `default`), or a directory with the files AWS_ACCESS_KEY_ID,
 *   AWS_SECRET_ACCESS_KEY and maybe AWS_SESSION_TOKEN
 */
export function credentialsFrom(place: string): () => Promise<Credentials> {
  return async () => {
    try {
      const keys = (await stat(place)).isDirectory() ? await readDirectory(place) : await readIni(place);
      return { ...keys, expiration: new Date(Date.now() + VALID_MS) };
    } catch (error) {
      if (error instanceof UnavailableError) throw error;
      throw new UnavailableError(`the credentials in ${place} cannot be read: ${(error as Error).message}`, {
        cause: error,
        facts: { credentials: place },
      });
    }
  };
}

type Keys = Omit<Credentials, 'expiration'>;

async function readDirectory(place: string): Promise<Keys> {
  // A Secret's files are links into a directory that is replaced as a whole: all are read from the same one.
  const folder = dirname(await realpath(join(place, 'AWS_ACCESS_KEY_ID')).catch(missing(place, 'AWS_ACCESS_KEY_ID')));
  const read = async (name: string) => (await readFile(join(folder, name), 'utf8')).trim();
  const accessKeyId = await read('AWS_ACCESS_KEY_ID');
  const secretAccessKey = await read('AWS_SECRET_ACCESS_KEY').catch(missing(place, 'AWS_SECRET_ACCESS_KEY'));
  const sessionToken = await read('AWS_SESSION_TOKEN').catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
}

function missing(place: string, name: string): (error: unknown) => never {
  return (error) => {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new UnavailableError(
      `the directory ${place} has no file ${name}: credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there`,
      { cause: error, facts: { credentials: place } },
    );
  };
}

async function readIni(place: string): Promise<Keys> {
  const wanted = process.env.AWS_PROFILE || 'default';
  const values: Record<string, string> = {};
  let profile = '';
  for (const line of (await readFile(place, 'utf8')).split('\n')) {
    const section = /^\s*\[\s*(?:profile\s+)?([^\]]*?)\s*\]/.exec(line);
    if (section !== null) profile = section[1]!;
    const pair = /^\s*(\w+)\s*=\s*(.*?)\s*$/.exec(line);
    if (pair !== null && profile === wanted) values[pair[1]!.toLowerCase()] = pair[2]!;
  }
  const { aws_access_key_id, aws_secret_access_key, aws_session_token } = values;
  if (!aws_access_key_id || !aws_secret_access_key)
    throw new UnavailableError(
      `the credentials file ${place} has no aws_access_key_id and aws_secret_access_key in [${wanted}]: AWS_PROFILE names another profile`,
      { facts: { credentials: place, profile: wanted } },
    );
  return {
    accessKeyId: aws_access_key_id,
    secretAccessKey: aws_secret_access_key,
    ...(aws_session_token ? { sessionToken: aws_session_token } : {}),
  };
}
