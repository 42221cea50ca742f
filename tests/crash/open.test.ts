import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { nanoseconds } from './journal.ts'
import type { OpenConfig } from './open.child.ts'
import { folderFor, fromEnvironment, lookInto, start, until } from './processes.ts'

const rounds = fromEnvironment('CRASH_OPENS', 10)

test(`two processes that open a new file at the same moment both succeed (${rounds} times)`, async (t) => {
  const folder = folderFor(t)
  const config: OpenConfig = { folder }
  const children = [1, 2].map(() => start(t, 'open.child.ts', config))
  const answers = (lines: number) =>
    until('both answered', 30, () => {
      const outputs = children.map((child) => child.output.split('\n').slice(0, -1))
      return outputs.every((output) => output.length === lines) && outputs.map((output) => output.at(-1)!)
    })
  await answers(1)
  for (let round = 0; round < rounds; round++) {
    const name = `${round}.db`
    const at = nanoseconds() + 10_000_000n
    for (const child of children) child.tell(`open ${name} ${at}`)
    assert.deepEqual((await answers(round + 2)).sort(), ['stored 1', 'stored 2'])
    const db = lookInto(join(folder, name))
    assert.equal(db.prepare('SELECT COUNT(*) AS n FROM gq_jobs').get()!.n, 2)
    assert.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
    db.close()
  }
  for (const child of children) await child.stop()
})
