import { useState } from 'preact/hooks'
import { type Answer, CallError, get, now, search, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Loaded, number, Table, Time } from '../parts.tsx'

export type Cause = Answer<'deadLetters'>['causes'][number]

/** Most jobs that are tried first. */
const few = 10
/** How long to wait before a step whose answer did not come is sent again, in ms: a server starts anew meanwhile. */
const waits = [1000, 2000, 4000, 8000, 16_000]

/**
 * As many as were counted when the button was shown, none that died since: in steps of some milliseconds, as `retryAll` has
 * them. A step of `retry` whose answer is lost is sent again: which jobs it means does not depend on what became of it.
 */
async function all(
  event: 'retry' | 'remove',
  { queue, type, cause, newest, lastAt }: Cause,
  most: number,
  tell: (done: string) => void,
) {
  const endedBefore = Math.max(lastAt + 1, now()) // else a job that was retried and died again would be retried twice
  const goesOn = event === 'retry' && most > few // of a few it would take others than those
  let left = most
  let lost = 0
  for (let cursor: number | null = newest + 1; cursor !== null && left > 0; ) {
    const filter = { state: 'dead', queue, type, cause, endedBefore, limit: Math.min(left, 1000), cursor }
    const done = () => `${number(most - left)} of ${number(most)}`
    try {
      const answer: Answer<'many'> = await send<'many'>('POST', 'jobs/many', { event, filter })
      left -= answer.changed
      cursor = answer.next
      lost = 0
      tell(`${done()}…`)
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      if (goesOn && lost < waits.length && (error.isUnknown || error.code === 'STORAGE_UNAVAILABLE')) {
        tell(`${done()}, no answer: goes on when there is one…`)
        await new Promise((resolve) => setTimeout(resolve, waits[lost++]))
        continue
      }
      const before = `${done()} were done${error.isUnknown ? ' before' : ''}`
      throw new CallError(error.code, `${error.message} ${before}; press again for the rest.`, error.isUnknown)
    }
  }
}

export function Dead({ may }: PageProps) {
  return (
    <Causes
      call="deadLetters"
      path="dead-letters"
      label="Dead letters by cause"
      says="Jobs that will not run again unless you say so, by the cause of their last error; # stands for what differs from job to job."
      empty="No dead letters. Jobs whose attempts are used up would be here."
      of={{ state: 'dead' }}
      actions={may ? (cause) => <Actions cause={cause} /> : undefined}
    />
  )
}

/** Those that fail now need nothing: they are tried again by themselves. */
export function Failing(_: PageProps) {
  return (
    <Causes
      call="failing"
      path="failing"
      label="Failing now by cause"
      says="Jobs whose last attempt failed and that have not ended since, by the cause of that error. They are tried again by themselves."
      empty="Nothing fails now."
      of={{ failing: 'true' }}
      also={<a href="#/jobs?state=scheduled&failing=true">What is tried again next</a>}
    />
  )
}

interface TableProps {
  label: string
  empty: string
  causes: Cause[]
  /** What else their jobs are found by. */
  of: Record<string, string>
  actions?: ((cause: Cause) => preact.JSX.Element) | undefined
}

interface CausesProps extends Omit<TableProps, 'causes'> {
  call: 'deadLetters' | 'failing'
  path: string
  says: string
  also?: preact.JSX.Element
}

function Causes({ call, path, label, says, also, empty, of, actions }: CausesProps) {
  const [cursor, setCursor] = useState<string | null>(null)
  const data = useData(`${path} ${cursor}`, () => get<typeof call>(path, { cursor }))
  return (
    <Loaded data={data}>
      {({ causes, counting, next }) => (
        <>
          <p class="dim">
            {says} {causes.length > 0 && also}
          </p>
          {counting && <p role="status">Counting: jobs of an older file are still being counted, these are too few.</p>}
          <CauseTable
            label={label}
            empty={counting ? 'None counted so far.' : empty}
            causes={causes}
            of={of}
            actions={actions}
          />
          <p class="pager">
            {cursor !== null && (
              <button type="button" onClick={() => setCursor(null)}>
                Most jobs
              </button>
            )}
            {next !== null && (
              <button type="button" onClick={() => setCursor(next)}>
                Causes of fewer jobs
              </button>
            )}
          </p>
        </>
      )}
    </Loaded>
  )
}

export function CauseTable({ label, empty, causes, of, actions }: TableProps) {
  return (
    <Table
      label={label}
      empty={empty}
      heads={['#Jobs', 'Cause', '-Latest', ...(actions ? [''] : [])]}
      rows={causes.map((cause) => [
        JSON.stringify([cause.queue, cause.type, cause.cause]),
        <a href={`#/jobs${search({ ...of, queue: cause.queue, type: cause.type, cause: cause.cause })}`}>
          {number(cause.count)}
        </a>,
        <span class="error">
          {cause.cause}{' '}
          <small class="dim">
            {cause.type} in {cause.queue}
          </small>
        </span>,
        <a href={`#/job/${cause.newest}`}>
          <Time at={cause.lastAt} />
        </a>,
        ...(actions ? [actions(cause)] : []),
      ])}
    />
  )
}

function Actions({ cause }: { cause: Cause }) {
  const { count, type, queue } = cause
  const jobs = count === 1 ? '1 job' : `${number(count)} jobs`
  const of = `of type ${type} in queue ${queue}, dead of “${cause.cause}”`
  const again = 'ready again, with a fresh attempt budget, in the order of their submission'
  return (
    <span class="actions">
      {count > few && (
        <Act
          act={(tell) => all('retry', cause, few, tell)}
          label={`Try ${few} first of ${jobs} ${of}`}
          confirm={`The newest ${few} become ${again}; the others stay dead.`}
        >
          Try {few} first
        </Act>
      )}
      <Act
        act={(tell) => all('retry', cause, count, tell)}
        label={`Retry all ${jobs} ${of}`}
        confirm={`${jobs} become ${again}.`}
      >
        Retry all {number(count)}
      </Act>
      <Act
        danger
        act={(tell) => all('remove', cause, count, tell)}
        label={`Remove all ${jobs} ${of}`}
        confirm={`${jobs} and their history are deleted. This cannot be taken back.`}
      >
        Remove all {number(count)}
      </Act>
    </span>
  )
}
