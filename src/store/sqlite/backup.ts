import { existsSync, renameSync, rmSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { GopherQueueError } from '../../model/errors.ts'
import { mustHaveFolder, storageError } from './connection.ts'
import { openToRead } from './doctor.ts'
import { markAsCopy } from './epoch.ts'
import { platform } from './platform.ts'

/**
 * Writes all of a database, as of one instant, into a new file, while others go on. It is whole and on disk, or not there,
 * and it has another epoch: what its source has leased fits nothing in it.
 */
export function backup(path: string, into: string, force: boolean): void {
  if (existsSync(`${into}-wal`))
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      `${into} is a database in use (${into}-wal is there): name another file.`,
    )
  if (existsSync(into) && !force)
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      `${into} exists. Nothing was written: name another file, or --force.`,
    )
  mustHaveFolder(into)
  const partial = `${into}-partial-${process.pid}`
  try {
    copy(path, partial)
    platform.sync(partial)
    renameSync(partial, into)
    platform.sync(dirname(resolve(into)))
  } catch (error) {
    rmSync(partial, { force: true })
    throw storageError(error, `No backup was made of ${path}`, 'no', into, path)
  }
}

/** A backup that nobody has read is a hope. */
function copy(path: string, into: string): void {
  using source = openToRead(path)
  source.prepare('VACUUM INTO ?').run(into)
  using made = new DatabaseSync(into)
  markAsCopy(made)
  const found = made.prepare('PRAGMA integrity_check(1)').get()!.integrity_check
  if (found !== 'ok')
    throw new GopherQueueError('STORAGE_CORRUPT', `The copy is not sound (${found}): nothing was kept of it.`)
}
