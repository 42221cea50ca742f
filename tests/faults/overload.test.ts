import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { folderFor, fromEnvironment, lookInto, start, until } from '../crash/processes.ts'
import type { Overload, OverloadConfig } from './overload.child.ts'

// More is submitted than can be stored: typed refusals, memory that stays bounded, and every acknowledged job is there.

const jobs = fromEnvironment('FAULT_FLOOD', 50_000)

for (const maxDepth of [null, Math.floor(jobs / 2)])
  test(`${jobs} jobs of 1 KB from 50,000 callers in a heap of 256 MB${maxDepth ? `, into a queue that takes ${maxDepth}` : ''}`, async (t) => {
    const file = join(folderFor(t), 'jobs.db')
    if (maxDepth) {
      const queue = await GopherQueue.open(file)
      await queue.configure('default', { maxDepth })
      await queue.close()
    }
    const config: OverloadConfig = { file, jobs, callers: 50_000, patient: !maxDepth }
    const child = start(t, '../faults/overload.child.ts', config, ['env', 'NODE_OPTIONS=--max-old-space-size=256'])
    await until('the flood is over', 240, () => !child.alive)
    assert.equal(await child.ended, 0, child.complaints.slice(0, 2000))
    assert.equal(child.complaints, '')
    const { acknowledged, refused, seconds, peakMebibytes } = JSON.parse(child.output) as Overload
    t.diagnostic(
      `${acknowledged} acknowledged in ${seconds.toFixed(1)} s, refused: ${JSON.stringify(refused)}, peak RSS ${peakMebibytes.toFixed(0)} MiB`,
    )
    const db = lookInto(file)
    const { n } = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs`).get()!
    const lost = db.prepare(`SELECT COUNT(DISTINCT payload ->> 'job') AS n FROM gq_jobs`).get()!
    db.close()
    assert.deepEqual([n, lost.n], [acknowledged, acknowledged])
    assert.equal(acknowledged, maxDepth ?? jobs)
    assert.ok(Object.keys(refused).every((code) => code === 'OVERLOADED' || code === 'QUEUE_FULL'))
    assert.ok(refused[maxDepth ? 'QUEUE_FULL' : 'OVERLOADED']! > 0, 'it was no flood')
    assert.ok(peakMebibytes < 900, `${peakMebibytes} MiB`)
  })
