import { existsSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { GopherQueueError } from '../../model/errors.ts'
import { mustHaveFolder, storageError } from './connection.ts'
import { realFile } from './disk.ts'
import { markAsCopy } from './epoch.ts'
import { besideIts } from './partial.ts'
import { platform } from './platform.ts'
import { disturbed, isOfOneMoment, openToRead } from './reader.ts'
import { DatabaseSync } from './sqlite.ts'

/**
 * Writes all of a database, as of one instant, into a new file, while others go on. It is whole and on disk, or not there,
 * and it has another epoch: what its source has leased fits nothing in it.
 */
export function backup(path: string, name: string, force: boolean): void {
  const into = targetOf(name, force, path)
  try {
    besideIts(into, (partial) => {
      copy(path, partial)
      platform.sync(partial)
      renameSync(partial, into)
      platform.sync(dirname(into))
    })
  } catch (error) {
    throw storageError(error, `No backup was made of ${path}`, 'no', into, path)
  }
}

/**
 * Where the copy of a database is to be made: what `name` leads to through links. It may be replaced with `force` alone,
 * and only a file: a device would become one, and a queue without its -wal loses what that holds.
 */
export function targetOf(name: string, force: boolean, source: string): string {
  const there = found(name)
  if (there && !there.isFile()) throw refusal(name, 'is not a file')
  const into = realFile(name)
  mustHaveFolder(into)
  const from = realFile(source)
  const owner = ownerOf(into)
  if (owner !== null && (owner === from || existsSync(owner))) throw refusal(name, `belongs to the database ${owner}`)
  for (const own of [`${into}-wal`, `${into}-journal`])
    if (existsSync(own)) throw refusal(name, `is a database in use (${own} is there)`)
  if (into === from) throw refusal(name, 'is what is to be copied')
  if (there && !force) throw refusal(name, 'exists', ', or replace it with --force')
  return into
}

/** The database that a file would lie beside by its name; null of a name of its own. */
export const ownerOf = (path: string): string | null => /^(.+)-(?:wal|shm|journal|reserve)$/.exec(path)?.[1] ?? null

function found(name: string) {
  try {
    return statSync(name, { throwIfNoEntry: false })
  } catch (error) {
    throw storageError(error, `Cannot write ${name}`, 'no', name) // such as links in a circle
  }
}

const refusal = (name: string, why: string, or = '') =>
  new GopherQueueError('INVALID_ARGUMENT', `${name} ${why}. Nothing was written: name another file${or}.`)

/** A backup that nobody has read is a hope. */
export function copy(path: string, into: string): void {
  using source = openToRead(path)
  source.prepare('VACUUM INTO ?').run(into)
  if (!isOfOneMoment(source)) throw disturbed(path)
  using made = new DatabaseSync(into)
  markAsCopy(made)
  const found = made.prepare('PRAGMA integrity_check(1)').get()!.integrity_check
  if (found !== 'ok')
    throw new GopherQueueError('STORAGE_CORRUPT', `The copy is not sound (${found}): nothing was kept of it.`)
}
