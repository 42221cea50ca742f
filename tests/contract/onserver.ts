import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { PostgresServer, without } from '../support/postgres.ts'
import type { Opened } from '../support/subject.ts'
import { contract } from './contract.ts'

/** The contract on a PostgreSQL server, whose statements it must all understand. */
export function contractOnServer(name: string, open: (url: string) => Promise<Opened>, virtualTime: boolean): void {
  if (without) return void test(name, { skip: without })
  const server = new PostgresServer()
  const admin = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
  before(() => admin.connect())
  // To make the tables takes longer than most tests: those of one test are emptied for the next one.
  const emptied: string[] = []
  const opened = async () => {
    const url = emptied.pop() ?? server.url()
    const one = await open(url)
    const close = async () => {
      await one.close()
      await empty(admin, new URL(url).searchParams.get('schema')!)
      emptied.push(url)
    }
    return { ...one, close }
  }
  contract(name, opened, { virtualTime })
  test('PostgreSQL has understood each statement', () => assert.deepEqual(server.notUnderstood, []))
  after(async () => {
    await admin.end()
    server[Symbol.dispose]()
  })
}

/** As if it had just been made. */
async function empty(admin: pg.Client, schema: string): Promise<void> {
  const { rows } = await admin.query({ text: 'SELECT tablename FROM pg_tables WHERE schemaname = $1', values: [schema], rowMode: 'array' }) // biome-ignore format: one line
  const tables = rows.flat().filter((name) => name !== 'gq_meta')
  await admin.query(`BEGIN; SET LOCAL search_path = ${schema};
    ${tables.map((name) => `DELETE FROM ${name};`).join(' ')}
    DELETE FROM gq_meta WHERE key NOT IN ('schema', 'schema_min', 'epoch');
    UPDATE gq_meta SET value = substr(md5(random()::text), 1, 16) WHERE key = 'epoch';
    INSERT INTO gq_marks VALUES (0, gen_random_uuid(), 0);
    SELECT setval(CAST(sequencename AS regclass), start_value, sequencename = 'gq_blocks') FROM pg_sequences WHERE schemaname = '${schema}';
    COMMIT`)
}
