import { accessSync, constants, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { GopherQueueError } from '../../model/errors.ts'
import { platform } from './platform.ts'

/** Throws where a name is that of something else than a file: SQLite would only say that it cannot be opened. */
export function mustBeFile(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found || found.isFile()) return
  const [kind, advice] = found.isDirectory()
    ? ['a folder', 'name the file in it']
    : ['a device, a pipe or a socket', 'name a file']
  throw new GopherQueueError('NOT_A_QUEUE', `${path} is ${kind}: ${advice}. Nothing was changed.`)
}

/** Under each of its names a file has a -wal and locks of their own: two processes would write over each other. */
export function mustHaveOneName(path: string): void {
  const file = statSync(path, { throwIfNoEntry: false })
  if (!file?.isFile()) return
  const why =
    file.nlink > 1
      ? (restoreStopped(path, file.ino) ??
        `has ${file.nlink} names (hard links): keep one of them, or 'cp' it and put the copy in its place while no process has it open`)
      : platform.isMountPoint(path)
        ? 'is mounted by itself, as by `docker run -v FILE:FILE`: mount its folder'
        : null
  if (why)
    throw new GopherQueueError(
      'UNSUPPORTED_FILESYSTEM',
      `${path} ${why}. Its -wal and its locks lie beside each name: who has it open by another name would not see them, and jobs would be lost. Nothing was changed.`,
    )
}

/** Of a file as it was before a restore. */
export const keptName = (path: string): string => `${path}-before-`

/** A restore that was killed leaves the file under its name and under the one that keeps it; the -wal may have moved there. */
function restoreStopped(path: string, inode: number): string | null {
  const folder = dirname(path)
  const kept = readdirSync(folder).find(
    (name) => name.startsWith(keptName(basename(path))) && statSync(join(folder, name)).ino === inode,
  )
  return kept === undefined
    ? null
    : `is also ${kept}, since a restore was stopped before its end: run the same 'gopherqueue restore' again`
}

/** Whether this user lacks a right that a queue needs, and what helps. Root may do all. */
export function missingRights(path: string): string | null {
  const places = [dirname(path), path, `${path}-wal`, `${path}-shm`].flatMap((place) => denied(place) ?? [])
  if (places.length === 0) return null
  const uid = process.getuid?.()
  const advice = places.every((place) => place.endsWith(readOnly))
    ? 'Mount that filesystem so that it can be written, or move the files to one that can'
    : 'Run it as their owner, or give this user the right to write the folder and each file of the queue in it'
  return `this user${uid === undefined ? '' : ` (uid ${uid})`} may not read and write ${places.join(', ')}. ${advice}. Nothing was changed.`
}

const readOnly = '(on a read-only filesystem)'

function denied(place: string): string | null {
  try {
    accessSync(place, constants.R_OK | constants.W_OK)
    return null
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EROFS') return `${place} ${readOnly}`
    return code === 'EACCES' || code === 'EPERM' ? `${place}${ownerOf(place)}` : null
  }
}

function ownerOf(place: string): string {
  try {
    const { uid, mode } = statSync(place)
    return ` (owner uid ${uid}, mode ${(mode & 0o7777).toString(8).padStart(3, '0')})`
  } catch {
    return '' // nor may it look into the folder
  }
}
