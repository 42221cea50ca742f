import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { GopherQueueError } from '../../model/errors.ts'
import { type Identity, systemProcesses } from './processes.ts'

/**
 * Makes a file beside the one whose place it takes, one process at a time: a mark says who. What a killed one has left is
 * cleared away by the next. Refuses with INVALID_STATE.
 */
export function besideIts<T>(place: string, make: (partial: string) => T): T {
  const [mark, partial] = [`${place}-making`, `${place}-partial`]
  claim(place, mark)
  const clear = () => {
    for (const left of [partial, `${partial}-journal`]) rmSync(left, { force: true })
  }
  try {
    clear()
    return make(partial)
  } finally {
    clear()
    rmSync(mark, { force: true })
  }
}

function claim(place: string, mark: string): void {
  try {
    writeFileSync(mark, JSON.stringify(systemProcesses.me), { flag: 'wx' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    const by = makerOf(mark)
    if (by === null || systemProcesses.isAlive(by) !== false)
      throw new GopherQueueError(
        'INVALID_STATE',
        `Another backup or restore makes ${place}${by ? ` (process ${by.pid} on ${by.host})` : ''}. Nothing was changed: wait until it has ended; if none runs, remove ${mark} and do it again.`,
      )
    rmSync(mark, { force: true })
    claim(place, mark)
  }
}

/** Null of a mark that says nothing, or is gone. */
function makerOf(mark: string): Identity | null {
  try {
    return JSON.parse(readFileSync(mark, 'utf8')) as Identity
  } catch {
    return null
  }
}
