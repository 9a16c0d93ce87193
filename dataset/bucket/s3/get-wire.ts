import { type GetAnswer, GetConnection, type Origin, StaleConnection } from './get-connection.ts';
import type { WireOptions } from './wire-options.ts';
import { type WireRequest, wireHost, wirePath } from './wire-request.ts';

/** The first of each answer lands in so many bytes, which all connections have in common. */
const SCRATCH_BYTES = 16 * 1024;
/** A connection that nobody uses is closed after so long, in milliseconds; sooner, where the other side says that it does. */
const REST = 60_000;
/** Before the other side closes it. */
const MARGIN = 1000;

/** Sends the SDK's GETs of objects over connections that are kept. */
export class GetWire {
  readonly #options: WireOptions;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #all = new Set<GetConnection>();
  readonly #resting = new Map<string, GetConnection[]>();

  constructor(options: WireOptions) {
    this.#options = options;
  }

  /** The answer, whatever its status. */
  async send(request: WireRequest, signal: AbortSignal | undefined): Promise<GetAnswer> {
    const text = requestText(request);
    const origin = originOf(request);
    const name = JSON.stringify(origin);
    const kept = this.#resting.get(name)?.pop();
    if (kept !== undefined) {
      try {
        return await kept.send(text, signal);
      } catch (error) {
        if (!(error instanceof StaleConnection)) throw error;
      }
    }
    return await this.#connect(origin, name).send(text, signal);
  }

  /** Ends the connections, and with them what is under way. */
  destroy(): void {
    for (const connection of [...this.#all]) connection.destroy();
  }

  #connect(origin: Origin, name: string): GetConnection {
    const connection = new GetConnection({
      origin,
      timeouts: this.#options,
      scratch: this.#scratch,
      onFree: (connection) => this.#keep(name, connection),
      onGone: (connection) => this.#forget(name, connection),
    });
    this.#all.add(connection);
    return connection;
  }

  #keep(name: string, connection: GetConnection): void {
    const resting = this.#resting.get(name) ?? [];
    this.#resting.set(name, resting);
    const longest = Math.min(REST, (connection.keptFor ?? Number.POSITIVE_INFINITY) - MARGIN);
    if (resting.length >= this.#options.idle || longest <= 0) connection.destroy();
    else {
      connection.rest(longest);
      resting.push(connection);
    }
  }

  #forget(name: string, connection: GetConnection): void {
    this.#all.delete(connection);
    const resting = this.#resting.get(name) ?? [];
    const at = resting.indexOf(connection);
    if (at >= 0) resting.splice(at, 1);
    if (resting.length === 0) this.#resting.delete(name);
  }
}

function originOf(request: WireRequest): Origin {
  const secure = request.protocol === 'https:';
  return { secure, host: wireHost(request), port: request.port ?? (secure ? 443 : 80) };
}

function requestText(request: WireRequest): string {
  const path = wirePath(request);
  if (!/^[\x21-\x7e]+$/.test(path)) throw new TypeError('a path that cannot be sent');
  let text = `${request.method} ${path} HTTP/1.1\r\n`;
  for (const [name, value] of Object.entries(request.headers)) {
    if (!/^[\w-]+$/.test(name) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value))
      throw new TypeError(`a header that cannot be sent: ${name}`);
    text += `${name}: ${value}\r\n`;
  }
  return `${text}connection: keep-alive\r\n\r\n`;
}
