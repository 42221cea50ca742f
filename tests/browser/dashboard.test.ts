import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Page } from 'playwright-core'
import { type Backoff, PermanentError, TemporaryError } from '../../src/index.ts'
import { lookInto } from '../crash/processes.ts'
import { confirm, Desk, press, row, see, skip, texts, until, violations } from './support.ts'

// The page as an operator uses it: a real browser, server, file and worker. Whatever it waits for is something to be seen.

/** The rows of a table of causes: count, cause and type. */
const counts = async (page: Page): Promise<unknown[][]> => {
  const rows = await texts(page.locator('tbody tr'))
  return rows.map((text) => {
    const [, count = '', cause, type] = /^([\d,]+)\s+(.*?)\s+(\S+) in \S+/.exec(text) ?? []
    return [Number(count.replaceAll(',', '')), cause, type]
  })
}

describe('dashboard', { skip }, () => {
  let desk: Desk
  before(async () => {
    desk = await Desk.open()
    await desk.queue.submitMany('many', [1, 2, 3], { queue: 'bulk' })
  })
  after(() => desk[Symbol.asyncDispose]())

  test('it is small', () => {
    const names = readdirSync(desk.page, { recursive: true, encoding: 'utf8' })
    const packed = names.filter((name) => /\.(html|js|css|svg)$/.test(name)).map((name) => gzipSync(readFileSync(join(desk.page, name))).length) // biome-ignore format: long
    const total = packed.reduce((sum, bytes) => sum + bytes, 0)
    assert.ok(names.length >= 4 && total < 80 * 1024, `${total} bytes`)
  })

  test('a job: submitted, seen live, failed, its error read, retried, succeeded', async () => {
    const page = await desk.show('#/jobs?queue=post')
    await see(page, 'No job fits')
    let broken = true
    const mail = desk.queue.define<{ to: string }>('mail', { queue: 'post' }, ({ payload }) => {
      if (broken) throw new PermanentError(`no postman for ${payload.to}`)
      return { deliveredTo: payload.to }
    })
    const { id } = await mail.submit({ to: 'ada@example.com' })
    await row(page, 'ada@example.com').getByText('ready').waitFor()
    const worker = desk.queue.work()
    await row(page, 'ada@example.com').getByText('dead').waitFor()
    await page.getByRole('link', { name: `${id}`, exact: true }).click()
    await see(page, `Job ${id} is dead since`)
    await see(page, 'no postman for ada@example.com')
    await page.getByRole('region', { name: 'Stack of attempt 1' }).getByText('dashboard.test.ts').waitFor()
    await page.getByRole('region', { name: 'Payload' }).getByText('"to": "ada@example.com"').waitFor()
    broken = false
    await press(page, 'Retry')
    await see(page, `Job ${id} succeeded`)
    await page.getByRole('region', { name: 'Result' }).getByText('"deliveredTo": "ada@example.com"').waitFor()
    await worker.stop()
  })

  test('a job that waits for its time runs now', async () => {
    const { id } = await desk.queue.submit('slow', { n: 2 }, { queue: 'slow', delay: '1h' })
    const page = await desk.show(`#/job/${id}`)
    await press(page, 'Run now')
    await see(page, `Job ${id} is ready`)
  })

  test('what is ahead of a job is shown, and it is cancelled', async () => {
    const backoff = { kind: 'table', delays: ['5m', '2h'] } satisfies Backoff
    const { id } = await desk.queue.submit('slow', { n: 1 }, { queue: 'slow', delay: '1h', maxAttempts: 3, backoff })
    const page = await desk.show(`#/job/${id}`)
    await see(page, 'Next tries')
    assert.match((await texts(page.locator('ol.ticks time'))).join(', '), /, in 1 h [45] min, in 3 h [45] min$/)
    await press(page, `Cancel job ${id}`)
    await confirm(page, 'Cancel job')
    await see(page, `Job ${id} was cancelled`)
  })

  test('dead letters: counted by cause, some tried first, 1,000 retried at once after a confirmation, others removed', async () => {
    let broken = true
    const numbers = Array.from({ length: 1000 }, (_, n) => n)
    const many = desk.queue.define<number>('export', { queue: 'exports' }, ({ payload }) => {
      if (broken) throw new PermanentError(`row ${payload} is locked by ${payload.toString(16)}-77`)
    })
    const odd = desk.queue.define('odd', { queue: 'exports' }, () => {
      throw new PermanentError('not today')
    })
    const jobs = await many.submitMany(numbers)
    const gone = await odd.submitMany([1, 2])
    const worker = desk.queue.work({ concurrency: 100 })
    await Promise.allSettled([...jobs, ...gone].map(({ id }) => desk.queue.wait(id, { timeout: '20s' })))
    const page = await desk.show('#/dead')
    await row(page, 'row # is locked by #').getByText('1,000', { exact: true }).waitFor()
    assert.deepEqual(
      await counts(page),
      desk.sql(
        `SELECT COUNT(*), error_name || ': ' || CASE type WHEN 'export' THEN 'row # is locked by #' ELSE error_message END, type FROM gq_jobs j JOIN gq_attempts a ON j.id = job_id AND a.attempt = j.attempt WHERE state = 'dead' GROUP BY 3, 2 ORDER BY 1 DESC, MAX(j.id) DESC`,
      ),
    )
    await press(page, /^Retry all 1,000 jobs of type export/)
    await see(page, '1,000 jobs become ready again')
    await page.keyboard.press('Escape')
    assert.equal(await page.getByRole('dialog').count(), 0)
    assert.equal((await desk.queue.job(jobs[0]!.id))?.state, 'dead')
    broken = false
    await press(page, /^Try 10 first of 1,000 jobs of type export/)
    await see(page, 'The newest 10 become ready again')
    await confirm(page, 'Try 10 first')
    await row(page, 'is locked by').getByText('990', { exact: true }).waitFor()
    await Promise.all(jobs.slice(-10).map(({ id }) => desk.queue.wait(id, { timeout: '20s' })))
    await press(page, /^Retry all 990 jobs of type export/)
    await confirm(page, 'Retry all 990')
    await row(page, 'is locked by').waitFor({ state: 'detached' })
    await Promise.all(jobs.map(({ id }) => desk.queue.wait(id, { timeout: '20s' })))
    await press(page, /^Remove all 2 jobs of type odd/)
    await confirm(page, 'Remove all 2')
    await row(page, 'not today').waitFor({ state: 'detached' })
    assert.equal(await desk.queue.job(gone[0]!.id), null)
    await worker.stop()
  })

  test('types: each count is the one that SQL gives', async () => {
    const page = await desk.show('#/types')
    await see(page, /^Since/)
    using db = lookInto(desk.folder.file('jobs.db'))
    const all = db.prepare('SELECT type, SUM(submitted) AS submitted, SUM(succeeded) AS succeeded, SUM(failed) AS failed, SUM(retried) AS retried, SUM(dead) AS dead FROM gq_hours GROUP BY type').all() // biome-ignore format: long
    assert.ok(all.length >= 4)
    for (const { type, ...counts } of all) {
      const cells = await texts(page.getByRole('row').filter({ has: page.getByRole('link', { name: `${type}`, exact: true }) }).getByRole('cell')) // biome-ignore format: long
      assert.deepEqual(cells.slice(1, 6).map((text) => Number(text.replaceAll(',', ''))), Object.values(counts), `${type}`) // biome-ignore format: long
    }
    await press(page, '1 week')
    await press(page, 'run time')
    await row(page, 'mail').waitFor()
  })

  test('what fails now is seen at once, by cause, on the overview and on its page, and its jobs behind each count', async () => {
    const statuses = [503, 503, 503, 404]
    const call = desk.queue.define<number>('call', { queue: 'calls' }, ({ payload }) => {
      throw new TemporaryError(`Request failed with status code ${statuses[payload]}`, { retryAfter: '1h' })
    })
    await call.submitMany([0, 1, 2, 3])
    const worker = desk.queue.work()
    const page = await desk.show('#/')
    await page.getByRole('region', { name: 'Failing now' }).getByText('status code 503').waitFor()
    await page.getByRole('link', { name: 'Failing now' }).first().click()
    await row(page, 'status code 503').getByText('3', { exact: true }).waitFor()
    await row(page, 'status code 404').getByText('1', { exact: true }).waitFor()
    assert.deepEqual(
      await counts(page),
      desk.sql(
        `SELECT COUNT(*), error_name || ': ' || error_message, type FROM gq_jobs j JOIN gq_attempts a ON j.id = job_id AND a.attempt = j.attempt WHERE j.finished_at IS NULL AND a.outcome = 'failed' GROUP BY 3, 2 ORDER BY 1 DESC, MAX(j.id) DESC`,
      ),
    )
    await row(page, 'status code 503').getByRole('link', { name: '3', exact: true }).click()
    await see(page, 'These are all.')
    assert.equal(await page.getByRole('row').count(), 4)
    await row(page, 'Request failed with status code 503').waitFor()
    await worker.stop()
  })

  test('queues: paused, resumed, limited', async () => {
    const page = await desk.show('#/queues', { complains: false })
    await press(page, 'Pause queue bulk')
    await confirm(page, 'Pause')
    await row(page, 'bulk').getByText('paused').waitFor()
    assert.equal((await desk.queue.stats()).queues.find(({ queue }) => queue === 'bulk')?.paused, true)
    await press(page, 'Resume queue bulk')
    await row(page, 'bulk').getByText('open').waitFor()
    await desk.queue.configure('bulk', { keepDead: '90d' })
    await row(page, 'bulk').getByText('1 d, 7 d, 90 d').waitFor()
    await press(page, 'Limits and retention of queue bulk')
    const box = (label: string) => page.getByLabel(label, { exact: true })
    const labels = ['Jobs that may run at once', 'The same of one type and concurrency key', 'Keep succeeded jobs for', 'Keep cancelled jobs for', 'Keep dead jobs for'] // biome-ignore format: long
    assert.deepEqual(await Promise.all(labels.map((label) => box(label).inputValue())), ['', '1', '1d', '7d', '90d'])
    await page.getByLabel('Jobs that may wait').fill('500')
    await box('Jobs that may start in a period').fill('100')
    await box('That period, such as 1m').fill('2d')
    await press(page, 'Save')
    await page.locator('.fields > div').filter({ hasText: 'That period' }).getByText('rate.per').waitFor()
    assert.equal(await box('That period, such as 1m').getAttribute('aria-invalid'), 'true')
    await box('That period, such as 1m').fill('60s')
    await box('Keep succeeded jobs for').fill('36h')
    await box('Keep dead jobs for').fill('')
    await desk.queue.configure('bulk', { maxRunning: 9 }) // by somebody else: it stays
    await press(page, 'Save')
    await row(page, 'bulk').getByText('500').waitFor()
    await row(page, 'bulk').getByText('100 in 1 min').waitFor()
    await row(page, 'bulk').getByText('1 d 12 h, 7 d, ever').waitFor()
    const { queues } = await desk.queue.stats()
    const { maxDepth, maxRunning, paused, rate, keepSucceeded, keepDead } = queues.find(
      ({ queue }) => queue === 'bulk',
    )!
    assert.deepEqual([maxDepth, maxRunning, paused, rate], [500, 9, false, { max: 100, per: 60_000 }])
    assert.deepEqual([keepSucceeded, keepDead], [129_600_000, null])
    assert.deepEqual(desk.sql(`SELECT details ->> '$.after' FROM gq_audit WHERE action = 'setQueue' AND who = 'loopback' ORDER BY id DESC LIMIT 1`), [
      ['{"maxDepth":500,"rate":{"max":100,"per":60000},"keepSucceeded":129600000,"keepDead":null}'],
    ]) // biome-ignore format: long
    await press(page, 'Limits and retention of queue bulk')
    await box('Jobs that may start in a period').fill('')
    await press(page, 'Save')
    await page
      .locator('.fields > div')
      .filter({ hasText: 'Jobs that may start' })
      .getByText('INVALID_ARGUMENT')
      .waitFor()
    await box('That period, such as 1m').fill('')
    await press(page, 'Save')
    await row(page, 'bulk').getByText('100 in 1 min').waitFor({ state: 'detached' })
  })

  test('schedules: their ticks, run now, paused', async () => {
    await desk.queue.schedule('nightly', '0 3 * * *', 'report', { for: 'ops' }, { queue: 'reports' })
    const page = await desk.show('#/schedules')
    await row(page, 'nightly').waitFor()
    assert.equal(await row(page, 'nightly').locator('time').count(), 4)
    await press(page, 'Run now: nightly')
    await confirm(page, 'Run now')
    const link = row(page, 'nightly').getByRole('link', { name: /^\d+$/ })
    const id = Number(await link.textContent())
    assert.deepEqual((await desk.queue.job(id))?.payload, { for: 'ops' })
    await press(page, 'Pause schedule nightly')
    await row(page, 'nightly').getByText('when resumed').waitFor()
  })

  test('a schedule: its latest ticks, which jobs they made, and how these ended', async () => {
    await desk.queue.schedule('often', '* * * * * *', 'tick', {}, { queue: 'reports', maxAttempts: 1 })
    await desk.queue.submit('tick', { says: 'schedule often 1' }, { queue: 'reports' }) // no tick
    desk.queue.define<{ says?: string }>('tick', { queue: 'reports' }, () => {
      throw new PermanentError('no paper')
    })
    const worker = desk.queue.work()
    const page = await desk.show('#/schedules')
    await page.getByRole('link', { name: 'often' }).click()
    const ticks = page.getByRole('region', { name: 'Ticks of often' })
    await ticks.getByRole('row').filter({ hasText: 'dead' }).nth(1).waitFor()
    await press(page, 'Pause schedule often')
    await row(page, 'often').getByText('when resumed').waitFor()
    const all = desk.sql(`SELECT tick, id FROM gq_jobs WHERE idempotency_key LIKE 'schedule often %' ORDER BY id DESC`)
    await Promise.all(all.map(([, id]) => desk.queue.wait(Number(id), { timeout: '20s' }).catch(() => undefined)))
    await until(page, `document.querySelectorAll('[aria-label="Ticks of often"] tbody tr').length === ${Math.min(20, all.length)}`) // biome-ignore format: long
    await see(page, 'As far as jobs are kept')
    const cells = await ticks.locator('tbody tr').evaluateAll((rows) => rows.map((one) => [Date.parse(one.querySelector('time')!.dateTime), Number(one.querySelector('a')!.textContent), one.querySelector('.brief')!.textContent])) // biome-ignore format: long
    assert.deepEqual(cells, all.map(([tick, id]) => [tick, id, 'PermanentError: no paper'])) // biome-ignore format: long
    await worker.stop()
  })

  test('overview, workers and storage tell how it is, and follow', async () => {
    const started = Promise.withResolvers<void>()
    const end = Promise.withResolvers<void>()
    desk.queue.define('long', {}, async (_, { progress }) => {
      progress(40, 'page 4 of 10')
      started.resolve()
      await end.promise
    })
    await desk.queue.submit('unheard-of', {})
    const { id } = await desk.queue.submit('long', {})
    const worker = desk.queue.work({ concurrency: 7, name: 'mule' })
    await started.promise
    const page = await desk.show('#/workers')
    await row(page, 'mule').getByText('1/7').waitFor()
    await row(page, `${id}`).getByText('40 % page 4 of 10').waitFor()
    await page.getByRole('link', { name: 'Overview' }).click()
    await see(page, "Jobs of type 'unheard-of' wait in queue 'default' and no live worker handles them")
    await see(page, '1 of 7')
    await page.getByRole('img', { name: /^Throughput: submitted/ }).waitFor()
    end.resolve()
    await see(page, '0 of 7')
    await worker.stop()
    await page.getByRole('link', { name: 'Storage' }).click()
    await see(page, 'Submissions are taken.')
    await see(page, /^\d+\.\d MiB$/)
    await see(page, desk.folder.file('jobs.db'))
    await see(page, `gopherqueue --db ${desk.folder.file('jobs.db')} doctor`)
  })

  test('payloads, names and errors are text, and never markup', async () => {
    const markup = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    const type = '<b onclick=1>type</b>'
    desk.queue.define(type, { queue: `<i>${markup}` }, () => {
      throw Object.assign(new PermanentError(markup), { name: markup, stack: `${markup}\n  at ${markup}` })
    })
    const { id } = await desk.queue.submit(type, { [markup]: markup }, { idempotencyKey: markup })
    const worker = desk.queue.work()
    await assert.rejects(desk.queue.wait(id), { code: 'JOB_FAILED' })
    await worker.stop()
    const page = await desk.show('')
    for (const hash of [
      '#/',
      '#/jobs',
      `#/job/${id}`,
      '#/dead',
      '#/queues',
      `#/jobs?text=${encodeURIComponent(markup)}&cause=${encodeURIComponent(markup)}`,
    ]) {
      // biome-ignore format: long
      await page.goto(`${desk.server.url}/${hash}`)
      await see(page, hash === '#/' || hash === '#/queues' ? '<i>' : /<img src=x onerror=|<b onclick/)
      assert.equal(await page.evaluate('window.hacked'), undefined)
      assert.equal(await page.locator('main img, main script, main b[onclick]').count(), 0, hash)
    }
  })

  test('each page at both widths and in both themes: nothing that axe finds, nothing that sticks out', async () => {
    const [dead] = (await desk.queue.jobs({ state: 'dead' })).jobs
    const hashes = [
      '#/',
      '#/jobs',
      `#/job/${dead!.id}`,
      '#/failing',
      '#/dead',
      '#/queues',
      '#/schedules',
      '#/workers',
      '#/storage',
      '#/types',
    ]
    for (const theme of ['light', 'dark'] as const)
      for (const width of [360, 1440]) {
        const page = await desk.show('', { width, theme })
        for (const hash of hashes) {
          await page.goto(`${desk.server.url}/${hash}`)
          await page.locator('main :is(table, dl, .empty)').first().waitFor()
          const found = await violations(page)
          if (await page.evaluate('document.documentElement.scrollWidth > innerWidth')) found.push('it sticks out')
          assert.deepEqual(found, [], `${hash} at ${width} px, ${theme}`)
        }
      }
  })

  test('by keyboard alone: to a page, to its content, and back from a dialog to its button', async () => {
    const page = await desk.show('')
    await page.getByRole('heading', { name: 'Overview' }).waitFor()
    await page.keyboard.press('Tab')
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to content')
    await page.getByRole('link', { name: 'Queues' }).focus()
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Queues', level: 1 }).waitFor()
    await until(page, "document.activeElement.textContent === 'Queues'")
    await until(page, "document.title === 'Queues · GopherQueue'")
    await page.getByRole('button', { name: 'Pause queue bulk' }).focus()
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    await page.keyboard.press('Escape')
    await page.locator('dialog').waitFor({ state: 'detached' })
    await until(page, "document.activeElement.ariaLabel === 'Pause queue bulk'")
    await page.keyboard.press('Enter')
    await desk.queue.submit('first', {}, { queue: 'aaa' }) // a row above it
    await row(page, 'aaa').waitFor()
    await page.getByRole('dialog', { name: 'Pause queue bulk' }).getByRole('button', { name: 'Pause' }).focus()
    await page.keyboard.press('Enter')
    await row(page, 'bulk').getByText('paused').waitFor()
    await until(page, "document.activeElement.ariaLabel === 'Resume queue bulk'")
  })

  test('a server with tokens asks for one; who may only read sees no button that would fail', async () => {
    const { id } = await desk.queue.submit('later', {}, { delay: '1h' })
    const [read, submit, admin] = await Promise.all(
      (['read', 'submit', 'admin'] as const).map((scope) => desk.token(scope)),
    )
    const page = await desk.show('#/queues', { complains: false })
    await page.getByLabel('Token').fill('gq_wrong')
    await press(page, 'Sign in')
    await see(page, 'This server does not know the token')
    await page.getByLabel('Token').fill(submit!)
    await press(page, 'Sign in')
    await see(page, "The token 'submit' is for submit; this takes read")
    await page.getByLabel('Token').fill(read!)
    await press(page, 'Sign in')
    await see(page, 'Read only')
    const common = ['Skip to content', 'Live', 'Sign out', 'Theme: system']
    for (const hash of ['#/queues', '#/dead', '#/schedules', `#/job/${id}`, '#/workers', '#/storage']) {
      await page.goto(`${desk.server.url}/${hash}`)
      await page.locator('main :is(table, dl, .empty)').first().waitFor()
      assert.deepEqual((await texts(page.getByRole('button'))).sort(), common.sort(), hash)
    }
    assert.ok(!page.url().includes('gq_'))
    await press(page, 'Sign out')
    await page.getByLabel('Token').fill(admin!)
    await press(page, 'Sign in')
    await page.goto(`${desk.server.url}/#/job/${id}`)
    await press(page, `Cancel job ${id}`)
    await confirm(page, 'Cancel job')
    await see(page, `Job ${id} was cancelled`)
    assert.equal(await page.evaluate('Object.keys(localStorage).length'), 0)
  })

  test('no request went to any other host, and the browser had nothing to complain of', () => {
    assert.deepEqual(desk.complaints, [])
  })
})
