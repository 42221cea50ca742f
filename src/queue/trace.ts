import { channel, tracingChannel } from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import type { Attributes, Context, ContextManager, Span, TextMapPropagator, TracerProvider } from '@opentelemetry/api'
import type { GopherQueueError } from '../model/errors.ts'
import type { JobError } from '../model/job.ts'
import type { LeasedJob, Source, Submission, Submitted } from '../store/store.ts'
import type { ActiveJob } from './definition.ts'
import type { Outcome } from './result.ts'

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

let told = false
/** What tracing throws harms no job: it is told, once, and the work goes on without. */
function harmless<T>(trace: () => T): T | undefined {
  try {
    return trace()
  } catch (error) {
    if (!told) process.emitWarning(`Jobs go on without tracing, which throws: ${inspect(error)}`, 'GopherQueueTracing')
    told = true
    return undefined
  }
}

/** Does the work once, inside of what `trace` puts around it, or without. */
function inside<T>(trace: (work: () => void) => void, work: () => T): T {
  let outcome: (() => T) | undefined
  const once = () => (outcome ??= settled(work))
  harmless(() => trace(once))
  return once()()
}

function settled<T>(work: () => T): () => T {
  try {
    const value = work()
    return () => value
  } catch (error) {
    return () => {
      throw error // the work's own, and none of tracing's
    }
  }
}

/** The context that is active, as it crosses to another process or thread. */
export function carried(carrier: Carrier = {}): Carrier {
  const otel = openTelemetry()
  const set = (into: Carrier, key: string, value: string) => Object.assign(into, { [key]: `${value}` })
  harmless(() => otel?.propagation?.inject(otel.context.active(), carrier, { set }))
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
  return otel ? inside((work) => otel.context.with(contextIn(otel, carrier), work), run) : run()
}

/** Starts a span, which the work ends, and does the work in its context: the active one, or that of a job's carrier. */
function inSpan<T>(
  otel: OpenTelemetry,
  kind: 'publish' | 'process',
  { queue, type }: Source,
  more: Attributes,
  carrier: Carrier | null,
  work: (span?: Span) => T,
): T {
  const attributes = {
    'messaging.system': 'gopherqueue',
    'messaging.operation.name': kind,
    'messaging.operation.type': carrier ? 'process' : 'send',
    'messaging.destination.name': queue,
    'gopherqueue.job.type': type,
    ...more,
  }
  let span: Span | undefined
  const start = (run: () => void) => {
    const active = otel.context.active()
    const context = carrier ? contextIn(otel, carrier) : active
    // A job that brings no context starts a trace, whatever was active when its worker was made.
    const root = carrier !== null && context === active
    const options = { kind: carrier ? 4 : 3, attributes, root } // SpanKind.CONSUMER, PRODUCER
    otel.trace.getTracer('gopherqueue').startActiveSpan(`${kind} ${type}`, options, context, (started) => {
      span = started
      run()
    })
  }
  return inside(start, () => work(span))
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
    const trace = harmless(() => Object.keys(carrier).length > 0 && JSON.stringify(carrier))
    return store(trace ? { ...submission, trace } : submission)
  }
  const spanned = (span?: Span): T => {
    const end = (submitted: Submitted) => {
      harmless(() => {
        if (count === 1) span?.setAttribute('messaging.message.id', String(submitted.ids[0]))
        span?.end()
      })
      return submitted
    }
    const fail = (error: GopherQueueError): never => {
      harmless(() => span && endFailed(span, error as JobError, error.code))
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
  const work = () => (otel ? inSpan(otel, 'publish', { queue, type }, batch, null, spanned) : submit())
  return submits[how](work as () => never, { type, queue, count, carrier }) as unknown as T
}

/** Runs a handler by `run`, which gets the attempt's span if there is one: at once where nobody watches. */
export function processing(leased: LeasedJob, job: ActiveJob, run: (span?: Span) => unknown): unknown {
  const otel = openTelemetry()
  if (!otel && !runs.hasSubscribers) return run()
  const carrier: Carrier = harmless(() => Object(JSON.parse(leased.trace ?? '{}'))) ?? {}
  const more = { 'messaging.message.id': String(job.id), 'gopherqueue.job.attempt': job.attempt }
  const work = () => (otel ? inSpan(otel, 'process', job, more, carrier, run) : run())
  return runs.hasSubscribers ? runs.tracePromise(async () => work(), { job, carrier }) : work()
}

/** Ends the span of an attempt: what it came to. */
export function endSpan(span: Span, outcome: Outcome): void {
  harmless(() => {
    span.setAttribute('gopherqueue.job.outcome', outcome.kind)
    if ('error' in outcome && outcome.kind !== 'postpone') endFailed(span, outcome.error)
    else span.end()
  })
}
