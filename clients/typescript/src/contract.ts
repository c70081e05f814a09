/** The contract, read from what `proton-gateway schema protos --out proto` writes. */

import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType as ErrorDetails } from './gen/error_details.js';
import type { ProtoGrpcType as Pages } from './gen/pages.js';
import type { ProtoGrpcType as Proton } from './gen/proton.js';
import type { ProtoGrpcType as Waits } from './gen/waits.js';

const definitions = loadSync(
  [
    'proton/v1/proton.proto',
    'proton/v1/waits.proto',
    'proton/v1/pages.proto',
    'google/rpc/status.proto',
    'google/rpc/error_details.proto',
  ],
  // Types are generated with the same options.
  {
    includeDirs: [process.env.PROTON_PROTO_FOLDER ?? 'proto'],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  },
);

const loaded = loadPackageDefinition(definitions) as unknown as Proton &
  Waits &
  Pages &
  ErrorDetails;

export const v1 = loaded.proton.v1;

/** Reads a message of google.rpc out of its bytes. */
export function decode(name: string, bytes: Buffer): object {
  const type = definitions[name];
  if (!type || !('format' in type) || !('deserialize' in type)) {
    throw new Error(`there is no message ${name}`);
  }
  return (type as unknown as { deserialize(bytes: Buffer): object }).deserialize(bytes);
}
