import { constants } from 'node:os'
import { systemClock } from '../model/clock.ts'

/** A terminal sends one Ctrl-C to npm and to its child, and npm passes it on: what comes so soon is the same one. In ms. */
const sameSignal = 1000

const own = new WeakSet<(name: NodeJS.Signals) => void>()

/** Calls `first` at the first of these signals, and `again` at each later one. Returns what ends the listening. */
export function listen(
  names: readonly NodeJS.Signals[],
  first: (name: NodeJS.Signals) => void,
  again: (name: NodeJS.Signals) => void,
): () => void {
  let askedAt: number | undefined
  const hear = (name: NodeJS.Signals) => {
    const now = systemClock.monotonic()
    if (askedAt === undefined) first(name)
    else if (now - askedAt > sameSignal) again(name)
    askedAt ??= now
  }
  own.add(hear)
  for (const name of names) process.prependListener(name, hear) // before those that remove themselves, which `closeOn` has to see
  return () => {
    for (const name of names) process.off(name, hear)
  }
}

/** Most ms to wait until it is on disk that workers stop: what is lost from then on is no crash. */
const mostToTell = 500

/** Queues of this process that close because of a signal: it ends when the last of them has. */
let closing = 0

/**
 * Closes a queue at the first of these signals and then ends the process with code 0, or 1 when what was to be stored could not
 * be; a second signal ends it at once. A program that listens to the signal itself ends itself, perhaps in the same turn of the
 * event loop: so `settle` waits for what `close` has asked to be stored. Returns what ends the listening.
 */
export function closeOn(
  names: readonly NodeJS.Signals[],
  close: () => Promise<void>,
  settle: (ms: number) => void,
): () => void {
  const first = async (name: NodeJS.Signals) => {
    closing++
    const endsItself = process.listeners(name).some((listener) => !own.has(listener))
    const closed = close()
    settle(mostToTell)
    try {
      await closed
    } catch (error) {
      process.exitCode = 1
      console.error(error)
    }
    if (--closing === 0 && !endsItself) process.exit()
  }
  return listen(names, first, (name) => process.exit(128 + constants.signals[name]))
}
