import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { CallError, send } from './api.ts'
import { Act, number, type Row, type Selection } from './parts.tsx'

const jobs = (count: number) => (count === 1 ? '1 job' : `${number(count)} jobs`)

/** What may be done to jobs: its button, what became of them, how it is asked for, and what follows. */
const events = [
  ['Retry', 'retried', 'POST', '/retry', 'Those that are dead or cancelled become ready again, with a fresh attempt budget.'],
  ['Run now', 'made ready', 'POST', '/run-now', 'Those that wait for their time become ready at once.'],
  ['Cancel', 'cancelled or asked to stop', 'POST', '/cancel', 'Those that wait will not run; handlers of those that run are asked to stop.'],
  ['Remove', 'removed', 'DELETE', '', 'Those that have ended are deleted with their history. This cannot be taken back.'],
] as const // biome-ignore format: a table

interface Done {
  what: string
  count: number
  refused: [id: Row[0], error: CallError][]
  /** How many were not tried, since nothing could be asked any more. */
  left: number
}

/** Rows of jobs that may be selected, and what is done to those that are. */
export function Chosen({
  of,
  may,
  children,
}: {
  of: string
  may: boolean
  children: (selection?: Selection) => ComponentChildren
}) {
  const [chosen, setChosen] = useState<Selection['keys']>(new Set())
  const [done, setDone] = useState<Done>()
  const [shown, setShown] = useState(of)
  if (shown !== of) {
    setShown(of) // what was selected on another page is not meant here
    setChosen(new Set())
    setDone(undefined)
  }
  if (!may) return <>{children()}</>
  const act =
    ([, what, method, path]: (typeof events)[number]) =>
    async (tell: (progress: string) => void) => {
      const all = [...chosen]
      const refused: Done['refused'] = []
      let tried = 0
      for (const id of all) {
        tell(`${tried} of ${all.length}…`)
        tried++
        try {
          await send<'retry' | 'remove'>(method, `jobs/${id}${path}`)
        } catch (error) {
          if (!(error instanceof CallError)) throw error
          refused.push([id, error])
          if (/^(NETWORK|UNAUTHORIZED|FORBIDDEN)$/.test(error.code)) break
        }
      }
      setChosen(new Set([...refused.map(([id]) => id), ...all.slice(tried)]))
      setDone({ what, count: tried - refused.length, refused, left: all.length - tried })
    }
  const unknown = done?.refused.filter(([, { isUnknown }]) => isUnknown).length ?? 0
  const refused = (done?.refused.length ?? 0) - unknown
  return (
    <>
      {children({ keys: chosen, select: setChosen })}
      <section class="chosen" aria-label="Selected jobs">
        {chosen.size > 0 && (
          <p class="actions">
            <b>{jobs(chosen.size)} selected</b>
            {events.map((event) => (
              <Act
                key={event[0]}
                act={act(event)}
                danger={event[0] === 'Remove'}
                label={`${event[0]}: ${jobs(chosen.size)}`}
                confirm={`${event[4]} The others are refused, and stay as they are.`}
              >
                {event[0]}
              </Act>
            ))}
            <button type="button" class="quiet" onClick={() => setChosen(new Set())}>
              Select none
            </button>
          </p>
        )}
        {done && (
          <div role="status">
            {jobs(done.count)} {done.what}.{refused > 0 && ` ${jobs(refused)} refused:`}
            {unknown > 0 && ` Of ${jobs(unknown)} it is not known.`}
            {done.left > 0 && ` ${jobs(done.left)} not tried; press again for the rest.`}
            <ul>
              {done.refused.map(([id, { code, message }]) => (
                <li key={id}>
                  <a href={`#/job/${id}`}>{id}</a> <b>{code}</b> {message}
                </li>
              ))}
            </ul>
          </div>
        )}
      </section>
    </>
  )
}
