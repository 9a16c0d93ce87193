import { setTimeout as sleep } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';
import { LarderError } from '../../errors.ts';
import { Meter } from '../metrics.ts';
import { makeClient } from './client.ts';
import { type Asked, errorOf, type Where } from './errors.ts';
import { asksForLess, type Failure, failureOf, isTransient, isUnreached, mayBeAboutKeys } from './failure.ts';
import { Wire } from './http.ts';
import { Limiter } from './limiter.ts';
import { DEFAULT_REQUESTS, type S3Location } from './location.ts';
import type { Timeouts } from './wire-options.ts';

export const TIMEOUTS: Timeouts = { connect: 5_000, stall: 30_000 };

export interface Retries {
  /** Requests sent for one call at most. */
  readonly attempts: number;
  /** The longest first wait, in milliseconds; it doubles. */
  readonly base: number;
  /** The longest wait, in milliseconds. */
  readonly longest: number;
}

export const RETRIES: Retries = { attempts: 8, base: 100, longest: 20_000 };
/** A host that is not there at all is given up sooner. */
const UNREACHED_ATTEMPTS = 4;

export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  /** Of the object, that are sent. */
  readonly bytes?: number;
  /** The caller has a place among the requests in flight. */
  readonly placed?: boolean;
  /** What this failure means here: a value to return, or an error to throw instead; undefined leaves it to the general rules. */
  readonly meaning?: (
    failure: Failure,
    before: Attempts,
  ) => Promise<{ readonly value: unknown } | LarderError | undefined>;
}

/** What became of a call so far. */
export interface Attempts {
  readonly count: number;
  /** Whether a request before this answer may have been carried out although its answer said nothing of it. */
  readonly uncertain: boolean;
}

/** Sends requests: limited, counted, and again after what may pass, with growing random waits. */
export class Requester {
  readonly meter = new Meter();
  readonly limiter: Limiter;
  readonly where: Where;
  readonly #location: S3Location;
  readonly #wire: Wire;
  readonly #retries: Retries;
  readonly #random: () => number;
  #client: Promise<S3Client> | undefined;

  constructor(
    location: S3Location,
    {
      timeouts = {},
      retries = RETRIES,
      random = Math.random,
    }: { timeouts?: Partial<Timeouts>; retries?: Retries; random?: () => number } = {},
  ) {
    this.#location = location;
    this.#retries = retries;
    this.#random = random;
    const { endpoint, credentials, profile, requests = DEFAULT_REQUESTS } = location.options;
    this.limiter = new Limiter(requests);
    this.#wire = new Wire({ idle: requests, ...TIMEOUTS, ...timeouts });
    this.where = {
      bucket: location.bucket,
      endpoint: endpoint ?? (process.env.AWS_ENDPOINT_URL_S3 || process.env.AWS_ENDPOINT_URL || 'AWS'),
      credentials: credentials ?? (profile === undefined ? 'the AWS environment' : `the profile '${profile}'`),
    };
  }

  async send<T>(
    asked: Asked,
    act: (client: S3Client, signal: AbortSignal | undefined) => Promise<T>,
    options: SendOptions = {},
  ): Promise<T> {
    const { signal, bytes = 0, meaning } = options;
    const count = this.meter.of(asked.kind);
    let uncertain = false;
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      const place = options.placed ? undefined : await this.limiter.enter(signal);
      let failure: Failure;
      try {
        count.count += 1;
        if (attempt > 1) count.retries += 1;
        count.bytes += bytes;
        const result = await act(await this.#connected(), signal);
        this.limiter.succeeded();
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof LarderError) throw error;
        failure = failureOf(error);
      } finally {
        place?.release();
      }
      const meant = await meaning?.(failure, { count: attempt, uncertain });
      if (meant instanceof LarderError) throw meant;
      if (meant !== undefined) return meant.value as T;
      count.errors += 1;
      if (asksForLess(failure)) this.limiter.slowDown();
      if (mayBeAboutKeys(failure) && this.#location.options.credentials !== undefined && !renewed) {
        renewed = true;
        this.#client = undefined;
        continue;
      }
      const most = isUnreached(failure) ? Math.min(UNREACHED_ATTEMPTS, this.#retries.attempts) : this.#retries.attempts;
      if (!isTransient(failure) || attempt >= most) throw errorOf(failure, asked, this.where, attempt);
      uncertain ||= !isUnreached(failure);
      await this.#wait(failure, attempt, signal);
    }
  }

  /** A wait before going on after a failure that was `attempt`th in a row: random, longer each time, and never shorter than what the store asked for. */
  async #wait({ retryAfter }: Failure, attempt: number, signal: AbortSignal | undefined): Promise<void> {
    const { base, longest } = this.#retries;
    const jitter = this.#random() * Math.min(longest, base * 2 ** (attempt - 1));
    const wait = retryAfter === undefined ? jitter : Math.min(retryAfter, longest) + jitter;
    await sleep(wait, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }

  get attempts(): number {
    return this.#retries.attempts;
  }

  /** For a body that broke off: as between two requests. */
  async pause(attempt: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#wait({ status: 0, code: '', message: '', headers: {}, cause: undefined }, attempt, signal);
  }

  /** Ends the connections, and with them what is under way. */
  close(): void {
    this.#client = undefined;
    this.#wire.destroy();
  }

  #connected(): Promise<S3Client> {
    this.#client ??= makeClient(this.#location.options, this.#wire);
    return this.#client;
  }
}
