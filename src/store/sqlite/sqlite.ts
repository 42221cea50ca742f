import type * as sqlite from 'node:sqlite'
import { GopherQueueError } from '../../model/errors.ts'

/** A connection of Node's own SQLite. */
export type DatabaseSync = sqlite.DatabaseSync
/**
 * Asked for at run time: an import would end an older Node before any code could say why, and some bundlers and test
 * runners cut off the `node:` without which this module has no name.
 */
export const { DatabaseSync } = nodeSqlite()

function nodeSqlite(): typeof sqlite {
  const { node } = process.versions
  const found = Number.parseInt(node, 10) >= 24 && process.getBuiltinModule('node:sqlite')
  if (found) return found
  const message = `Node 24 or newer is needed; this is ${node}. Nothing was opened: start the app with a newer Node.`
  const error = new GopherQueueError('ENGINE_TOO_OLD', message)
  error.stack = `${error.name}: ${message}` // it is thrown while an app starts: a stack would hide the sentence
  throw error
}
