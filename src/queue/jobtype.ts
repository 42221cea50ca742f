import type { StandardSchemaV1 } from '@standard-schema/spec'
import { invalid } from '../model/errors.ts'
import { checkNames, optionsOf } from '../model/names.ts'
import { shown } from '../model/text.ts'
import {
  type Definition,
  type DefinitionOptions,
  type Handler,
  type HandlerOptions,
  type JobTypeOptions,
  makeDefinition,
} from './definition.ts'
import type { GivenHandler, Storable, Stored } from './stored.ts'
import type { Task } from './task.ts'

/** A type of job that several programs share, made by `jobType`: its name, its policy and its payload's schema. */
export interface JobType<Input = unknown, Output = Input, Result = unknown> {
  /** Name of the type, which selects the handler. */
  readonly type: string
  /** The policy of its jobs and its payload's schema, as given to `jobType`. */
  readonly options: JobTypeOptions & { readonly payload?: StandardSchemaV1 | undefined }
  /** For the compiler alone, never there at run time: what is submitted, what the handler gets, and what it returns. */
  readonly types?: { input: Input; output: Output; result: Result }
}

/**
 * Names a type of job in a module that both the programs that submit and those that work import, so that they agree on its
 * policy and on the types of its payload and result: `define(type)` in one, `define(type, handler)` in the other. `payload`
 * is a schema of any Standard Schema validator. The result's type is a second type argument: `jobType<typeof schema, Result>('mail', { payload: schema })`;
 * without it the task of a program that only submits has `unknown`. Throws INVALID_ARGUMENT.
 */
export function jobType<Schema extends StandardSchemaV1, Result = unknown>(
  type: string,
  options: JobTypeOptions & { payload: Schema },
): JobType<Storable<StandardSchemaV1.InferInput<Schema>>, StandardSchemaV1.InferOutput<Schema>, Result>
/**
 * Names a type of job in a module that both the programs that submit and those that work import: `define(type)` in one,
 * `define(type, handler)` in the other. The types come from type arguments, as in `jobType<{ to: string }>('mail')`, and no payload
 * is checked when the program runs. Throws INVALID_ARGUMENT.
 */
export function jobType<Payload = unknown, Result = unknown>(
  type: string,
  options?: JobTypeOptions & { payload?: undefined },
): JobType<Storable<Payload>, Stored<Payload>, Result>
/** A type of job whose schema the compiler does not know. Its error is told where neither of the others fits: it names the cause. */
export function jobType(type: string, options: JobType['options']): JobType
export function jobType(type: string, options: JobType['options'] = {}): JobType {
  const own = { ...optionsOf('job option', options) }
  makeDefinition(type, own, undefined) // what is wrong is said here, and not in each program
  return Object.freeze({ type, options: Object.freeze(own) })
}

/** The ways to call `queue.define`: each names a type of job and returns a `Task`, by which jobs of it are submitted. */
export interface Define {
  /**
   * Defines a type that `jobType` made: without a handler in programs that only submit, with one in those that work. A queue
   * that works already takes jobs of the type from then on. Throws INVALID_ARGUMENT, also for a type defined twice.
   */
  <Input, Output, Result, Returned extends Result = Result>(
    type: JobType<Input, Output, Result>,
    handler?: GivenHandler<Output, Returned>,
  ): Task<Input, Stored<Returned>>
  /** Defines a type that `jobType` made, with options for its handler alone. Throws INVALID_ARGUMENT, also for a type defined twice. */
  <Input, Output, Result, Returned extends Result = Result>(
    type: JobType<Input, Output, Result>,
    options: HandlerOptions,
    handler?: GivenHandler<Output, Returned>,
  ): Task<Input, Stored<Returned>>
  /**
   * Names a type of job: its policy, its payload's schema (any Standard Schema validator, asked at submission and before
   * the handler) and, in processes that work, its handler. A queue that works already takes jobs of the type from then on.
   * A handler that computes for long belongs in a module of its own, given as `new URL('./handler.ts', import.meta.url)`:
   * its default export runs in a thread, which is ended 5 s after its signal has fired in vain. Throws INVALID_ARGUMENT,
   * also for a type defined twice and for a module that is not there.
   */
  <Schema extends StandardSchemaV1, Result = unknown>(
    type: string,
    options: DefinitionOptions & { payload: Schema },
    handler?: GivenHandler<StandardSchemaV1.InferOutput<Schema>, Result>,
  ): Task<Storable<StandardSchemaV1.InferInput<Schema>>, Stored<Result>>
  /**
   * Names a type of job with the default policy and its handler, a function or the URL of a module. Types come from the
   * handler or from type arguments, and no payload is checked. Throws INVALID_ARGUMENT, also for a type defined twice.
   */
  <Payload = unknown, Result = unknown>(
    type: string,
    handler: GivenHandler<Stored<Payload>, Result>,
  ): Task<Storable<Payload>, Stored<Result>>
  /**
   * Names a type of job: its policy and, in processes that work, its handler, a function or the URL of a module. Types come
   * from the handler or from type arguments, and no payload is checked. Throws INVALID_ARGUMENT, also for a type defined twice.
   */
  <Payload = unknown, Result = unknown>(
    type: string,
    options?: DefinitionOptions & { payload?: undefined },
    handler?: GivenHandler<Stored<Payload>, Result>,
  ): Task<Storable<Payload>, Stored<Result>>
  /** A type whose schema the compiler does not know. Where no way to call `define` fits, its error is told, as that of the last: it names the cause. */
  <Result, Subject extends string | JobType, Schema extends StandardSchemaV1 | undefined>(
    type: Subject,
    given: GivenHandler<OutputOf<Subject, Schema>, Wanted<Subject, Result>> | OptionsOf<Subject, Schema>,
  ): Task<unknown, Stored<Result>>
  /** The same with options and a handler. */
  <Result, Subject extends string | JobType, Schema extends StandardSchemaV1 | undefined>(
    type: Subject,
    options: OptionsOf<Subject, Schema>,
    handler: GivenHandler<OutputOf<Subject, Schema>, Wanted<Subject, Result>>,
  ): Task<unknown, Stored<Result>>
}

/** What a handler gets: the output of its job type, or of its schema. */
export type OutputOf<Subject, Schema> =
  Subject extends JobType<unknown, infer Output>
    ? Output
    : Schema extends StandardSchemaV1
      ? StandardSchemaV1.InferOutput<Schema>
      : unknown
/** The result that a handler gives; where its job type promises another, that one. */
export type Wanted<Subject, Result> =
  Subject extends JobType<unknown, unknown, infer Promised> ? (Result extends Promised ? Result : Promised) : Result
/** What `define` takes besides a handler: of a job type, whose policy is its own, no policy. */
export type OptionsOf<Subject, Schema> = Subject extends string
  ? DefinitionOptions & { payload?: Schema }
  : HandlerOptions

/** What may follow the name or the job type in `define`. */
export type Given = Handler<never, unknown> | URL | (DefinitionOptions & { payload?: StandardSchemaV1 | undefined })

/** What the arguments of `define` come to, and whether it may take another's place. Throws INVALID_ARGUMENT. */
export function definitionOf(
  subject: string | JobType,
  first: Given | undefined = {},
  second: Handler<never, unknown> | URL | undefined,
): [Definition, replaces: boolean] {
  const isHandler = typeof first === 'function' || first instanceof URL
  if (isHandler && second !== undefined) throw invalid('define takes the handler last, after the options.')
  const [options, handler] = isHandler ? [{}, first] : [first, second]
  const { replace = false, ...own } = optionsOf('job option', options) as DefinitionOptions
  if (typeof replace !== 'boolean') throw invalid(`replace must be true or false; got ${shown(replace)}.`)
  if (typeof subject === 'string') return [makeDefinition(subject, own, handler), replace]
  if (typeof subject !== 'object' || subject === null)
    throw invalid(`define takes the name of a type, or what jobType gives; got ${shown(subject)}.`)
  checkNames('option for the handler of a job type', own, ['classify'])
  return [makeDefinition(subject.type, { ...subject.options, ...own }, handler), replace]
}
