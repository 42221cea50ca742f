import assert from 'node:assert/strict'
import { test } from 'node:test'
import { folderFor, fromEnvironment } from '../crash/processes.ts'
import { judge, real, record, untried } from './recording.ts'

// The power fails: what was synced is on disk, what was not may be there, missing or torn. POWER_STATES=2000 is the
// full run; POWER_STRICT=1 believes an unlink only after a sync of its folder. When a state fails, the folder is kept
// with its recording, run.log: the replayer builds that state again with --only CUT:SEED --keep.

const states = fromEnvironment('POWER_STATES', 150)
const seed = fromEnvironment('POWER_SEED', Date.now() % 1_000_000)
const strict = process.env.POWER_STRICT === '1'

const engines: [name: string, states: number, options: { driver?: string }][] = [
  ['node:sqlite', states, {}],
  ["the app's better-sqlite3", Math.ceil(states / 3), { driver: import.meta.resolve('better-sqlite3') }],
]
for (const [name, states, options] of engines)
  test(`${states} power cuts on ${name}: the file opens, and nothing that was acknowledged is lost`, {
    skip: untried,
  }, async (t) => {
    const folder = folderFor(t)
    const log = await record(t, folder, real, options)
    const verdict = await judge(t, folder, log, { library: real, states, seed, strict })
    const { passed, failed, records, syncs, facts, output } = verdict
    t.diagnostic(
      `POWER_SEED=${seed}: ${passed} states passed, ${failed} failed; ${records} records, ${syncs} syncs; ${facts} acknowledged facts found`,
    )
    assert.equal(failed, 0, output)
    assert.ok(facts > states * 100, 'hardly anything was acknowledged')
  })
