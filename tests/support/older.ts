import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** A file as an older version has made it, with the schema of its time. The connection stays open. */
export async function olderFile(file: string, schema: number): Promise<DatabaseSync> {
  const db = new DatabaseSync(file)
  db.exec('PRAGMA journal_mode = WAL; PRAGMA auto_vacuum = INCREMENTAL')
  for (let step = 1; step <= schema; step++) {
    const path = join(import.meta.dirname, `../../src/store/sqlite/schema/00${step}.ts`)
    const { sql } = (await import(path)) as { sql: string }
    db.exec(sql)
  }
  db.exec(`INSERT OR REPLACE INTO gq_meta (key, value) VALUES ('schema', '${schema}')`)
  return db
}
