import { GopherQueueError } from '../../model/errors.ts'
import type { ServerConnection } from './connection.ts'

/** A row of gq_marks: each write transaction leaves one. */
export interface Mark {
  n: number
  id: string
  seq: number
  readied: number
}

/** Marks that are kept, and how many more make a reason to prune. */
const marks = { kept: 100_000, step: 1000 }

const table = ({ place }: ServerConnection): string => `${place.identifier}.gq_marks`

/** It goes with COMMIT. */
export function leave(connection: ServerConnection, { n, id, seq, readied }: Mark): void {
  const insert = connection.statement(`INSERT INTO ${table(connection)} VALUES ($1, $2, $3, $4)`)
  connection.later(insert([n, id, seq, readied]))
  if (n % marks.step > 0) return
  connection.later(connection.statement(`DELETE FROM ${table(connection)} WHERE n < $1`)([n - marks.kept]))
}

/** Asked by who has the lock: whether the transaction of a mark was committed. Throws where that cannot be told any more. */
export function isThere(connection: ServerConnection, { n, id }: Mark): boolean {
  const find = connection.statement(`SELECT id, n FROM ${table(connection)} WHERE n <= $1 ORDER BY n DESC LIMIT 1`)([n])
  const [found] = connection.flight([find])[0]!.rows as [string, number][]
  if (found) return found[1] === n && found[0] === id
  throw new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    'The connection was lost at COMMIT, and so many others have committed since that it cannot be told whether this took effect: look before you do it again.',
    { accepted: 'unknown' },
  )
}
