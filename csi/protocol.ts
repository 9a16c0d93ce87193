import { fileURLToPath } from 'node:url';
import { loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export type ServiceName = 'Identity' | 'Controller' | 'GroupController' | 'Node';

/** How messages look in TypeScript (messages/volume.ts says it in words). */
const options = { keepCase: false, longs: String, enums: String, defaults: true, oneofs: true } as const;

/** The client's class of each service, read from the protocol file; its `service` is what a server takes. */
export function loadProtocol(): Record<ServiceName, ServiceClientConstructor> {
  const definition = loadSync(fileURLToPath(new URL('./proto/csi.proto', import.meta.url)), options);
  // The package of the protocol file is csi.v1, so that is where its services are.
  const { csi } = loadPackageDefinition(definition) as unknown as {
    csi: { v1: Record<ServiceName, ServiceClientConstructor> };
  };
  return csi.v1;
}
