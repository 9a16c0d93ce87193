import { resolve } from 'node:path';
import { InvalidError } from '../../errors.ts';
import { nearestName } from '../../names.ts';

/*
 * s3://BUCKET[/PREFIX][?PARAMETER=VALUE&…]
 * Prefix, names and values are percent-encoded where they must be. What is left out comes from the environment and the profile,
 * as with other programs. No secret is ever part of it: it is shown, logged and recorded.
 */

export interface S3Location {
  readonly bucket: string;
  /** Without a slash at either end; empty for the whole bucket. */
  readonly prefix: string;
  readonly options: S3Options;
}

export interface S3Options {
  /** An `http://` or `https://` URL. */
  readonly endpoint?: string;
  readonly region?: string;
  /** The bucket in the URL's path instead of in its host name. */
  readonly pathStyle?: boolean;
  /** Encryption at rest that writes ask for. */
  readonly sse?: 'AES256' | 'aws:kms';
  readonly sseKey?: string;
  readonly storageClass?: string;
  /** Of objects that are written: a query string. */
  readonly tags?: string;
  /** In the AWS configuration files. */
  readonly profile?: string;
  /** An AWS credentials file, or a directory that has a file for each value (a mounted Kubernetes Secret). Absolute. */
  readonly credentials?: string;
  /** At most so many requests are in flight. */
  readonly requests?: number;
}

export const DEFAULT_REQUESTS = 32;

type Fields = { -readonly [field in keyof S3Options]: S3Options[field] };

interface Parameter {
  read(value: string, into: Fields): void;
  /** Undefined where it has its default. */
  write(options: S3Options): string | undefined;
}

const PARAMETERS: Readonly<Record<string, Parameter>> = {
  credentials: {
    read: (value, into) => {
      into.credentials = resolve(value);
    },
    write: ({ credentials }) => credentials,
  },
  endpoint: {
    read: (value, into) => {
      into.endpoint = endpointOf(value);
    },
    write: ({ endpoint }) => endpoint,
  },
  'path-style': {
    read: (value, into) => {
      if (value !== 'true' && value !== 'false') throw wrong('path-style', value, 'true or false');
      into.pathStyle = value === 'true';
    },
    write: ({ pathStyle }) => (pathStyle ? 'true' : undefined),
  },
  profile: text('profile', 'profile', /^[^\s\p{Cc}]+$/u, 'the name of a profile'),
  region: text('region', 'region', /^[a-z0-9-]+$/i, "a region such as 'us-east-1'"),
  requests: {
    read: (value, into) => {
      const requests = Number(value);
      if (!/^\d+$/.test(value) || requests < 1 || requests > 10_000) throw wrong('requests', value, 'from 1 to 10000');
      into.requests = requests;
    },
    write: ({ requests }) => (requests === undefined || requests === DEFAULT_REQUESTS ? undefined : String(requests)),
  },
  sse: {
    read: (value, into) => {
      if (value !== 'AES256' && value !== 'aws:kms') throw wrong('sse', value, 'AES256 or aws:kms');
      into.sse = value;
    },
    write: ({ sse }) => sse,
  },
  'sse-key': text('sse-key', 'sseKey', /^[\w:/+=.@-]+$/, 'the id or ARN of a key'),
  'storage-class': text('storage-class', 'storageClass', /^[A-Z0-9_]+$/, "a storage class such as 'STANDARD_IA'"),
  tags: {
    read: (value, into) => {
      if (!value.split('&').every((pair) => /^[\w.~%+:/@-]+=[\w.~%+:/@-]*$/.test(pair)))
        throw wrong('tags', value, "'key=value&key=value', with other characters percent-encoded");
      into.tags = value;
    },
    write: ({ tags }) => tags,
  },
};

export function isS3Location(location: string): boolean {
  return /^s3:\/\//i.test(location);
}

/** An InvalidError names what is wrong, and for a parameter that does not exist the nearest that does. */
export function parseS3Location(location: string): S3Location {
  const [, bucket = '', path = '', query = ''] = /^s3:\/\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/is.exec(location) ?? [];
  if (bucket.includes('@'))
    throw new InvalidError(
      "an s3:// location has no user and password: give keys by the AWS environment, a profile, or 'credentials=FILE'",
    );
  if (!/^[a-z0-9A-Z][\w.-]{0,254}$/.test(bucket))
    throw new InvalidError(`'${bucket}' is no name of a bucket: a location is s3://BUCKET/PREFIX`, {
      facts: { bucket },
    });
  const prefix = path
    .split('/')
    .filter((part) => part !== '')
    .map((part) => decoded(part, 'prefix'))
    .join('/');
  if (prefix.split('/').some((part) => part === '.' || part === '..') || Buffer.byteLength(prefix) > 512)
    throw new InvalidError(
      `'${prefix}' cannot be a prefix in a bucket: no part is '.' or '..', and it has 512 bytes at most`,
    );
  const options: Fields = {};
  const seen = new Set<string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = equals < 0 ? pair : pair.slice(0, equals);
    const parameter = Object.hasOwn(PARAMETERS, name) ? PARAMETERS[name] : undefined;
    if (parameter === undefined) throw unknown(name);
    if (seen.has(name)) throw new InvalidError(`'${name}' is twice in the location of s3://${bucket}`);
    seen.add(name);
    const value = equals < 0 ? '' : decoded(pair.slice(equals + 1), name);
    if (value === '') throw wrong(name, value, 'a value, or leave it out');
    parameter.read(value, options);
  }
  if (options.sseKey !== undefined && options.sse !== 'aws:kms')
    throw new InvalidError("'sse-key' goes with 'sse=aws:kms'");
  if (options.profile !== undefined && options.credentials !== undefined)
    throw new InvalidError("give 'profile' or 'credentials', not both");
  return { bucket, prefix, options };
}

/** The one way to write a location: parameters sorted, defaults left out. */
export function formatS3Location({ bucket, prefix, options }: S3Location): string {
  const query = Object.entries(PARAMETERS)
    .map(([name, parameter]) => [name, parameter.write(options)] as const)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeValue(value!)}`)
    .join('&');
  const path = prefix === '' ? '' : `/${prefix.split('/').map(encodePart).join('/')}`;
  return `s3://${bucket}${path}${query === '' ? '' : `?${query}`}`;
}

function text(
  name: string,
  field: 'profile' | 'region' | 'sseKey' | 'storageClass',
  form: RegExp,
  expected: string,
): Parameter {
  return {
    read: (value, into) => {
      if (!form.test(value)) throw wrong(name, value, expected);
      into[field] = value;
    },
    write: (options) => options[field],
  };
}

function endpointOf(value: string): string {
  const url = URL.parse(value);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '')
    throw wrong('endpoint', url?.username ? '…' : value, "a URL such as 'https://s3.example.com'");
  if (url.username !== '' || url.password !== '')
    throw new InvalidError(
      `the endpoint ${url.host} has no user and password: give keys by the AWS environment, a profile, or 'credentials=FILE'`,
    );
  return url.href.replace(/\/+$/, '');
}

function decoded(value: string, name: string): string {
  try {
    return decodeURIComponent(value);
  } catch (error) {
    throw new InvalidError(`'${value}' (${name}) is not percent-encoded: write '%' as '%25'`, { cause: error });
  }
}

/** As `encodeURIComponent`, but what a query's value may have stays readable. */
function encodeValue(value: string): string {
  return encodeURIComponent(value).replace(/%(3A|2F|40|2C)/g, decodeURIComponent);
}

function encodePart(part: string): string {
  return encodeURIComponent(part).replace(/%(3A|40|2C|3D|2B|24)/g, decodeURIComponent);
}

function unknown(name: string): InvalidError {
  const nearest = nearestName(name, Object.keys(PARAMETERS));
  const known =
    nearest === undefined ? `there are ${Object.keys(PARAMETERS).join(', ')}` : `did you mean '${nearest}'?`;
  return new InvalidError(`an s3:// location has no parameter '${name}': ${known}`, { facts: { parameter: name } });
}

function wrong(name: string, value: string, expected: string): InvalidError {
  return new InvalidError(`'${value}' cannot be '${name}' of an s3:// location: it must be ${expected}`, {
    facts: { parameter: name },
  });
}
