/** Credentials and options for clients of the gateway: TLS, a token, what may be retried. */

import { readFileSync } from 'node:fs';
import { credentials, Metadata } from '@grpc/grpc-js';
import type { ChannelCredentials, ClientOptions } from '@grpc/grpc-js';

export interface Reach {
  /** An http:// or https:// URL. */
  address: string;
  /** Who issued the gateway's certificate (PEM); whom the system trusts where it is left out. */
  caFile?: string;
  /** The bearer token that is sent with each call. */
  tokenFile?: string;
  /** What `proton-gateway schema service-config` prints. */
  serviceConfigFile?: string;
}

/** The variables of `proton-gateway wait`, and one for the service config. */
export function reachFromEnvironment(): Reach {
  return {
    address: process.env.PROTON_GATEWAY_ADDRESS ?? 'http://127.0.0.1:50051',
    caFile: process.env.PROTON_GATEWAY_CA_FILE,
    tokenFile: process.env.PROTON_GATEWAY_TOKEN_FILE,
    serviceConfigFile: process.env.PROTON_GATEWAY_SERVICE_CONFIG,
  };
}

/** The arguments of a client's constructor. */
export function connect(reach: Reach): [string, ChannelCredentials, ClientOptions] {
  const url = new URL(reach.address);
  const options: ClientOptions = {
    // A connection on which nothing comes back any more is given up, so that waits notice.
    'grpc.keepalive_time_ms': 60_000,
    'grpc.keepalive_timeout_ms': 20_000,
  };
  if (reach.serviceConfigFile) {
    options['grpc.service_config'] = readFileSync(reach.serviceConfigFile, 'utf8');
  }
  switch (url.protocol) {
    case 'http:':
      if (reach.tokenFile) {
        throw new Error('a token is not sent over plain text: give an https:// address');
      }
      return [url.host, credentials.createInsecure(), options];
    case 'https:': {
      const roots = reach.caFile ? readFileSync(reach.caFile) : null;
      const tls = credentials.createSsl(roots);
      const { tokenFile } = reach;
      const channel = tokenFile
        ? credentials.combineChannelCredentials(tls, bearerToken(tokenFile))
        : tls;
      return [url.port ? url.host : `${url.host}:443`, channel, options];
    }
    default:
      throw new Error(`${reach.address} is neither an http:// nor an https:// address`);
  }
}

/** The file is read anew for each call, so that the token may be replaced meanwhile. */
function bearerToken(file: string) {
  return credentials.createFromMetadataGenerator((_, done) => {
    try {
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${readFileSync(file, 'utf8').trim()}`);
      done(null, metadata);
    } catch (error) {
      done(error as Error);
    }
  });
}
