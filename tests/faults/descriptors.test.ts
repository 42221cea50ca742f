import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemProcesses } from '../../src/store/sqlite/processes.ts'
import { folderFor, start } from '../crash/processes.ts'
import type { DescriptorsConfig, Taken } from './descriptors.child.ts'

const skip = process.platform !== 'linux' && 'looks at /proc'

test('a process without a free descriptor takes no living process for dead, and no sound file for unlocked', {
  skip,
}, async (t) => {
  const { me: living } = systemProcesses
  const { pid } = spawnSync(process.execPath, ['--version'])
  const config: DescriptorsConfig = { file: join(folderFor(t), 'jobs.db'), living, gone: { ...living, pid } }
  const limited = ['sh', '-c', 'ulimit -n 128 && exec "$@"', 'sh']
  const child = start(t, '../faults/descriptors.child.ts', config, limited)
  assert.equal(await child.ended, 0, child.complaints)
  const told = JSON.parse(child.output) as Record<'before' | 'without' | 'after', Taken> & { held: number }
  assert.ok(told.held > 0)
  const known: Taken = { me: true, living: true, gone: false, unlocked: false }
  assert.deepEqual([told.before, told.after], [known, known])
  assert.deepEqual(told.without, { ...known, living: null })
})

test('a process whose boot id is not known, there or here, is left to its lease', { skip }, () => {
  assert.equal(systemProcesses.isAlive({ ...systemProcesses.me, boot: null }), null)
})
