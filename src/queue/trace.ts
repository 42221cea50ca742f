import { channel, tracingChannel } from 'node:diagnostics_channel'
import type { Attributes, Context, ContextManager, Span, TextMapPropagator, TracerProvider } from '@opentelemetry/api'
import type { GopherQueueError } from '../model/errors.ts'
import type { JobError } from '../model/job.ts'
import type { LeasedJob, Source, Submission, Submitted } from '../store/store.ts'
import type { Outcome } from './attempt.ts'
import type { ActiveJob } from './definition.ts'

// What others may watch: channels of node:diagnostics_channel, and spans where an OpenTelemetry SDK is set up.

/** Headers of a trace context, such as `traceparent`: they travel with the job. */
type Carrier = Record<string, string>
export const events = channel('gopherqueue:event')
const submits = tracingChannel<object>('gopherqueue:submit')
const runs = tracingChannel<object>('gopherqueue:run')

interface OpenTelemetry {
  trace: TracerProvider
  context: ContextManager
  propagation?: TextMapPropagator
}
/** Where each copy of OpenTelemetry's API finds what an SDK has registered. Read there, none has to be loaded. */
const registry = Symbol.for('opentelemetry.js.api.1')

function openTelemetry(): OpenTelemetry | null {
  const found = (globalThis as { [registry]?: Partial<OpenTelemetry> })[registry]
  return found?.trace && found.context ? (found as OpenTelemetry) : null
}

/** The context that is active, as it crosses to another process or thread. */
export function carried(carrier: Carrier = {}): Carrier {
  const otel = openTelemetry()
  const set = (into: Carrier, key: string, value: string) => Object.assign(into, { [key]: value })
  otel?.propagation?.inject(otel.context.active(), carrier, { set })
  return carrier
}

function contextIn(otel: OpenTelemetry, carrier: Carrier): Context {
  const active = otel.context.active()
  const reader = { get: (from: Carrier, key: string) => from[key], keys: Object.keys }
  return otel.propagation?.extract(active, carrier, reader) ?? active
}

/** Runs something in the context that came from elsewhere. */
export function within<T>(carrier: Carrier, run: () => T): T {
  const otel = openTelemetry()
  return otel ? otel.context.with(contextIn(otel, carrier), run) : run()
}

/** Starts a span, which the work ends, and does the work in its context. */
function inSpan<T>(
  otel: OpenTelemetry,
  kind: 'publish' | 'process',
  { queue, type }: Source,
  more: Attributes,
  context: Context,
  work: (span: Span) => T,
): T {
  const producer = kind === 'publish'
  const attributes = {
    'messaging.system': 'gopherqueue',
    'messaging.operation.name': kind,
    'messaging.operation.type': producer ? 'send' : 'process',
    'messaging.destination.name': queue,
    'gopherqueue.job.type': type,
    ...more,
  }
  // A job that brings no context starts a trace, whatever was active when its worker was made.
  const root = !producer && context === otel.context.active()
  const options = { kind: producer ? 3 : 4, attributes, root } // SpanKind.PRODUCER, CONSUMER
  return otel.trace.getTracer('gopherqueue').startActiveSpan(`${kind} ${type}`, options, context, work)
}

function endFailed(span: Span, { name, message, stack }: JobError, type = name): void {
  span.recordException({ name, message, stack: stack ?? '' })
  span.setAttribute('error.type', type)
  span.setStatus({ code: 2, message }) // SpanStatusCode.ERROR
  span.end()
}

/** Stores jobs by `store`: at once where nobody watches. */
export function publishing<T extends Submitted | Promise<Submitted>>(
  type: string,
  submission: Submission,
  store: (submission: Submission) => T,
  how: 'traceSync' | 'tracePromise' = 'tracePromise',
): T {
  const otel = openTelemetry()
  if (!otel && !submits.hasSubscribers) return store(submission)
  const { queue } = [submission.specs].flat()[0]!
  const { length: count } = submission.payloads
  const carrier: Carrier = {}
  const submit = () => {
    carried(carrier)
    return store(Object.keys(carrier).length > 0 ? { ...submission, trace: JSON.stringify(carrier) } : submission)
  }
  const spanned = (span: Span): T => {
    const end = (submitted: Submitted) => {
      if (count === 1) span.setAttribute('messaging.message.id', String(submitted.ids[0]))
      span.end()
      return submitted
    }
    const fail = (error: GopherQueueError): never => {
      endFailed(span, error as JobError, error.code)
      throw error
    }
    try {
      const submitted = submit()
      return (submitted instanceof Promise ? submitted.then(end, fail) : end(submitted)) as T
    } catch (error) {
      return fail(error as GopherQueueError)
    }
  }
  const batch = count > 1 ? { 'messaging.batch.message_count': count } : {}
  const work = () => (otel ? inSpan(otel, 'publish', { queue, type }, batch, otel.context.active(), spanned) : submit())
  return submits[how](work as () => never, { type, queue, count, carrier }) as unknown as T
}

/** Runs a handler by `run`, which gets the attempt's span if there is one: at once where nobody watches. */
export function processing(leased: LeasedJob, job: ActiveJob, run: (span?: Span) => unknown): unknown {
  const otel = openTelemetry()
  if (!otel && !runs.hasSubscribers) return run()
  const carrier = JSON.parse(leased.trace ?? '{}') as Carrier
  const more = { 'messaging.message.id': String(job.id), 'gopherqueue.job.attempt': job.attempt }
  const work = () => (otel ? inSpan(otel, 'process', job, more, contextIn(otel, carrier), run) : run())
  return runs.hasSubscribers ? runs.tracePromise(async () => work(), { job, carrier }) : work()
}

/** Ends the span of an attempt: what it came to. */
export function endSpan(span: Span, outcome: Outcome): void {
  span.setAttribute('gopherqueue.job.outcome', outcome.kind)
  if ('error' in outcome) endFailed(span, outcome.error)
  else span.end()
}
