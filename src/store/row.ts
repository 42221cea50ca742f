import type { TNull, TObject, TSchema } from 'typebox'
import type { Scope } from '../model/token.ts'
import type { Lease } from './jobs.ts'
import type { schemas } from './schemas.ts'

// What is said of an operation, and of a call of the HTTP API, in one row.

/**
 * How long our client goes on when the server cannot be reached, or says that it cannot now: `once` is not safe to send
 * again, `brief` is tried again for some seconds, `patient` until it is answered or the store is closed.
 */
export type Patience = 'once' | 'brief' | 'patient'

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
/** Makes a schema of what it is given: only a server has schemas. */
type Make<S = TSchema> = (of: typeof schemas) => S

/** A call of the HTTP API. What has `admin` as its scope and changes something is written into the audit log. */
export interface Http {
  at: `${Method} /v1/${string}`
  /** What a token must allow; 'any' takes each. */
  scope: Scope | 'any'
  patience: Patience
  summary: string
  query?: Make<TObject>
  body?: Make
  response: Make
  /** The member of the response that is the operation's answer. Default: all of it. */
  member?: string
  /** Default 200. */
  status?: 200 | 201
  /** Takes bodies of up to 65 MiB, not of 1 MiB and a bit. */
  large?: true
}

/**
 * `read` and `write` run in a transaction; `memory` is answered by the engine when something has happened. An `outcome` is a
 * write that a worker owes to what it holds: during a storage fault it is held and tried again, never refused.
 */
type Kind<I> =
  | { kind: 'read' | 'write' | 'memory'; ends: null }
  /** Says which lease is over once this has been tried; 'worker': those of the worker that is its input. */
  | { kind: 'outcome'; ends: ((input: I) => Lease) | 'worker' }

/** What is said of each operation of a store. `at` is null where a server does not offer it. */
export type Row<I> = Kind<I> &
  (Http | { at: null }) & {
    /** Of a report, which is taken singly or with others at `/v1/reports`: what its body says besides the token. */
    fields?: Make<Record<string, TSchema>>
  }

/** A row of an operation that takes I and answers with O; `does` has no value, and carries these types. */
export const row =
  <I, O>() =>
  <const R extends Row<I>>(said: R): R & { does?: (input: I) => O } =>
    said

export const none = () => ({})
export const nothing: Make<TNull> = (of) => of.nothing()
