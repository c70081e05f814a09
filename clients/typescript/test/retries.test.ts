/** What a client with the gateway's service config sends again, and what it does not. */

import assert from 'node:assert/strict';
import test from 'node:test';
import { Server, ServerCredentials, status as Status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { connect } from '../src/connect.js';
import { v1 } from '../src/contract.js';

const serviceConfigFile = process.env.PROTON_GATEWAY_SERVICE_CONFIG ?? '../service-config.json';

/** A server that refuses the first two attempts, and what calls it as a client of the gateway. */
async function failing() {
  let attempts = 0;
  const answer = (
    _: unknown,
    done: (error: Partial<ServiceError> | null, answer?: object) => void,
  ) => {
    attempts += 1;
    if (attempts <= 2) done({ code: Status.UNAVAILABLE, details: 'not yet' });
    else done(null, {});
  };
  const server = new Server();
  server.addService(v1.ProtonService.service, { getService: answer, updateEnvironment: answer });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
  const client = new v1.ProtonService(
    ...connect({ address: `http://127.0.0.1:${port}`, serviceConfigFile }),
  );
  return {
    client,
    attempts: () => attempts,
    stop: () => {
      client.close();
      server.forceShutdown();
    },
  };
}

const options = () => ({ deadline: new Date(Date.now() + 20_000) });

test('a read is sent again', async () => {
  const { client, attempts, stop } = await failing();
  try {
    await new Promise((resolve, reject) =>
      client.getService({ name: 'shop' }, options(), (error, answer) =>
        error ? reject(error) : resolve(answer),
      ),
    );
    assert.equal(attempts(), 3);
  } finally {
    stop();
  }
});

test('an update is not sent again', async () => {
  const { client, attempts, stop } = await failing();
  try {
    const error = await new Promise<ServiceError | null>((resolve) =>
      client.updateEnvironment({ name: 'prod' }, options(), (error) => resolve(error)),
    );
    assert.equal(error?.code, Status.UNAVAILABLE);
    assert.equal(attempts(), 1);
  } finally {
    stop();
  }
});
