import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { MemoryConfig } from './memory.child.ts'
import { folderFor, start } from './processes.ts'

const skip = process.env.CRASH_MEMORY === '1' ? false : 'takes a minute and a gigabyte: CRASH_MEMORY=1 runs it'
const turnover = 50_000

interface Memory {
  waiting: number
  rss: number
  peak: number
}

async function memoryAt(t: TestContext, depth: number): Promise<Memory> {
  const file = join(folderFor(t), 'jobs.db')
  const child = (turnover: number) => {
    const config: MemoryConfig = { file, depth, turnover }
    return start(t, 'memory.child.ts', config)
  }
  await child(0).stop()
  const working = child(turnover)
  await working.stop()
  const memory = JSON.parse(working.output) as Memory
  const { waiting, rss, peak } = memory
  t.diagnostic(
    `${waiting} jobs wait after ${turnover} were submitted and worked: RSS ${rss.toFixed(0)} MB, peak ${peak.toFixed(0)} MB`,
  )
  assert.ok(Math.abs(waiting - depth) < 100, `${waiting} jobs wait`)
  return memory
}

test('memory with 1,000,000 waiting jobs is within 100 MB of that with 1,000', { skip }, async (t) => {
  const few = await memoryAt(t, 1000)
  const many = await memoryAt(t, 1_000_000)
  assert.ok(many.rss - few.rss < 100, 'RSS')
  assert.ok(many.peak - few.peak < 100, 'peak RSS')
})
