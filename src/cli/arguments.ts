import { hostname, userInfo } from 'node:os'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { systemClock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { states } from '../model/lifecycle.ts'
import { GopherQueue } from '../queue/gopherqueue.ts'
import { isPostgres } from '../queue/options.ts'
import { storeAt } from '../queue/place.ts'
import { isAudited } from '../store/operations.ts'
import { mustExist, Reader } from '../store/sqlite/reader.ts'
import { missingRights } from '../store/sqlite/rights.ts'
import type { Store } from '../store/store.ts'

/** Opens the server that --url names, or the file of --db. Only commands that bring jobs or wait for them create it: others would by a typo. `audits`: each of an operator's doings is an entry of the file's audit log. */
export async function open(command: Command, absent: 'create' | 'refuse', audits = true): Promise<GopherQueue> {
  const { url, token } = serverOf(command)
  if (url) {
    const tell = () => process.stderr.isTTY && process.stderr.write(`waiting for the server at ${url}\n`)
    const untell = systemClock.timer(1000, tell)
    return await GopherQueue.open(url, { ...(token && { token }) }).finally(untell)
  }
  const db = databaseOf(command)
  if (absent === 'refuse' && !db.includes('://')) mustExist(db)
  const store = await storeAt(db, {})
  return new GopherQueue(audits ? signed(store) : store)
}

/** A store whose audit log names this user for what an operator does. */
function signed(store: Store): Store {
  const call: Store['call'] = (operation, input, signal, by, epoch) =>
    store.call(operation, input, signal, by ?? (isAudited(operation) ? who() : undefined), epoch)
  return new Proxy(store, {
    get: (_, name) => {
      if (name === 'call') return call
      const value: unknown = Reflect.get(store, name, store)
      return typeof value === 'function' ? value.bind(store) : value
    },
  })
}

/** The server that --url names, or the environment when no --db stands against it. */
export function serverOf(command: Command): { url?: string; token?: string } {
  const { url } = command.optsWithGlobals<{ url?: string }>()
  const [db, by] = ['db', 'url'].map((name) => command.getOptionValueSourceWithGlobals(name))
  if (!url || (by === 'env' && db === 'cli')) return {}
  if (by === 'cli' && db === 'cli') throw invalid('Name one queue: either --db or --url.')
  if (!/^https?:\/\//.test(url)) throw invalid(`--url takes http://HOST:PORT or https://...; got '${url}'.`)
  const token = process.env.GOPHERQUEUE_TOKEN
  return token ? { url, token } : { url }
}

/** The file that --db names, for what works on files alone. */
export function fileOf(command: Command): string {
  const db = databaseOf(command)
  if (isPostgres(db))
    throw invalid(
      'This command works on an SQLite file. Of a PostgreSQL database, back up, restore, check and repair with its own tools: pg_dump or pg_basebackup with archived WAL, pg_restore, pg_amcheck.',
    )
  return db
}

/** The file or the PostgreSQL database that --db names. */
export function databaseOf(command: Command): string {
  const { db, url } = command.optsWithGlobals<{ db?: string; url?: string }>()
  if (url && (!db || command.getOptionValueSourceWithGlobals('url') === 'cli'))
    throw invalid(`This command works on the file itself: name it with --db FILE, on its server's machine.`)
  if (!db)
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      'Name the queue: --db FILE or GOPHERQUEUE_DB=FILE, --url URL or GOPHERQUEUE_URL=URL.',
    )
  return db
}

/** Who acts on a file, for its audit log. */
export function who(): string {
  return `cli:${userName()}@${hostname()}`
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `${process.getuid?.()}` // a container's user need not have a name
  }
}

/** Opens it for a command that only reads: its file is not brought forward, and no lock is waited for. */
export async function openToLook(command: Command): Promise<GopherQueue> {
  return serverOf(command).url ? open(command, 'refuse') : new GopherQueue(await readerAt(command))
}

/** Of a file or a database. A schema of an older version is brought forward, as only who may write can read it. */
async function readerAt(command: Command): Promise<Store> {
  const db = databaseOf(command)
  if (!isPostgres(db)) return readerOf(command)
  const { ServerReader } = await import('../store/postgres/reader.ts') // its driver need not be installed
  return (await ServerReader.open(db)) ?? storeAt(db, {})
}

/** The store itself, for what the library does not offer. */
export async function storeToLook(command: Command): Promise<Store & AsyncDisposable> {
  const { url, token } = serverOf(command)
  const store = url ? await storeAt(url, { ...(token && { token }) }) : await readerAt(command)
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() })
}

/** The file of --db, to be looked at. */
export function readerOf(command: Command): Reader {
  const file = fileOf(command)
  const reader = new Reader(file)
  if (missingRights(file) !== null)
    process.stderr.write(`gopherqueue: read as it stands in ${file}, which this user may not write\n`)
  const moves = reader.health.causes.find(({ code }) => code === 'MOVED')
  if (moves) process.stderr.write(`gopherqueue: ${moves.message}\n`)
  return reader
}

/** What names are completed from: it never waits for anything. */
export async function nameReader(command: Command): Promise<GopherQueue> {
  if (serverOf(command).url) return open(command, 'refuse')
  return new GopherQueue(isPostgres(databaseOf(command)) ? await readerAt(command) : new Reader(fileOf(command)))
}

type Act<Given extends unknown[]> = (queue: GopherQueue, ...given: Given) => Promise<unknown>

/** The action of a command on an existing file. Commander calls it with the arguments, then the options and the command. */
export const action = <Given extends unknown[]>(act: Act<Given>) => onQueue((command) => open(command, 'refuse'), act)

/** As `action`, of a command that only reads: it needs no right to write the file. */
export const look = <Given extends unknown[]>(act: Act<Given>) => onQueue(openToLook, act)

function onQueue<Given extends unknown[]>(opened: (command: Command) => Promise<GopherQueue>, act: Act<Given>) {
  return async (...given: [...Given, ...unknown[]]): Promise<void> => {
    await using queue = await opened(given.at(-1) as Command)
    await act(queue, ...(given as unknown as Given))
  }
}

/** The options that say which jobs are meant, to whoever lists or changes them. */
export const filtered = (command: Command): Command =>
  command
    .addOption(new Option('--state <state>', 'jobs in this state').choices(states))
    .option('--queue <name>', 'jobs of this queue')
    .option('--type <type>', 'jobs of this type')
    .option('--text <text>', 'jobs with this in their payload or a key')
    .option('--cause <cause>', 'jobs that are dead of this cause, or fail of it now, as `dead` and `failing` name it')
    .option('--failing', 'jobs that fail now, their last attempt having failed')
    .option('--since <when>', 'submitted then or later: a duration back, such as 7d, or a date', past)
    .option('--until <when>', 'submitted before', past)

// What commander calls on values. Durations and what is built of them are left to the library's own check.

export function whole(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Give a whole number.')
  return Number(text)
}

export const ids = (text: string, before: number[] = []): number[] => [...before, whole(text)]

export const instant = (text: string): number => instantOr('', text)

function instantOr(others: string, text: string): number {
  const at = /^\d{9,15}$/.test(text) ? Number(text) : Date.parse(text)
  const day = /^\d{4}-\d\d-\d\d/.exec(text)?.[0]
  // Date.parse takes 30 February as 2 March.
  const isNone = Number.isNaN(at) || (day !== undefined && !new Date(`${day}T00:00Z`).toISOString().startsWith(day))
  if (isNone) throw new InvalidArgumentError(`Give ${others}a date such as 2030-01-31T09:00Z, or Unix milliseconds.`)
  return at
}

const isDuration = (text: string) => /^[\d.]+[a-z]+$/.test(text)

/** A duration back from now, or a date. */
export const past = (text: string): number =>
  isDuration(text)
    ? Math.max(0, systemClock.now() - toMs(text, 'A duration back'))
    : instantOr('a duration back, such as 7d, ', text)

export const deadline = (text: string): number | string => (isDuration(text) ? text : instant(text))

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidArgumentError(`It is not JSON: ${(error as Error).message}.`)
  }
}
