import { GopherQueueError } from '../../model/errors.ts'

/** Not in the import itself: bundlers of apps that do not use it would look for it. */
const driver = 'pg'
const oldest = [8, 23, 1] // those before it can wait for ever when a connection is lost

/** Throws INVALID_ARGUMENT unless the app has a `pg` that can be used. */
export async function loadable(): Promise<void> {
  const found = await versionOf().catch((cause) => {
    throw missing(`it cannot be loaded: ${(cause as Error).message.split('\n')[0]}`, cause)
  })
  const version = found.split('.').map(Number)
  const i = oldest.findIndex((part, i) => part !== version[i])
  if (i >= 0 && (version[i] ?? 0) < oldest[i]!) throw missing(`this is ${found}`)
}

async function versionOf(): Promise<string> {
  await import(driver)
  const { default: manifest } = await import(`${driver}/package.json`, { with: { type: 'json' } })
  return (manifest as { version: string }).version
}

const missing = (what: string, cause?: unknown): GopherQueueError =>
  new GopherQueueError(
    'INVALID_ARGUMENT',
    `A queue on PostgreSQL takes the package pg, ${oldest.join('.')} or newer; ${what}. Nothing was opened: npm install pg.`,
    { cause },
  )
