import type pg from 'pg'
import { GopherQueueError } from '../../model/errors.ts'

/** Not in the import itself: bundlers of apps that do not use it would look for it. Turbopack does all the same, and fails unless a `try` is around the import. */
const driver = 'pg'
const oldest = [8, 23, 1] // those before it can wait for ever when a connection is lost

/** The app's `pg`. Throws INVALID_ARGUMENT when there is none. */
export async function loaded(): Promise<typeof pg> {
  try {
    return ((await import(driver)) as { default: typeof pg }).default
  } catch (cause) {
    throw notLoaded(cause)
  }
}

/** Throws INVALID_ARGUMENT unless the app has a `pg` that can be used. */
export async function loadable(): Promise<void> {
  await loaded()
  const found = await versionOf()
  const version = found.split('.').map(Number)
  const i = oldest.findIndex((part, i) => part !== version[i])
  if (i >= 0 && (version[i] ?? 0) < oldest[i]!) throw missing(`this is ${found}`)
}

/** Whether a server takes no writes. As text, which all sets of type parsers leave as it is. */
export async function isStandby(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query(`SELECT CASE WHEN pg_is_in_recovery() THEN 'yes' END AS standby`)
  return rows[0].standby === 'yes'
}

/** Whether a host is there, and no standby; else its client is closed. */
export async function takesWrites(client: pg.Client): Promise<boolean> {
  try {
    await client.connect()
    if (!(await isStandby(client))) return true
  } catch {
    // Another host may be the primary.
  }
  await client.end().catch(() => undefined)
  return false
}

async function versionOf(): Promise<string> {
  try {
    const { default: manifest } = await import(`${driver}/package.json`, { with: { type: 'json' } })
    return (manifest as { version: string }).version
  } catch (cause) {
    throw notLoaded(cause)
  }
}

const notLoaded = (cause: unknown): GopherQueueError =>
  missing(`it cannot be loaded: ${(cause as Error).message.split('\n')[0]}`, cause)

const missing = (what: string, cause?: unknown): GopherQueueError =>
  new GopherQueueError(
    'INVALID_ARGUMENT',
    `A queue on PostgreSQL takes the package pg, ${oldest.join('.')} or newer; ${what}. Nothing was opened: npm install pg. An app that is bundled also keeps gopherqueue out of the bundle: serverExternalPackages: ['gopherqueue'] in next.config; docs/bundlers.md shows others.`,
    { cause },
  )
