import { useState } from 'preact/hooks'
import { type Answer, get, search, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Loaded, number, Table, Time } from '../parts.tsx'

type Group = Answer<'deadLetters'>['groups'][number]

/** As many as were counted when the button was shown, none that died since; some hundred a call, so that nobody waits long. */
async function all(
  event: 'retry' | 'remove',
  { queue, type, error, count, newest }: Group,
  tell: (done: string) => void,
) {
  let left = count
  for (let cursor: number | null = newest + 1; cursor !== null && left > 0; ) {
    const filter = { state: 'dead', queue, type, error, limit: Math.min(left, 250), cursor }
    const answer: Answer<'many'> = await send<'many'>('POST', 'jobs/many', { event, filter })
    left -= answer.changed
    cursor = answer.next
    tell(`${number(count - left)} of ${number(count)}…`)
  }
}

export function Dead({ may }: PageProps) {
  const [cursor, setCursor] = useState<number | null>(null)
  const data = useData(`dead ${cursor}`, () => get<'deadLetters'>('dead-letters', { cursor }))
  return (
    <Loaded data={data}>
      {({ groups, next }) => (
        <>
          <p class="dim">
            Jobs that will not run again unless you say so, grouped by their last error, with # for numbers
            {next === null ? '.' : '; of the newest, there are more.'}
          </p>
          <Table
            label="Dead letters by error"
            empty="No dead letters. Jobs whose attempts are used up would be here."
            heads={['#Jobs', 'Error', '-Latest', ...(may ? [''] : [])]}
            rows={groups.map((group) => [
              JSON.stringify([group.queue, group.type, group.error]),
              <a href={`#/jobs${search({ state: 'dead', queue: group.queue, type: group.type, error: group.error })}`}>
                {number(group.count)}
              </a>,
              <span class="error">
                {group.error}{' '}
                <small class="dim">
                  {group.type} in {group.queue}
                </small>
              </span>,
              <a href={`#/job/${group.newest}`}>
                <Time at={group.lastAt} />
              </a>,
              ...(may ? [<Actions group={group} />] : []),
            ])}
          />
          <p class="pager">
            {cursor !== null && (
              <button type="button" onClick={() => setCursor(null)}>
                Newest
              </button>
            )}
            {next !== null && (
              <button type="button" onClick={() => setCursor(next)}>
                Older dead letters
              </button>
            )}
          </p>
        </>
      )}
    </Loaded>
  )
}

function Actions({ group }: { group: Group }) {
  const jobs = group.count === 1 ? '1 job' : `${number(group.count)} jobs`
  const of = `of type ${group.type} in queue ${group.queue}, dead with “${group.error}”`
  return (
    <span class="actions">
      <Act
        act={(tell) => all('retry', group, tell)}
        label={`Retry ${jobs} ${of}`}
        confirm={`${jobs} become ready again, each with a fresh attempt budget, in the order of their submission.`}
      >
        Retry {number(group.count)}
      </Act>
      <Act
        danger
        act={(tell) => all('remove', group, tell)}
        label={`Remove ${jobs} ${of}`}
        confirm={`${jobs} and their history are deleted. This cannot be taken back.`}
      >
        Remove {number(group.count)}
      </Act>
    </span>
  )
}
