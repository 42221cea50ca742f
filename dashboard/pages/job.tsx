import { type Answer, get, type Job, now, send, useData } from '../api.ts'
import { Act, Facts, Json, Loaded, State, span, Text, Time } from '../parts.tsx'

type Attempt = Answer<'attempts'>['attempts'][number]

export function JobPage({ id, may }: { id: number; may: boolean }) {
  const data = useData(`job ${id}`, async () => {
    const [job, history, { why }] = await Promise.all([get<'job'>(`jobs/${id}`), get<'attempts'>(`jobs/${id}/attempts`), get<'why'>(`jobs/${id}/why`)]) // biome-ignore format: long
    return { job, ...history, why }
  })
  return (
    <Loaded data={data}>
      {({ job, attempts, retries, why }) => (
        <>
          <p class="why">
            <State state={job.state} also={job.reason} /> {why}
          </p>
          {job.progress && job.state === 'running' && (
            <p>
              <progress max={100} value={job.progress.percent} aria-label="Progress" />{' '}
              {Math.round(job.progress.percent)} % {job.progress.message}
            </p>
          )}
          {may && <Actions job={job} />}
          <Facts facts={factsOf(job)} />
          <h2>Attempts</h2>
          {attempts.length === 0 ? <p class="empty">None yet.</p> : <Timeline job={job} attempts={attempts} />}
          {retries.length > 0 && (
            <>
              <h2>Next tries</h2>
              <p class="dim">If each attempt fails at once:</p>
              <ol class="ticks" start={job.attempt + 1}>
                {retries.map((at) => (
                  <li key={at}>
                    <Time at={at} />
                  </li>
                ))}
              </ol>
            </>
          )}
          <div class="halves">
            <section>
              <h2>Payload</h2>
              <Json label="Payload" value={job.payload} />
            </section>
            {job.state === 'succeeded' && (
              <section>
                <h2>Result</h2>
                <Json label="Result" value={job.result} />
                {job.warning && <p>{job.warning}</p>}
              </section>
            )}
          </div>
        </>
      )}
    </Loaded>
  )
}

function factsOf(job: Job): [string, preact.ComponentChildren][] {
  const facts: [string, preact.ComponentChildren][] = [
    ['Type', <a href={`#/jobs?type=${encodeURIComponent(job.type)}`}>{job.type}</a>],
    ['Queue', <a href={`#/jobs?queue=${encodeURIComponent(job.queue)}`}>{job.queue}</a>],
    ['Priority', job.priority],
    ['Attempts', `${job.attempt}, ${job.attemptsLeft} of ${job.maxAttempts} left`],
    ...(job.postponed === 0 ? [] : [['Put off', `${job.postponed} times`] as [string, string]]),
    ...(job.company === null ? [] : [['Company', `at most ${job.company} others`] as [string, string]]),
    ['Submitted', <Time at={job.createdAt} />],
    ['Started', <Time at={job.startedAt} none="not yet" />],
    ['Timeout', span(job.timeout)],
    ['Backoff', backoffOf(job.backoff)],
  ]
  if (job.finishedAt !== null) facts.push(['Ended', <Time at={job.finishedAt} />])
  if (job.runAt !== null) facts.push(['Due', <Time at={job.runAt} />])
  if (job.deadline !== null) facts.push(['Deadline', <Time at={job.deadline} />])
  if (job.worker !== null) facts.push(['Worker', job.worker])
  if (job.leaseExpiresAt !== null) facts.push(['Leased until', <Time at={job.leaseExpiresAt} />])
  if (job.idempotencyKey !== null) facts.push(['Idempotency key', job.idempotencyKey])
  if (job.uniqueKey !== null) facts.push(['Unique key', job.uniqueKey])
  if (job.concurrencyKey !== null) facts.push(['Concurrency key', job.concurrencyKey])
  return facts
}

function backoffOf({ kind, ...rest }: Job['backoff']): string {
  const { delay, delays, factor, max } = rest as { delay?: number; delays?: number[]; factor?: number; max?: number }
  if (delays) return delays.map(span).join(', ')
  return [
    kind,
    delay !== undefined && span(delay),
    factor && `x ${factor}`,
    max !== undefined && `at most ${span(max)}`,
  ]
    .filter(Boolean)
    .join(' ')
}

function Actions({ job: { id, state, cancelRequestedAt } }: { job: Job }) {
  const ended = ['succeeded', 'dead', 'cancelled'].includes(state)
  const event = (name: 'cancel' | 'retry' | 'run-now') => () => send<'retry'>('POST', `jobs/${id}/${name}`)
  return (
    <p class="actions">
      {(state === 'dead' || state === 'cancelled') && <Act act={event('retry')}>Retry</Act>}
      {state === 'scheduled' && <Act act={event('run-now')}>Run now</Act>}
      {!ended && cancelRequestedAt === null && (
        <Act
          act={event('cancel')}
          label={`Cancel job ${id}`}
          confirm={
            state === 'running'
              ? 'Its handler is asked to stop. The job ends cancelled unless it succeeds first.'
              : 'It will not run unless it is retried.'
          }
        >
          Cancel job
        </Act>
      )}
      {cancelRequestedAt !== null && !ended && (
        <span>
          Asked to stop <Time at={cancelRequestedAt} />.
        </span>
      )}
      {cancelRequestedAt !== null && state === 'running' && (
        <Act
          danger
          act={() => send<'endLease'>('POST', `jobs/${id}/end-lease`)}
          label={`End the lease of job ${id} now`}
          confirm="The job ends cancelled at once. Its handler may still run; what it reports is refused."
        >
          End the lease now
        </Act>
      )}
      {ended && (
        <Act
          danger
          act={() => send<'remove'>('DELETE', `jobs/${id}`).then(() => history.back())}
          label={`Remove job ${id}`}
          confirm="The job and its whole history are deleted. This cannot be taken back."
        >
          Remove
        </Act>
      )}
    </p>
  )
}

/** Who else ran in the process of a lost attempt. */
function Beside({ others, jobs }: NonNullable<Attempt['beside']>) {
  return (
    <p class="dim">
      beside{' '}
      {jobs.map(({ id, type }, i) => (
        <>
          {i > 0 && ', '}
          <a href={`#/job/${id}`}>
            {type} {id}
          </a>
        </>
      ))}
      {others > jobs.length && ` and ${others - jobs.length} more`}
    </p>
  )
}

/** Each attempt as a bar in the time from submission to now or the end, with its error below. */
function Timeline({ job, attempts }: { job: Job; attempts: Attempt[] }) {
  const end = Math.max(job.finishedAt ?? now(), job.createdAt + 1)
  const place = (at: number) => (100 * (at - job.createdAt)) / (end - job.createdAt)
  return (
    <ol class="timeline">
      {attempts.map(({ attempt, outcome, worker, startedAt, finishedAt, error, beside }, i) => {
        const until = finishedAt ?? end
        const row = (
          <>
            <span class="number">{attempt}</span>
            <State state={outcome} />
            <span class="track" aria-hidden="true">
              <span
                class={`bar ${outcome}`}
                style={{
                  left: `${Math.min(99, place(startedAt))}%`,
                  width: `${Math.max(0, place(until) - place(startedAt))}%`,
                }}
              />
            </span>
            <span class="took number">{span(until - startedAt)}</span>
            <span class="at">
              <Time at={startedAt} />
            </span>
          </>
        )
        if (!error)
          return (
            <li key={attempt}>
              <div class="row">{row}</div>
            </li>
          )
        return (
          <li key={attempt}>
            <details open={i === attempts.length - 1}>
              <summary class="row">{row}</summary>
              <p class="error">
                <b>{error.name}</b> {error.message}
              </p>
              {worker && <p class="dim">on {worker}</p>}
              {beside && beside.others > 0 && <Beside {...beside} />}
              {error.stack && <Text label={`Stack of attempt ${attempt}`}>{error.stack}</Text>}
            </details>
          </li>
        )
      })}
    </ol>
  )
}
