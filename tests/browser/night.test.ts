import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Locator, Page } from 'playwright-core'
import { durations, hourMs, sumOf, unpacked } from '../../src/model/hours.ts'
import { fromEnvironment } from '../crash/processes.ts'
import { badNight, type Scene } from './scene.ts'
import { confirm, Desk, row, see, skip, texts } from './support.ts'

// What an operator asks after a bad night: each answer within three clicks, and each number the one that SQL gives.
// SCENE=1 makes the whole scene of 56,000 jobs.

const part = fromEnvironment('SCENE', 0.03)
const time = (ms: number) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`)
const numberIn = (text: string) => Number(text.replaceAll(',', ''))

describe('a bad night', { skip }, () => {
  let desk: Desk
  let scene: Scene
  let page: Page
  let clicks = 0
  const click = async (what: Locator) => {
    clicks++
    assert.ok(clicks <= 3, 'a fourth click')
    await what.first().click()
  }
  const link = (name: string | RegExp) => page.getByRole('link', { name, exact: typeof name === 'string' })
  const button = (name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' })
  /** From the overview on. */
  const begin = async () => {
    page = await desk.show('#/')
    await see(page, 'Oldest ready job')
    clicks = 0
  }
  before(async () => {
    desk = await Desk.open()
    scene = await badNight(desk.folder.file('jobs.db'), part)
  })
  after(async () => {
    await scene?.[Symbol.asyncDispose]()
    await desk[Symbol.asyncDispose]()
  })

  test('the numbers of the overview', async () => {
    await begin()
    const facts = await texts(page.locator('dl.facts > div'))
    for (const [name, where] of [
      ['Ready', "state = 'ready'"],
      ['Running', "state = 'running'"],
      ['Scheduled', "state = 'scheduled'"],
      ['Dead', "state = 'dead'"],
      ['Succeeded, kept', "state = 'succeeded'"],
    ]) {
      const shown = facts.find((fact) => fact.startsWith(`${name}\n`))!.split('\n')[1]!
      assert.deepEqual([[numberIn(shown)]], desk.sql(`SELECT COUNT(*) FROM gq_jobs WHERE ${where}`), name)
    }
    assert.deepEqual(desk.sql('SELECT COUNT(*) FROM gq_jobs'), [[scene.jobs]])
  })

  test('why mails fail', async () => {
    await begin()
    await click(link('Failing now'))
    for (const type of ['mail.welcome', 'mail.receipt']) {
      const cells = await texts(row(page, `${type} in mail`).getByRole('cell'))
      assert.match(cells[1]!, /ECONNREFUSED/)
      assert.deepEqual([[numberIn(cells[0]!)]], desk.sql(`SELECT COUNT(*) FROM gq_jobs WHERE type = '${type}' AND finished_at IS NULL AND attempt > 0`)) // biome-ignore format: long
    }
  })

  test('all of one cause are retried', async () => {
    await begin()
    const dead = `SELECT COUNT(*) FROM gq_jobs JOIN gq_attempts ON job_id = id WHERE state = 'dead' AND error_message LIKE 'card declined%'`
    const [[count]] = desk.sql(dead) as [[number]]
    assert.ok(count > 0)
    await click(link('Dead letters'))
    await click(button(new RegExp(`^Retry all ${count.toLocaleString('en')} jobs of type charge`)))
    clicks++
    await confirm(page, /^Retry all/)
    await row(page, 'card declined').waitFor({ state: 'detached' })
    assert.equal(clicks, 3)
    assert.deepEqual(desk.sql(dead), [[0]])
    assert.deepEqual(desk.sql(`SELECT COUNT(*) FROM gq_jobs JOIN gq_attempts ON job_id = id WHERE state = 'ready' AND error_message LIKE 'card declined%'`), [[count]]) // biome-ignore format: long
  })

  test('the job of one customer', async () => {
    await begin()
    const [[id]] = desk.sql(`SELECT id FROM gq_jobs WHERE payload LIKE '%customer-4711-x%'`) as [[number]]
    await click(link('Jobs'))
    await click(page.getByLabel('Text'))
    await page.keyboard.type('customer-4711-x')
    await row(page, 'customer-4711-x').waitFor()
    await see(page, 'These are all.')
    await click(link(`${id}`))
    await see(page, `Job ${id} is dead since`)
    await see(page, "Cannot read properties of undefined (reading 'vat')")
  })

  test('the worker that is stuck', async () => {
    await begin()
    const [[id, type, worker]] = desk.sql(`SELECT j.id, type, name FROM gq_jobs j JOIN gq_workers w ON w.id = worker_id WHERE state = 'running'`) as [[number, string, string]] // biome-ignore format: long
    await click(link('Workers'))
    const cells = await texts(page.getByRole('region', { name: 'Leases' }).getByRole('row').filter({ hasText: 'slow: 95 %' }).getByRole('cell')) // biome-ignore format: long
    assert.deepEqual(cells.slice(0, 3), [`${id}`, type, worker])
    assert.match(cells[3]!, /^3 h/)
  })

  test('the slowest type', async () => {
    await begin()
    await click(link('Types'))
    await see(page, /^Since/)
    await click(button('run time'))
    const [type, submitted, succeeded, failed] = await texts(page.getByRole('region', { name: 'Types' }).locator('tbody tr').first().getByRole('cell')) // biome-ignore format: long
    const since = Math.floor(Date.now() / 3_600_000) - 24
    assert.deepEqual(desk.sql(`SELECT type, SUM(submitted), SUM(succeeded), SUM(failed) FROM gq_hours WHERE hour >= ${since} GROUP BY type ORDER BY MAX(run_max) DESC LIMIT 1`), [
      [type, ...[submitted, succeeded, failed].map((text) => numberIn(text!))],
    ]) // biome-ignore format: long
  })

  test('the throughput of yesterday, and of each day of the week', async () => {
    await begin()
    await page.getByRole('img', { name: /^Throughput: submitted [\d,]+/ }).waitFor()
    const days = async () => (await texts(page.getByRole('region', { name: 'By day' }).locator('tbody tr'))).map((text) => text.split('\t').slice(1).map(numberIn)) // biome-ignore format: long
    const midnight = (ago: number) => {
      const today = new Date()
      return new Date(today.getFullYear(), today.getMonth(), today.getDate() - ago).getTime()
    }
    const expected = (ago: number) =>
      desk.sql(`SELECT SUM(submitted), SUM(succeeded), SUM(failed), SUM(retried), SUM(dead) FROM gq_hours WHERE hour * 3600000 >= ${midnight(ago)} AND hour * 3600000 < ${midnight(ago - 1)}`)[0] // biome-ignore format: long
    assert.deepEqual(await days(), [expected(0), expected(1)])
    await row(page, /^Yesterday/).waitFor()
    await click(button('1 week'))
    await page.getByRole('region', { name: 'By day' }).getByRole('row').nth(8).waitFor()
    assert.deepEqual(
      await days(),
      Array.from({ length: 8 }, (_, ago) => expected(ago)),
    )
  })

  for (const type of ['charge', null])
    test(`what happened by the hour of ${type ?? 'all types'}, in a day and in a week`, async () => {
      await begin()
      await click(link('Types'))
      if (type) await click(link(type))
      await page.getByText('Hour by hour').click()
      for (const [days, hours] of [
        [1, 25],
        [7, 169],
      ] as const) {
        if (days === 7) await click(button('1 week'))
        if (days === 7) await page.getByText('Hour by hour').click()
        const rows = page.getByRole('region', { name: 'Hour by hour' }).locator('tbody tr')
        await rows.nth(hours - 1).waitFor()
        const shown = (await texts(rows)).map((text) => text.split('\t').slice(1))
        const since = Math.floor(Date.now() / hourMs) - 24 * days
        const expected = Array.from({ length: hours }, (_, i) => since + i).map((hour) => {
          const ofHour = desk.sql(`SELECT submitted, succeeded, failed, retried, dead, runs, run_max FROM gq_hours WHERE hour = ${hour} ${type ? `AND type = '${type}'` : ''}`) // biome-ignore format: long
          const sum = (i: number) => ofHour.reduce((all, row) => all + Number(row[i]), 0)
          const runs = ofHour.map((row) => unpacked(row[5] as string)).reduce(sumOf, [])
          const { p50, p95 } = durations({ counts: runs, max: Math.max(0, ...ofHour.map((row) => Number(row[6]))) })
          return [...[0, 1, 2, 3, 4].map((i) => sum(i).toLocaleString('en')), ...[p50, p95].map((ms) => (ms === null ? '–' : time(ms)))] // biome-ignore format: long
        })
        assert.deepEqual(shown, expected.reverse())
        const [submitted, succeeded, failed, , dead, p50, p95] = shown[0]!
        await page.getByRole('img', { name: `Throughput: submitted ${submitted} an hour, the last is not over, succeeded ${succeeded}`, exact: false }).waitFor() // biome-ignore format: long
        await page.getByRole('img', { name: `failed attempts ${failed} an hour, the last is not over, dead ${dead} ` }).waitFor() // biome-ignore format: long
        await page.getByRole('img', { name: `Run time: p50 ${p50}, p95 ${p95} at last` }).waitFor()
      }
    })

  test('what is tried again next', async () => {
    await begin()
    await click(link('Failing now'))
    await click(link('What is tried again next'))
    await page.getByRole('region', { name: 'Jobs', exact: true }).waitFor()
    await see(page, 'failing now')
    const ids = await page.locator('tbody tr').evaluateAll((rows) => rows.map((one) => Number(one.querySelector('a')!.textContent))) // biome-ignore format: long
    assert.deepEqual(ids, desk.sql(`SELECT id FROM gq_jobs WHERE state = 'scheduled' AND attempt > 0 ORDER BY run_at, id LIMIT 50`).map(([id]) => id)) // biome-ignore format: long
  })
})
