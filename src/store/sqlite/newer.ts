import type { Db } from './db.ts'
import { movedError, movedFrom, movedKey, movingKey, stillMoving } from './moved.ts'

const select = `SELECT key, value FROM gq_meta WHERE key IN ('schema', 'schema_min', '${movedKey}', '${movingKey}')`

/**
 * Asked when another process has written: a newer one may have brought the schema forward, and what this one would write
 * there breaks rules that it does not know, unless the schema says that this version works beside it (`schema_min`); or the
 * queue is being moved, and what is written here is not there; or no ids are left. Throws SCHEMA_TOO_NEW, MOVED,
 * STORAGE_CORRUPT, and STORAGE_UNAVAILABLE at the place that it moves to.
 */
export function mustBeCurrent(db: Db): void {
  const meta = new Map(db.arrays(select) as [string, string][])
  const found = Number(meta.get('schema'))
  if (Number(meta.get('schema_min') ?? found) > db.newestSchema) throw db.tooNew(found)
  if (meta.has(movingKey)) throw stillMoving()
  const moved = meta.get(movedKey)
  db.movedTo = moved === undefined ? null : movedFrom(moved)
  if (db.movedTo && db.movedTo.phase !== 'sealed') throw movedError(db.movedTo)
  if (db.isFile) db.sequence() // throws before a job with the highest of all ids is admitted: then it can be deleted
}
