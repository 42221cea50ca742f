import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import type { Db } from '../../src/store/sqlite/db.ts'
import { linux, type Platform, platform, portable } from '../../src/store/sqlite/platform.ts'
import { type Identity, processesOf, systemProcesses } from '../../src/store/sqlite/processes.ts'
import { isWorking } from '../../src/store/sqlite/workers.ts'
import { temporaryFolder } from '../support/folder.ts'

// What is done where there is no Linux: asked here, since no other system is at hand.

const [mac, windows, other] = [portable(false, true), portable(true, false), portable(false, false)]

/** A question, and what Linux, macOS, Windows and any other system answer. */
const answers: [question: string, ask: (at: Platform) => unknown, onLinux: unknown, onMac: unknown, onWindows: unknown, elsewhere: unknown][] = [
  ['has /proc', (at) => at.hasProc, true, false, false, false],
  ['fsync reaches the disk', (at) => at.fsyncReachesDisk, true, false, true, true],
  ['knows its boot', (at) => at.boot() !== null, true, false, false, false],
  ['knows the namespace of its pid', (at) => at.pidSpace() !== null, true, false, false, false],
  ['knows when this process began', (at) => /^\d+$/.test(at.startOf(process.pid) ?? ''), true, false, false, false],
  ['lists descriptors', (at) => at.descriptors().includes(0), true, true, false, true],
  ['lists libraries', (at) => at.libraries().length > 0, true, true, false, true],
  ['knows the file of Node', (at) => at.executable().endsWith('node'), true, true, true, true],
  ['finds who has a file open', (at) => openedHere(at), [process.pid], [], [], []],
  ['names no local disk a network', (at) => at.filesystem('.').isNetwork, false, false, false, false],
  ['syncs a folder', (at) => at.sync('.'), undefined, undefined, undefined, undefined],
  ['ends nobody who is not there', (at) => at.signalGroup(4_194_303, 'SIGTERM'), undefined, undefined, undefined, undefined],
] // biome-ignore format: a table

function openedHere(at: Platform): number[] {
  using folder = temporaryFolder()
  const file = folder.file('open')
  writeFileSync(file, '')
  const descriptor = openSync(file, 'r')
  try {
    return at.holdersOf(file).map(({ pid }) => pid)
  } finally {
    closeSync(descriptor)
  }
}

const skip = process.platform !== 'linux' && 'compares with Linux'

test('each question to the operating system has an answer, or a fallback', { skip }, () => {
  assert.equal(platform, linux)
  for (const [question, ask, ...expected] of answers)
    assert.deepEqual([linux, mac, windows, other].map(ask), expected, question)
})

test('a process that is known by its id alone: alive while there is one, and dead without a doubt once there is none', async () => {
  for (const at of [mac, windows, other]) {
    const { me, isAlive } = processesOf(at)
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'], { detached: true })
    await once(child, 'spawn')
    const row = { ...me, pid: child.pid! }
    assert.deepEqual([isAlive(me), isAlive(row), isAlive({ ...row, pid: null })], [true, true, null])
    at.signalGroup(child.pid!, 'SIGKILL')
    await once(child, 'exit')
    assert.equal(isAlive(row), false)
    assert.equal(isAlive({ ...row, host: 'elsewhere', boot: 'another' }), null)
  }
})

for (const name of ['darwin', 'win32'])
  test(`the engine in its thread keeps its contract with what it does on ${name}`, { skip }, () => {
    const pretend = `data:text/javascript,Object.defineProperty(process,'platform',{value:'${name}'})`
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--import', pretend, '--test-name-pattern=travel together|fails alone', 'tests/contract/sqlite.test.ts'],
      { encoding: 'utf8', env: { ...process.env, TEMP: tmpdir(), NODE_TEST_CONTEXT: undefined } },
    )
    assert.equal(status, 0, stdout)
    assert.match(stdout, /pass [1-9]/, stdout)
  })

test('a process that is there and has said nothing for a minute does not work; this one does, whatever it wrote last', () => {
  const { me } = systemProcesses
  const other = { ...me, pid: process.ppid }
  const works = (row: Identity, alive: boolean | null, silentFor: number) =>
    isWorking({ now: 100_000, processes: { me, isAlive: () => alive } } as unknown as Db, { ...row, seen_at: 100_000 - silentFor }) // biome-ignore format: one call
  assert.deepEqual([works(other, true, 59_000), works(other, true, 61_000)], [true, false])
  assert.deepEqual([works(other, null, 59_000), works(other, false, 0)], [true, false])
  assert.equal(works(me, true, 61_000), true)
})
