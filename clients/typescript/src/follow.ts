/** Follows a wait to its end, through as many streams as it takes. */

import { setTimeout as pause } from 'node:timers/promises';
import { status as Status } from '@grpc/grpc-js';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import type { WaitEvent__Output } from './gen/proton/v1/WaitEvent.js';
import { refusalOf } from './refusal.js';

/** How often in a row a stream may break before anything was said. */
const ATTEMPTS = 6;

/** Opens a stream that goes on after the event with this token; empty: anew. */
export type Open = (
  resumeToken: string,
  deadline: Date,
) => ClientReadableStream<{ event: WaitEvent__Output | null }>;

/**
 * Yields what happens until the wait has ended. No stream lasts longer than `streamTime`
 * milliseconds; whatever ends one before the wait has ended, the next goes on after the last event.
 * A wait that did not end as hoped throws a ServiceError.
 */
export async function* follow(
  open: Open,
  streamTime = 3_600_000,
): AsyncGenerator<WaitEvent__Output> {
  let token = '';
  let broken = 0;
  for (;;) {
    let ended = false;
    try {
      for await (const { event } of open(token, new Date(Date.now() + streamTime))) {
        if (!event) continue;
        broken = 0;
        token = event.resumeToken;
        ended = event.event === 'terminal';
        // Only the stream ends with a closing: a deadline, or the gateway is about to stop.
        if (event.event !== 'closing') yield event;
      }
    } catch (error) {
      broken += 1;
      if (broken === ATTEMPTS || !passes(error as ServiceError)) throw error;
      await pause(250 * 2 ** broken);
    }
    if (ended) return;
  }
}

function passes(error: ServiceError): boolean {
  const refusal = refusalOf(error);
  switch (refusal.code) {
    case Status.UNAVAILABLE:
      return true;
    case Status.DEADLINE_EXCEEDED:
      // The stream's own; that of the wait has a reason.
      return refusal.reason !== 'WAIT_TIMED_OUT';
    default:
      return false;
  }
}
