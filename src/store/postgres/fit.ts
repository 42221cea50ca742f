import type { DatabaseSync } from 'node:sqlite'
import type pg from 'pg'
import { GopherQueueError } from '../../model/errors.ts'
import { type Copied, copiedOf, linesOf, rowsSql, tables } from './copied.ts'
import type { Add, Ask, Target } from './target.ts'

// What a file keeps and PostgreSQL does not take. It is found before the file is sealed: met later, it leaves nothing but --abort.

/** So many rows are told. */
const most = 10
/** Most bytes of a row's indexed texts that fit into an index, whatever they are (2,704 with all else). */
const indexed = 2000

/** Throws INVALID_STATE if rows of the file cannot be in the place, or if the place has a queue. */
export async function mustFit(file: DatabaseSync, epoch: string, target: Target): Promise<void> {
  const refused = orphans(file)
  await target.tryOut(epoch, async (add, ask) => {
    for (const name of tables) {
      if (name === 'gq_attempts') continue // but for their jobs, any fit
      const table = copiedOf(file, name)
      const some = strange(file, table)
      for (let lines = batchOf(some); lines.length > 0; lines = batchOf(some)) {
        refused.push(...(await refusedOf(table, lines, add, ask, most - refused.length)))
        if (refused.length >= most) return
      }
    }
  })
  if (refused.length === 0) return
  throw new GopherQueueError(
    'INVALID_STATE',
    `PostgreSQL cannot keep what is in the file: ${refused.join('; ')}. It keeps no NUL and nothing that is not UTF-8 (U+FFFD takes the place of each), and no index entry of more than 2,704 bytes. Nothing was changed, and the file is not sealed: let these jobs end, remove them ('gopherqueue cancel ID' and 'rm ID', which frees their keys, too), correct rows of other tables with plain SQL, and move again.`,
  )
}

/** A client of SQLite that does not enforce foreign keys leaves the history of jobs that it deletes. */
function orphans(file: DatabaseSync): string[] {
  const rows = file.prepare(
    `SELECT DISTINCT job_id AS id FROM gq_attempts WHERE job_id NOT IN (SELECT id FROM gq_jobs) LIMIT ${most}`,
  )
  const jobs = rows.all().map(({ id }) => id)
  if (jobs.length === 0) return []
  return [`gq_attempts has the history of jobs that are gone, ${jobs.join(', ')} (DELETE FROM gq_attempts WHERE job_id NOT IN (SELECT id FROM gq_jobs))`] // biome-ignore format: one line
}

/** Lines of rows that may not fit: those that differ in the file from what is sent, and those with much in an index. */
function* strange(file: DatabaseSync, table: Copied): Generator<string, void> {
  const names = file.prepare(
    'SELECT DISTINCT i.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i WHERE i.name IS NOT NULL',
  )
  const inIndex = new Set(names.all(table.name).map(({ name }) => name))
  const bytes = (line: string) =>
    line.split('\t').reduce((sum, value, i) => sum + (inIndex.has(table.columns[i]!.name) ? Buffer.byteLength(value) : 0), 0) // biome-ignore format: one line
  const rows = file.prepare(rowsSql(table, null))
  rows.setReturnArrays(true)
  for (const row of rows.iterate() as unknown as Iterable<Parameters<typeof linesOf>[0]>) {
    const { sent } = linesOf(row)
    if (sent.includes('\uFFFD') || (sent.length > indexed / 3 && bytes(sent) > indexed)) yield sent
  }
}

function batchOf(lines: Iterator<string>): string[] {
  const batch: string[] = []
  for (let size = 0; batch.length < 1000 && size < 4 * 1024 * 1024; size += batch.at(-1)!.length) {
    const { value, done } = lines.next()
    if (done) break
    batch.push(value)
  }
  return batch
}

/** What the place says of those that it does not take, up to `limit` of them. */
async function refusedOf(table: Copied, lines: string[], add: Add, ask: Ask, limit: number): Promise<string[]> {
  const refused: { line: string; error: pg.DatabaseError }[] = []
  while (lines.length > 0 && refused.length < limit) {
    const error = await add(table, lines)
    if (!error) break
    const at = Number(/^COPY \w+, line (\d+)/m.exec(error.where ?? '')?.[1])
    if (!(at >= 1) || !/^(22|23|54)/.test(error.code ?? '')) throw error
    refused.push({ line: lines.splice(at - 1, 1)[0]!, error })
  }
  const told: string[] = []
  for (const { line, error } of refused) {
    const twin = await twinOf(table, line, error, ask)
    told.push(`${named(table, line)}: ${twin ? `as ${twin}, ` : ''}${error.message}${error.detail && twin ? ` (${error.detail})` : ''}`) // biome-ignore format: one line
  }
  return told
}

/** The row that is there with the same key. */
async function twinOf(table: Copied, line: string, { detail }: pg.DatabaseError, ask: Ask): Promise<string | null> {
  const key = /^Key \(([\w, ]+)\)=/.exec(detail ?? '')?.[1]
  if (!key) return null
  const values = line.split('\t')
  const is = key.split(', ').map((name) => {
    const value = values[table.columns.findIndex((column) => column.name === name)]!
    return `${name} = E'${value.replaceAll("'", "''")}'`
  })
  const unfinished = table.name === 'gq_jobs' ? ' AND finished_at IS NULL' : ''
  const columns = table.columns.map(({ name }) => `CAST(${name} AS text)`)
  const [row] = await ask(`SELECT ${columns.join(', ')} FROM @${table.name} WHERE ${is.join(' AND ')}${unfinished}`)
  return row ? named(table, row.join('\t')) : null
}

function named({ name, columns, key }: Copied, line: string): string {
  const values = line.split('\t')
  const of = (column: string) => values[columns.findIndex(({ name }) => name === column)]
  const at = key.map(({ name }) => of(name)!.slice(0, 100))
  if (name === 'gq_jobs') return `job ${at}`
  return `${name === 'gq_keys' ? `the idempotency key of job ${of('job_id')}` : name} (${at.join(', ')})`
}
