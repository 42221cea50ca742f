import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import pg from 'pg'
import { PostgresServer, without } from '../support/postgres.ts'
import { Desk, row, see, skip, violations } from './support.ts'

// The page of storage of a queue on PostgreSQL: as whoever sees all, and as a role that does not.

describe('storage on PostgreSQL', { skip: skip || without }, () => {
  let server: PostgresServer
  let somebody: pg.Client
  const desks: Desk[] = []
  before(async () => {
    server = new PostgresServer()
    somebody = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres', application_name: 'migration' }) // biome-ignore format: one line
    const url = server.url('shown')
    server.sql('CREATE ROLE "my app" LOGIN; GRANT CREATE ON DATABASE postgres TO "my app"')
    server.sql(`SELECT pg_create_physical_replication_slot('forgotten', true)`)
    await somebody.connect()
    await somebody.query('BEGIN ISOLATION LEVEL REPEATABLE READ') // before the first look, which is good for 15 s
    await somebody.query('SELECT 1')
    desks.push(
      await Desk.open(url.replace('//postgres@', '//my%20app@')),
      await Desk.open(url.replace('shown', 'seen')),
    )
  })
  after(async () => {
    await somebody.end()
    for (const desk of desks) await desk[Symbol.asyncDispose]()
    server[Symbol.dispose]()
  })

  test('what was seen, what is wrong and what to type; and what is not visible is not said to be none', async () => {
    const [hidden, seen] = desks as [Desk, Desk]
    const all = await seen.show('#/storage')
    await see(all, /^backend \d+ \(migration\), /)
    await see(all, 'None is connected.')
    await see(all, /replication slot forgotten is not used .*pg_drop_replication_slot\('forgotten'\)/)
    await row(all, 'gq_jobs').waitFor()
    await see(all, 'gopherqueue --db postgres://… doctor')
    assert.equal(await all.getByText('not visible to this role').count(), 0)
    const some = await hidden.show('#/storage')
    await see(some, 'GRANT pg_monitor TO "my app"')
    await see(some, 'not visible to this role')
    assert.equal(await some.getByText('None is connected.').count(), 0)
  })

  test('at both widths and in both themes: nothing that axe finds, nothing that sticks out', async () => {
    for (const desk of desks)
      for (const theme of ['light', 'dark'] as const)
        for (const width of [390, 1440]) {
          const page = await desk.show('#/storage', { width, theme })
          await row(page, 'gq_jobs').waitFor()
          const found = await violations(page)
          if (await page.evaluate('document.documentElement.scrollWidth > innerWidth')) found.push('it sticks out')
          assert.deepEqual(found, [], `${width} px, ${theme}`)
          if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${desks.indexOf(desk)}-${width}-${theme}.png`, fullPage: true }) // biome-ignore format: one line
        }
    assert.deepEqual(desks.flatMap(({ complaints }) => complaints), []) // biome-ignore format: one line
  })
})
