import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue, type WorkOptions } from '../../src/index.ts'
import { folderFor, lookInto, start, until } from '../crash/processes.ts'
import type { SignalsConfig } from './signals.child.ts'
import { virtualQueue } from './support.ts'

/** A worker process with one job that runs and one that waits. */
async function working(
  t: TestContext,
  payload: string,
  own: Omit<SignalsConfig, 'folder'> = {},
  through: string[] = [],
) {
  const folder = folderFor(t)
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  t.after(() => queue.close())
  const { id } = await queue.submit('t', payload)
  const child = start(t, '../queue/signals.child.ts', { folder, ...own }, through)
  await until('its job runs', 30, () => existsSync(join(folder, 'started')))
  const job = async () => {
    const { state, attemptsLeft, result } = (await queue.job(id))!
    return { state, attemptsLeft, result }
  }
  const finish = () => writeFileSync(join(folder, 'go'), '')
  return { child, folder, queue, job, finish }
}

/** Waits until a worker of the file has heard the signal. */
async function stopping(folder: string): Promise<void> {
  using db = lookInto(join(folder, 'jobs.db'))
  const heard = db.prepare('SELECT 1 FROM gq_workers WHERE stopping_at IS NOT NULL')
  await until('it has heard the signal', 30, () => heard.get() !== undefined)
}

for (const signal of ['SIGTERM', 'SIGINT'] as const)
  test(`${signal}: what runs ends, and the process with code 0, although its server listens`, async (t) => {
    const { child, folder, queue, job, finish } = await working(t, 'long')
    process.kill(child.pid, signal)
    process.kill(child.pid, signal) // as npm passes on what the terminal has sent already
    await stopping(folder)
    finish()
    assert.equal(await child.ended, 0, child.complaints)
    assert.deepEqual(await job(), { state: 'succeeded', attemptsLeft: 11, result: 'done' })
    assert.deepEqual((await queue.stats()).workers, [])
  })

for (const payload of ['heeds', 'ignores'])
  test(`after the grace, a job whose handler ${payload} its signal goes back uncharged`, async (t) => {
    const { child, job } = await working(t, payload, { grace: '1ms' })
    process.kill(child.pid, 'SIGTERM')
    assert.equal(await child.ended, 0, child.complaints)
    assert.deepEqual(await job(), { state: 'ready', attemptsLeft: 12, result: null })
  })

test('a second signal ends the process at once, and its job goes back uncharged', async (t) => {
  const { child, folder, job } = await working(t, 'ignores')
  process.kill(child.pid, 'SIGTERM')
  await stopping(folder)
  await pause(1500) // what comes within a second of the first counts as the same signal
  process.kill(child.pid, 'SIGTERM')
  assert.equal(await child.ended, 143)
  await using _ = await GopherQueue.open(join(folder, 'jobs.db')) // which takes back what a process that is gone has held
  assert.deepEqual(await job(), { state: 'ready', attemptsLeft: 12, result: null })
})

test('a program that listens to the signal itself ends itself', async (t) => {
  const { child, job } = await working(t, 'heeds', { grace: '1ms', own: 'soon' })
  process.kill(child.pid, 'SIGTERM')
  assert.equal(await child.ended, 7, child.complaints)
  assert.equal((await job()).state, 'ready')
})

test('a program that ends itself in the turn in which it hears the signal: its job goes back uncharged', async (t) => {
  const { child, folder, job } = await working(t, 'ignores', { own: 'at once' })
  process.kill(child.pid, 'SIGTERM')
  assert.equal(await child.ended, 7, child.complaints)
  await using _ = await GopherQueue.open(join(folder, 'jobs.db')) // which takes back what a process that is gone has held
  assert.deepEqual(await job(), { state: 'ready', attemptsLeft: 12, result: null })
})

const ownProcesses = ['unshare', '--pid', '--fork', '--kill-child=KILL', '--mount-proc']
test('it stops in order as process 1 of a container', {
  skip: spawnSync('unshare', [...ownProcesses.slice(1), 'true']).status !== 0 && 'only root may unshare, on Linux',
}, async (t) => {
  const { child, folder, job, finish } = await working(t, 'long', {}, ownProcesses)
  const inside = spawnSync('pgrep', ['-P', `${child.pid}`], { encoding: 'utf8' }).stdout.trim()
  process.kill(Number(inside), 'SIGTERM')
  await stopping(folder)
  finish()
  assert.equal(await child.ended, 0, child.complaints)
  assert.equal((await job()).state, 'succeeded')
})

test('a queue that is closed no longer hears signals, and what nobody can hear is refused', async () => {
  const { queue } = virtualQueue()
  const before = process.listenerCount('SIGUSR2')
  queue.define('t', () => null)
  for (const stopOn of [['SIGKILL'], ['SIGTREM'], 'SIGTERM', [15]])
    assert.throws(() => queue.work({ stopOn } as WorkOptions), { code: 'INVALID_ARGUMENT', message: /stopOn must be/ })
  queue.work({ stopOn: ['SIGUSR2'] })
  assert.equal(process.listenerCount('SIGUSR2'), before + 1)
  await queue.close()
  assert.equal(process.listenerCount('SIGUSR2'), before)
})
