import { type CallOptions, type Client, credentials, type ServiceError, type status } from '@grpc/grpc-js';
import { loadProtocol, type ServiceName } from '../../csi/protocol.ts';

/** Calls over a real socket, by method: `client.call('NodeGetInfo', {})`. */
export interface CsiClient {
  /** Resolves to the answer's message; rejects with gRPC's error, whose `code` and `details` are what the server sent. */
  // biome-ignore lint/suspicious/noExplicitAny: answers are compared field by field, so their types would only be repeated
  call(method: string, request?: object): Promise<any>;
  /** The code that a call fails with, and the text that comes with it. */
  fail(method: string, request?: object, options?: CallOptions): Promise<{ code: status; details: string }>;
  close(): void;
}

/** A server that is started again is looked for at once, not after a second. */
const eager = { 'grpc.initial_reconnect_backoff_ms': 20, 'grpc.max_reconnect_backoff_ms': 100 };

/** Connects to the server that listens on `path`. */
export function connectCsi(path: string): CsiClient {
  const protocol = loadProtocol();
  const clients = (['Identity', 'Controller', 'GroupController', 'Node'] as ServiceName[]).map(
    (name) => new protocol[name](`unix:${path}`, credentials.createInsecure(), eager),
  );
  const call = (method: string, request: object = {}, options: CallOptions = {}) =>
    new Promise((resolve, reject) => {
      const client = clients.find((candidate) => method in candidate);
      if (client === undefined) throw new Error(`no service has a method ${method}`);
      // biome-ignore lint/suspicious/noExplicitAny: methods are made at run time from the protocol file
      (client as any)[method](request, options, (error: ServiceError | null, response: unknown) => {
        if (error === null) resolve(response);
        else reject(error);
      });
    });
  return {
    call: (method, request) => call(method, request),
    async fail(method, request, options) {
      try {
        await call(method, request, options);
      } catch (error) {
        const { code, details } = error as ServiceError;
        return { code, details };
      }
      throw new Error(`${method} should have failed`);
    },
    close: () => clients.forEach((client: Client) => void client.close()),
  };
}

/** A volume capability as a cluster sends it. */
export function mountCapability(mode: string, mount: object = {}): object {
  return { mount, accessMode: { mode } };
}
