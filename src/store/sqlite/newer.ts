import { GopherQueueError } from '../../model/errors.ts'
import type { Db } from './db.ts'
import { tooNew } from './schema.ts'

/**
 * Asked when another process has written: a newer one may have brought the schema forward, and what this one would write
 * there breaks rules that it does not know. Throws SCHEMA_TOO_NEW.
 */
export function mustKnowSchema(db: Db): void {
  const found = Number(db.get<{ value: string }>(`SELECT value FROM gq_meta WHERE key = 'schema'`)?.value)
  if (found > db.newestSchema) throw new GopherQueueError('SCHEMA_TOO_NEW', tooNew(found))
}
