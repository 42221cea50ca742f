import { GopherQueueError } from '../../model/errors.ts'

// A file that moves to a server says so in gq_meta, and everything that writes reads it there first.

/** What a file's mark says of its move. */
export interface Moved {
  /** Names the move. */
  id: string
  /** Where to, without the password. */
  to: string
  /** Since when, in ISO 8601. */
  since: string
  /**
   * sealed: submissions are refused, no job starts, and what runs may end. frozen: nobody writes but the move. closed: no
   * job runs. done: all of it is at the new place.
   */
  phase: 'sealed' | 'frozen' | 'closed' | 'done'
}

/** In gq_meta of a file. */
export const movedKey = 'moved'
/** In gq_meta of the place that a file moves to, until all of it is there. */
export const movingKey = 'moving'

export const movedFrom = (value: string): Moved => JSON.parse(value) as Moved

export function movedError({ to, since, phase }: Moved): GopherQueueError {
  const when = phase === 'done' ? `has moved to ${to}` : `moves to ${to} since ${since}`
  const then = phase === 'done' ? 'open it there' : `open it there once 'gopherqueue move' has ended`
  return new GopherQueueError('MOVED', `The queue ${when}. Nothing was accepted here: ${then}.`, { details: { to } })
}

/** Of the new place, while it has but a part. */
export const stillMoving = (): GopherQueueError =>
  new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `A queue is being moved to this place, and not all of it is here yet. Nothing was accepted; it goes on by itself when 'gopherqueue move' has ended.`,
  )
