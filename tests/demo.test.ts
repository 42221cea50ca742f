import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryFolder } from './support/folder.ts'

const demo = (...args: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, '../demo/run.ts'), ...args], { encoding: 'utf8' })

test('the demo kills its processes mid-way, loses nothing, and says so in 20 lines', () => {
  using folder = temporaryFolder()
  const { status, stdout, stderr } = demo('--limit', '300', '--db', folder.file('kept'))
  assert.equal(stderr, '')
  const figure = (name: string) => Number(stdout.match(new RegExp(`^${name} +([\\d,]+)`, 'm'))?.[1]?.replace(',', ''))
  assert.equal(figure('jobs'), 300)
  assert.equal(figure('lost'), 0)
  assert.equal(figure('wrong'), 0)
  assert.ok(figure('attempts') >= 300 + figure('redelivered'), stdout)
  assert.ok(figure('resubmitted') > 0, 'the submitter was killed while it had jobs left to submit')
  assert.ok(figure('jobs/s') > 0, stdout)

  const [afterOne, afterAll] = [...stdout.matchAll(/^ *(\d+) jobs done {3}kill -9/gm)].map((match) => Number(match[1]))
  assert.ok(afterOne! >= 75 && afterAll! >= 200 && afterAll! < 300, stdout)
  assert.ok(stdout.split('\n').length <= 20, stdout)
  assert.ok(!stdout.includes('\x1b') && !stdout.includes('\r'), 'no cursor movements outside a terminal')
  assert.ok(existsSync(folder.file('kept/demo.db')), 'the folder that was asked for is kept')
  assert.equal(status, 0)
})

test('the demo refuses what it cannot run', () => {
  const { status, stderr } = demo('--limit', 'few')
  assert.equal(status, 2)
  assert.match(stderr, /--limit must be a number/)
})
