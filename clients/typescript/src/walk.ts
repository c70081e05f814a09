/**
 * A walk through what a client does: npm start NAME
 *
 * Makes an environment template of that name, and deletes it at the end.
 */

import { randomUUID } from 'node:crypto';
import { status as Status, Metadata } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import type { CreateEnvironmentTemplateResponse__Output } from './gen/proton/v1/CreateEnvironmentTemplateResponse.js';
import type { CreateEnvironmentTemplateVersionResponse__Output } from './gen/proton/v1/CreateEnvironmentTemplateVersionResponse.js';
import type { PageEnvironmentTemplateVersionsResponse__Output } from './gen/proton/v1/PageEnvironmentTemplateVersionsResponse.js';
import { connect, reachFromEnvironment } from './connect.js';
import { v1 } from './contract.js';
import { follow, type Open } from './follow.js';
import { refusalOf } from './refusal.js';

const [, , name] = process.argv;
if (!name) {
  console.error('usage: npm start NAME');
  process.exit(64);
}
const reach = connect(reachFromEnvironment());
const proton = new v1.ProtonService(...reach);
const waits = new v1.WaitService(...reach);
const pages = new v1.PaginatorService(...reach);
/** For what no service config gives a timeout. */
const deadline = () => new Date(Date.now() + 30_000);

/** A call with a callback, as a promise. */
function sent<Answer>(
  send: (done: (error: ServiceError | null, answer?: Answer) => void) => void,
): Promise<Answer> {
  return new Promise((resolve, reject) =>
    send((error, answer) => (error ? reject(error) : resolve(answer as Answer))),
  );
}

async function call() {
  const { environmentTemplate } = await sent<CreateEnvironmentTemplateResponse__Output>((done) =>
    proton.createEnvironmentTemplate({ name }, { deadline: deadline() }, done),
  );
  console.log(`call: environment template ${environmentTemplate?.name} was created`);
}

/** The version's number, and whether the answer is that of an earlier call with the key. */
async function register(key: string) {
  const metadata = new Metadata();
  metadata.set('idempotency-key', key);
  let replayed = false;
  const response = await sent<CreateEnvironmentTemplateVersionResponse__Output>((done) =>
    proton
      .createEnvironmentTemplateVersion(
        {
          templateName: name,
          // One of the bundles that every gateway has.
          source: { s3: { bucket: 'proton-examples', key: 'environment-cloudformation.tar.gz' } },
        },
        metadata,
        { deadline: deadline() },
        done,
      )
      .on('metadata', (header) => {
        replayed = header.get('idempotency-replayed').includes('true');
      }),
  );
  const version = response.environmentTemplateVersion;
  return { version: `${version?.majorVersion}.${version?.minorVersion}`, replayed };
}

async function wait(majorVersion: string) {
  let streams = 0;
  const open: Open = (resumeToken, deadline) => {
    streams += 1;
    return waits.waitEnvironmentTemplateVersionRegistered(
      { templateName: name, majorVersion, minorVersion: '0', options: { resumeToken } },
      { deadline },
    );
  };
  const seen: string[] = [];
  // So short that the wait outlives its first stream.
  for await (const event of follow(open, 2_000)) {
    // Each stream begins with what holds.
    if (event.snapshot && seen.at(-1) !== event.snapshot.status) seen.push(event.snapshot.status);
    if (event.transition) seen.push(event.transition.to);
    if (event.terminal) seen.push(event.terminal.outcome);
  }
  const resumed = streams > 1 ? 'resumed' : 'in one stream';
  console.log(`wait: version ${majorVersion}.0: ${seen.join(', ')}; ${resumed}`);
}

async function retryWithAKey() {
  const key = randomUUID();
  const first = await register(key);
  // As if the first answer had been lost.
  const second = await register(key);
  const how = second.replayed ? 'replayed' : 'carried out';
  console.log(`key: version ${first.version}, then ${second.version}; ${how}`);
}

async function list() {
  const stream = pages.pageEnvironmentTemplateVersions(
    { request: { templateName: name, maxResults: 1 } },
    { deadline: deadline() },
  );
  let number = 0;
  for await (const {
    page,
  } of stream as AsyncIterable<PageEnvironmentTemplateVersionsResponse__Output>) {
    number += 1;
    const majors = page?.templateVersions.map((version) => version.majorVersion) ?? [];
    console.log(`list: page ${number}: ${majors.join(', ')}`);
  }
}

async function refused(send: (done: (error: ServiceError | null) => void) => void) {
  try {
    await sent<unknown>(send);
    console.log('refused: not at all');
  } catch (error) {
    const refusal = refusalOf(error as ServiceError);
    let text = `${Status[refusal.code]}, ${refusal.reason}`;
    const fields = Object.keys(refusal.fields).sort();
    if (fields.length > 0) text += `, in ${fields.join(', ')}`;
    if (refusal.retryAfter !== undefined) text += ', may come again later';
    console.log(`refused: ${text}`);
  }
}

async function clean() {
  for (const majorVersion of ['1', '2']) {
    await sent((done) =>
      proton.deleteEnvironmentTemplateVersion(
        { templateName: name, majorVersion, minorVersion: '0' },
        { deadline: deadline() },
        done,
      ),
    );
  }
  await sent((done) => proton.deleteEnvironmentTemplate({ name }, { deadline: deadline() }, done));
}

await call();
await register(randomUUID());
await wait('1');
await retryWithAKey();
await wait('2');
await list();
const options = { deadline: deadline() };
await refused((done) => proton.getService({ name: 'nothing' }, options, done));
await refused((done) => proton.createEnvironment({}, options, done));
// Only a gateway with limits refuses this, and one where it costs as much as in clients/run.sh.
await refused((done) => proton.updateEnvironmentTemplate({ name }, options, done));
await clean();
for (const client of [proton, waits, pages]) client.close();
