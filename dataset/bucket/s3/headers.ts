import { Readable } from 'node:stream';

type Headers = Record<string, string>;
interface Call {
  readonly request: { readonly headers: Headers };
}
interface Result {
  readonly response: { readonly statusCode: number; readonly headers: Headers; body: unknown };
}
type Middleware = (next: (call: Call) => Promise<Result>) => (call: Call) => Promise<Result>;

/** The part of the SDK's commands that is used here; its own types differ from command to command. */
interface Stack {
  add(middleware: Middleware, options: Readonly<Record<string, string>>): void;
}

/** Has these headers sent, and signed, with a command. */
export function withHeaders<C extends object>(command: C, headers: Readonly<Headers>): C {
  stackOf(command).add(
    (next) => (call) => {
      Object.assign(call.request.headers, headers);
      return next(call);
    },
    { step: 'build', priority: 'high', name: 'larderHeaders' },
  );
  return command;
}

/** Gives the headers of a command's answer, of which the SDK tells only a part. */
export function onHeaders<C extends object>(command: C, hear: (headers: Readonly<Headers>) => void): C {
  stackOf(command).add(
    (next) => async (call) => {
      const result = await next(call);
      hear(result.response.headers);
      return result;
    },
    { step: 'deserialize', priority: 'low', name: 'larderAnswer' },
  );
  return command;
}

/** Takes the text of a command's good answer, and leaves `instead` to the SDK. */
export function onText<C extends object>(command: C, instead: string, hear: (text: string) => void): C {
  stackOf(command).add(
    (next) => async (call) => {
      const result = await next(call);
      const { response } = result;
      if (response.statusCode !== 200) return result;
      const parts: Buffer[] = [];
      for await (const part of response.body as AsyncIterable<Buffer>) parts.push(part);
      hear(Buffer.concat(parts).toString('utf8'));
      response.body = Readable.from([Buffer.from(instead)]);
      return result;
    },
    // Nearer to the wire than the SDK's own parser.
    { step: 'deserialize', priority: 'low', name: 'larderText' },
  );
  return command;
}

function stackOf(command: object): Stack {
  return (command as { readonly middlewareStack: Stack }).middlewareStack;
}
