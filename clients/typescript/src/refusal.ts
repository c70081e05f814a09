/** What an error of the gateway says, out of its details. */

import { status as Status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { decode } from './contract.js';
import type { BadRequest__Output } from './gen/google/rpc/BadRequest.js';
import type { ErrorInfo__Output } from './gen/google/rpc/ErrorInfo.js';
import type { RetryInfo__Output } from './gen/google/rpc/RetryInfo.js';

export interface Refusal {
  code: Status;
  message: string;
  /** A word that stays the same, such as RESOURCE_NOT_FOUND, and facts about it. */
  reason: string;
  facts: Record<string, string>;
  /** What is wrong with which field of the request. */
  fields: Record<string, string>;
  /** Milliseconds after which the same call may succeed; absent: never by itself. */
  retryAfter?: number;
}

export function refusalOf(error: ServiceError): Refusal {
  const refusal: Refusal = {
    code: error.code,
    message: error.details,
    reason: '',
    facts: {},
    fields: {},
  };
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!(bytes instanceof Buffer)) {
    return refusal;
  }
  const said = decode('google.rpc.Status', bytes) as {
    details: { type_url: string; value: Buffer }[];
  };
  for (const { type_url: url, value } of said.details) {
    const name = url.slice(url.lastIndexOf('/') + 1);
    switch (name) {
      case 'google.rpc.ErrorInfo': {
        const info = decode(name, value) as ErrorInfo__Output;
        refusal.reason = info.reason;
        refusal.facts = info.metadata;
        break;
      }
      case 'google.rpc.BadRequest': {
        const { fieldViolations } = decode(name, value) as BadRequest__Output;
        for (const { field, description } of fieldViolations) {
          refusal.fields[field] = description;
        }
        break;
      }
      case 'google.rpc.RetryInfo': {
        const { retryDelay } = decode(name, value) as RetryInfo__Output;
        refusal.retryAfter =
          Number(retryDelay?.seconds ?? 0) * 1000 + (retryDelay?.nanos ?? 0) / 1e6;
        break;
      }
    }
  }
  return refusal;
}
