import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { folderFor, start, until } from './processes.ts'

const processes = 50

test(`of ${processes} processes that submit with one unique key at once, one stores a job, and all get its id`, async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  await (await GopherQueue.open(file)).close()
  const children = Array.from({ length: processes }, () => start(t, 'unique.child.ts', { file }))
  await until('all have the file open', 120, () => children.every(({ output }) => output === 'open\n'))
  for (const child of children) child.tell('go')
  for (const child of children) assert.equal(await child.ended, 0, child.complaints)
  const told = children.map(({ output }) => JSON.parse(output.split('\n')[1]!) as { id: number; duplicate: boolean })
  assert.equal(told.filter(({ duplicate }) => !duplicate).length, 1)
  assert.equal(new Set(told.map(({ id }) => id)).size, 1)
  await using queue = await GopherQueue.open(file)
  assert.equal((await queue.jobs()).jobs.length, 1)
})
