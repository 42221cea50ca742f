import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Page } from 'playwright-core'
import { PermanentError } from '../../src/index.ts'
import { confirm, Desk, press, row, skip } from './support.ts'

// What could mislead an operator: names that rewrite what is read, errors that cannot be read, and what a cut leaves open.

const mark = '\u202e'
const dead = `SELECT COUNT(*) FROM gq_jobs WHERE state = 'dead'`

/** Presses a button of which a question is asked. */
const act = async (page: Page, label: string | RegExp, name: string | RegExp) => {
  await press(page, label)
  await confirm(page, name)
}

describe('dashboard: faults and odd names', { skip }, () => {
  let desk: Desk
  let id: number
  before(async () => {
    desk = await Desk.open()
    const queue = `${mark}queue`
    const type = desk.queue.define(`${mark}rtl-type`, { queue }, () => {
      throw new PermanentError(`no ${mark}paper`)
    })
    const jobs = await type.submitMany(Array.from({ length: 600 }, (_, n) => ({ n, [mark]: mark })))
    ;({ id } = jobs[0]!)
    await desk.queue.schedule(`${mark}nightly`, '0 3 * * *', 'report', {}, { queue: 'reports' })
    const worker = desk.queue.work({ concurrency: 50 })
    await Promise.allSettled(jobs.map((job) => desk.queue.wait(job.id)))
    await worker.stop()
    await desk.queue.submit(`${mark}unheard-of`, {}, { queue, idempotencyKey: `${mark}key`, delay: '1s' })
  })
  after(() => desk[Symbol.asyncDispose]())

  test('a mark that turns the direction of text is shown by its number, in all texts and labels of all pages', async () => {
    const worker = desk.queue.work({ name: `${mark}worker` })
    const type = encodeURIComponent(`${mark}rtl-type`)
    const page = await desk.show('#/')
    const raw = () =>
      page.evaluate(`(() => {
        const marked = (text) => text !== null && text.includes('\\u202e')
        const all = document.createNodeIterator(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT)
        const found = []
        for (let node = all.nextNode(); node; node = all.nextNode())
          if (node.nodeType === 3 ? marked(node.data) : marked(node.ariaLabel) || marked(node.title))
            found.push((node.outerHTML ?? node.parentNode.outerHTML).slice(0, 200))
        return found
      })()`)
    const name = encodeURIComponent(`${mark}nightly`)
    const hashes = ['', 'jobs', `jobs?type=${type}&cause=${type}`, `job/${id}`, 'dead', 'types', `types?type=${type}`, 'queues', 'schedules', `schedules?name=${name}`, 'workers'] // biome-ignore format: long
    for (const hash of hashes) {
      await page.goto(`${desk.server.url}/#/${hash}`)
      await page.locator('main').getByText('\\u202e').filter({ visible: true }).first().waitFor()
      assert.deepEqual(await raw(), [], hash)
    }
    for (const [hash, button] of [
      ['dead', /^Remove all 600/],
      ['queues', 'Pause queue \\u202equeue'],
      ['queues', 'Limits and retention of queue \\u202equeue'],
      ['schedules', 'Run now: \\u202enightly'],
    ] as const) {
      await page.goto(`${desk.server.url}/#/${hash}`)
      await press(page, button)
      await page.getByRole('dialog').getByRole('heading').filter({ hasText: '\\u202e' }).waitFor()
      assert.deepEqual(await raw(), [], `${button}`)
      await press(page, 'Go back')
    }
    await page.goto(`${desk.server.url}/#/jobs`)
    await page.getByLabel('Queue').selectOption('\\u202equeue')
    await row(page, '\\u202ertl-type').waitFor() // found by the name, not by what is shown
    await worker.stop()
  })

  for (const width of [1440, 390])
    test(`what a button of a table failed with can be read, at ${width} px`, async () => {
      const page = await desk.show('', { width, complains: false })
      const body = JSON.stringify({
        code: 'STORAGE_FULL',
        accepted: 'no',
        detail: 'The disk has no room. Nothing was accepted.',
      })
      await page.route(/v1/, async (route) => {
        if (route.request().method() === 'GET') await route.continue()
        else await route.fulfill({ status: 503, contentType: 'application/problem+json', body })
      })
      for (const [hash, label, name] of [
        ['dead', /^Retry all/, /^Retry all/],
        ['queues', /^Pause queue/, 'Pause'],
        ['schedules', /^Run now/, 'Run now'],
      ] as const) {
        await page.goto(`${desk.server.url}/#/${hash}`)
        await act(page, label, name)
        const notice = page.locator('td .notice')
        await notice.getByText('The disk has no room').waitFor()
        const { width, height } = (await notice.boundingBox())!
        assert.ok(width >= 200 && height < 150, `${hash}: ${width} x ${height} px`)
      }
    })

  test('Retry all goes on by itself after a cut, and retries no job twice that died again meanwhile', async () => {
    const page = await desk.show('#/dead', { complains: false })
    const [[jobs]] = desk.sql(dead) as [[number]]
    let calls = 0
    await page.route(/v1\/jobs\/many/, async (route) => {
      if (++calls === 1) await route.fetch() // it is done, and its answer lost
      if (calls <= 2) await route.abort()
      else await route.continue()
    })
    const worker = desk.queue.work({ concurrency: 50 })
    await act(page, new RegExp(`^Retry all ${jobs} `), /^Retry all/)
    await page.getByText(`0 of ${jobs}, no answer: goes on when there is one…`).waitFor()
    const tries = `SELECT attempt, COUNT(*) FROM gq_jobs WHERE state = 'dead' GROUP BY attempt`
    await page.getByRole('button', { name: new RegExp(`^Retry all ${jobs} `) }).waitFor() // each is dead again
    assert.deepEqual(desk.sql(tries), [[2, jobs]])
    await worker.stop()
    assert.equal(await page.locator('td .notice').count(), 0)
    assert.ok(calls > 2)
  })

  test('a cut in the midst of many: how many were done, what is not known, and what to do; then the rest', async () => {
    const page = await desk.show('#/dead', { complains: false })
    let calls = 0
    let cut: 'before' | 'within' | 'proxy' = 'before'
    await page.route(/v1\/jobs\/many/, async (route) => {
      if (++calls === 1) await route.continue()
      else if (cut === 'before') await route.abort()
      else if (cut === 'proxy') await route.fulfill({ status: 502, body: '<html>Bad Gateway</html>' })
      else await route.fulfill({ status: 200, contentType: 'application/json', body: '{"chan' })
    })
    const notice = page.locator('td .notice')
    for (cut of ['before', 'within', 'proxy'] as const) {
      calls = 0
      const [[before]] = desk.sql(dead) as [[number]]
      await act(page, new RegExp(`^Remove all ${before} `), /^Remove all/)
      await notice.getByText(cut === 'proxy' ? 'HTTP 502 Bad Gateway' : 'NETWORK').waitFor()
      const [[after]] = desk.sql(dead) as [[number]]
      assert.ok(after < before)
      const says = `Whether this was done is not known. ${before - after} of ${before} were done before; press again for the rest.` // biome-ignore format: long
      const said = `${await notice.textContent()}`
      assert.ok(said.endsWith(says), `${said}, and not ${says}`)
      assert.doesNotMatch(said, /goes on/)
    }
    await page.unroute(/v1\/jobs\/many/)
    await act(page, /^Retry all/, /^Retry all/)
    await page.getByText('No dead letters').waitFor()
    assert.deepEqual(desk.sql(dead), [[0]])
  })

  test('a cut while selected jobs are cancelled: one is not known, the others are still selected', async () => {
    const page = await desk.show('#/jobs?type=%E2%80%AErtl-type', { complains: false })
    await page.getByRole('checkbox', { name: 'Select all of this page' }).check()
    let calls = 0
    await page.route(/\/cancel$/, (route) => (++calls === 3 ? route.abort() : route.continue()))
    await act(page, 'Cancel: 50 jobs', 'Cancel')
    await page.getByText('2 jobs cancelled or asked to stop. Of 1 job it is not known. 47 jobs not tried; press again for the rest.').waitFor() // biome-ignore format: long
    await page.getByText('48 jobs selected').waitFor()
  })

  test('an address without a page says so, and leads back', async () => {
    const page = await desk.show('#/')
    await page.getByTitle('Queues that are paused do not count.').getByText('Oldest ready job').waitFor()
    for (const hash of ['#/nosuch', '#/job/abc', '#/job', '#/queues/5', '#/constructor', '#/Jobs?type=a', '#nosuch']) {
      await page.goto(`${desk.server.url}/${hash}`)
      await page.getByRole('heading', { name: 'No such page' }).waitFor()
      await page.getByText(`There is no page at ${hash}.`).waitFor()
      await page.getByRole('link', { name: 'overview', exact: true }).click()
      await page.getByRole('heading', { name: 'Overview' }).waitFor()
    }
    await page.goto(`${desk.server.url}/#/job/${id}`)
    await page.getByRole('heading', { name: `Job ${id}` }).waitFor()
    assert.deepEqual(desk.complaints, [])
  })
})
