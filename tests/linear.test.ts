import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../src/model/clock.ts'
import { examine } from '../src/store/sqlite/doctor.ts'
import { planRecovery } from '../src/store/sqlite/recover.ts'
import { salvage } from '../src/store/sqlite/salvage.ts'
import { fill } from './support/filled.ts'
import { temporaryFolder } from './support/folder.ts'

/** The loops of a statement that read a whole table for each row of another: its scans inside another loop. */
function scansInLoops(db: DatabaseSync, prepare: DatabaseSync['prepare'], sql: string): string[] {
  const plan = prepare.call(db, `EXPLAIN QUERY PLAN ${sql}`).all() as { id: number; parent: number; detail: string }[]
  const isRepeated = (id: number): boolean => {
    const node = plan.find((one) => one.id === id)
    return node !== undefined && (node.detail.startsWith('CORRELATED') || isRepeated(node.parent))
  }
  return plan.flatMap(({ id, parent, detail }) => {
    if (!/^SCAN (?!CONSTANT|.*VIRTUAL TABLE)/.test(detail)) return []
    const isInner = plan.some((one) => one.parent === parent && one.id < id && /^(SCAN|SEARCH) /.test(one.detail))
    return isInner || isRepeated(parent) ? [`${detail} in: ${sql}`] : []
  })
}

/** Looks at the plan of each statement from now on, before it runs. */
function watchPlans(t: TestContext): string[] {
  const found: string[] = []
  const { prepare, exec } = DatabaseSync.prototype
  const look = (db: DatabaseSync, sql: string) => {
    if (/^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/.test(sql)) found.push(...scansInLoops(db, prepare, sql))
  }
  t.mock.method(DatabaseSync.prototype, 'prepare', function (this: DatabaseSync, sql: string) {
    look(this, sql)
    return prepare.call(this, sql)
  })
  t.mock.method(DatabaseSync.prototype, 'exec', function (this: DatabaseSync, sql: string) {
    if (!sql.includes('CREATE')) for (const one of sql.split(';')) look(this, one)
    return exec.call(this, sql)
  })
  return found
}

test('no statement of doctor and recover reads a table once for each queue, job or key', async (t) => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 100)
  const found = watchPlans(t)
  examine(path, 0, true)
  planRecovery(path, systemClock)
  salvage(path, `${path}.new`, systemClock)
  assert.deepEqual(found, [])
})
