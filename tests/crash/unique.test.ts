import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { folderFor, start, until } from './processes.ts'

const processes = 50

test(`of ${processes} processes that submit with one unique key at once, one stores a job, and all get its id`, async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  await (await GopherQueue.open(file)).close()
  const children: ReturnType<typeof start>[] = []
  // Two at a time: fifty that start at once leave no processor to the tests that run beside this one.
  for (let i = 0; i < processes; i += 2) {
    const pair = [0, 1].map(() => start(t, 'unique.child.ts', { file }))
    children.push(...pair)
    await until('a pair has the file open', 60, () => pair.every(({ output }) => output === 'open\n'))
  }
  for (const child of children) child.tell('go')
  for (const child of children) assert.equal(await child.ended, 0, child.complaints)
  const told = children.map(({ output }) => JSON.parse(output.split('\n')[1]!) as { id: number; duplicate: boolean })
  assert.equal(told.filter(({ duplicate }) => !duplicate).length, 1)
  assert.equal(new Set(told.map(({ id }) => id)).size, 1)
  await using queue = await GopherQueue.open(file)
  assert.equal((await queue.jobs()).jobs.length, 1)
})
