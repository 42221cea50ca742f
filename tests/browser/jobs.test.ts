import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Page } from 'playwright-core'
import { confirm, Desk, press, row, see, skip, until, violations } from './support.ts'

// Lists of jobs: filters, a search that takes long, and what is done to rows that were selected.

const box = (page: Page, id: number | string) => page.getByRole('checkbox', { name: `Select ${id}`, exact: true })
const rows = (page: Page) => page.locator('tbody tr').count()

describe('jobs of the dashboard', { skip }, () => {
  let desk: Desk
  before(async () => {
    desk = await Desk.open()
    await desk.queue.submitMany('many', Array.from({ length: 120 }, (_, n) => ({ n, mark: n === 7 ? 'needle_7' : '' })), { queue: 'bulk' }) // biome-ignore format: long
  })
  after(() => desk[Symbol.asyncDispose]())

  test('jobs are found by state, queue, type, text and age, and pages lead through all', async () => {
    const page = await desk.show('#/jobs')
    await page.getByLabel('Queue').selectOption('bulk')
    await page.getByLabel('State').selectOption('ready')
    await page.getByLabel('Type').fill('many')
    await page.waitForURL(/type=many/)
    await row(page, '"n":119').waitFor()
    await press(page, 'Older')
    await row(page, '"n":69').waitFor()
    await press(page, 'Older')
    await see(page, 'These are all.')
    assert.equal(await rows(page), 20)
    await page.getByLabel('Text').fill('NEEDLE_')
    await page.getByRole('row').nth(2).waitFor({ state: 'detached' })
    await row(page, '"n":7,').waitFor()
    await page.getByLabel('Submitted').selectOption('over 1 h')
    await see(page, 'No job fits')
    await page.goBack()
    await row(page, '"n":7,').waitFor()
  })

  test('what the address says stands in the boxes, also of a queue that is not there, and what has no box can be taken away', async () => {
    const page = await desk.show('#/jobs?queue=elsewhere&type=many&order=oldest&age=1d')
    await see(page, 'No job fits')
    const values = () => page.locator('form.filter :is(input, select)').evaluateAll((all) => all.map((one) => (one as unknown as { value: string }).value)) // biome-ignore format: long
    assert.deepEqual(await values(), ['', 'elsewhere', 'many', '', '1d'])
    await page.getByLabel('Type').fill('other')
    await page.waitForURL(/type=other/)
    await page.goBack()
    await page.waitForURL(/type=many/)
    await until(page, "document.querySelector('[name=type]').value === 'many'") // though the focus is there
    await page.getByLabel('Queue').selectOption('bulk')
    await row(page, '"n":0,').waitFor()
    await press(page, 'Take away order')
    await row(page, '"n":119,').waitFor()
  })

  test('a search goes on by itself until its page is full', async () => {
    const page = await desk.show('')
    const looks: string[] = []
    await page.route(/v1\/jobs\?/, async (route) => {
      const url = new URL(route.request().url())
      looks.push(url.searchParams.get('limit')!)
      url.searchParams.set('limit', '20') // as a look that ends by the clock
      if (Number(looks.at(-1)) < 20) url.searchParams.set('limit', looks.at(-1)!)
      await route.continue({ url: `${url}` })
    })
    await page.goto(`${desk.server.url}/#/jobs?queue=bulk`)
    await page.getByRole('button', { name: 'Older' }).waitFor()
    assert.equal(await rows(page), 50)
    assert.deepEqual(looks.slice(0, 3), ['50', '30', '10'])
  })

  test('a search says what it has looked through, stops when it is told, and goes on from there', async () => {
    const page = await desk.show('')
    const first = Promise.withResolvers<void>()
    let looks = 0
    await page.route(/v1\/jobs\?/, async (route) => {
      if (++looks === 2) await first.promise
      const limit = looks === 1 ? 20 : 5 // each look ends short, as by the clock
      await route.continue({
        url: route
          .request()
          .url()
          .replace(/limit=\d+/, `limit=${limit}`),
      })
    })
    await page.goto(`${desk.server.url}/#/jobs?queue=bulk`)
    await see(page, 'Looking: looked through as far as job 101, 20 found.')
    await press(page, 'Stop')
    first.resolve()
    await see(page, 'Stopped: looked through as far as job 96, 25 found.')
    assert.equal(await rows(page), 25)
    await press(page, 'Go on')
    await page.getByRole('button', { name: 'Older' }).waitFor()
    assert.equal(await rows(page), 50)
    assert.equal(await row(page, '"n":119').count(), 1)
  })

  test('selected rows, by keyboard: one confirmation with their count, then what was refused and why', async () => {
    const submit = (n: number, delay?: '1h') => desk.queue.submit('mixed', { n }, { queue: 'mixed', ...(delay && { delay }) }) // biome-ignore format: long
    const [{ id: ready }, { id: later }, { id: gone }] = [await submit(1), await submit(2, '1h'), await submit(3)]
    await desk.queue.cancel(gone)
    const page = await desk.show('#/jobs?queue=mixed')
    await box(page, ready).focus()
    await page.keyboard.press('Space')
    await see(page, '1 job selected')
    await box(page, 'all of this page').focus()
    await page.keyboard.press('Space')
    await see(page, '3 jobs selected')
    assert.deepEqual(await violations(page), [])
    await page.getByRole('button', { name: 'Run now: 3 jobs' }).focus()
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'Run now: 3 jobs' }).waitFor()
    await page.keyboard.press('Escape')
    assert.equal((await desk.queue.job(later))?.state, 'scheduled')
    await page.keyboard.press('Enter')
    await confirm(page, 'Run now')
    await see(page, '1 job made ready. 2 jobs refused:')
    await see(page, `Job ${ready} is ready: 'runNow' does not fit that.`)
    await see(page, `Job ${gone} is cancelled: 'runNow' does not fit that.`)
    assert.equal((await desk.queue.job(later))?.state, 'ready')
    await see(page, '2 jobs selected') // those that were refused
    await press(page, 'Retry: 2 jobs')
    await confirm(page, 'Retry')
    await see(page, '1 job retried. 1 job refused:')
    await press(page, 'Select none')
    await box(page, 'all of this page').check()
    await press(page, 'Cancel: 3 jobs')
    await confirm(page, 'Cancel')
    await see(page, '3 jobs cancelled or asked to stop.')
    await box(page, 'all of this page').check()
    await press(page, 'Remove: 3 jobs')
    await confirm(page, 'Remove')
    await see(page, 'No job fits')
    assert.equal(await desk.queue.job(ready), null)
  })

  test('a list keeps still while a row or text of it is selected, says what is new, and goes on afterwards', async () => {
    const still = desk.queue.define<number>('still', {})
    await still.submitMany([1, 2, 3])
    const page = await desk.show('#/jobs?type=still')
    await page.getByRole('row').nth(3).waitFor()
    const ids = () => page.locator('tbody tr td:nth-child(2)').allInnerTexts()
    const before = await ids()
    const more = async (count: number) => still.submitMany(Array.from({ length: count }, (_, i) => i))
    await box(page, before[1]!).check()
    await more(2)
    await see(page, 'The list keeps still while you select: 2 new.')
    assert.deepEqual(await ids(), before)
    await press(page, 'Show')
    await page.getByRole('row').nth(5).waitFor()
    assert.deepEqual((await ids()).slice(2), before)
    await more(1)
    await see(page, '1 new.')
    await press(page, 'Select none')
    await page.getByRole('row').nth(6).waitFor()
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('tbody tr code'))")
    const selected = await ids()
    await more(50)
    await see(page, '50 new, 6 gone.')
    assert.deepEqual(await ids(), selected)
    await page.evaluate('getSelection().removeAllRanges()')
    await page.getByRole('row').nth(50).waitFor()
    assert.equal(await page.getByText('keeps still').count(), 0)
    await page.locator('tbody tr code').first().hover()
    await page.mouse.down()
    await more(1)
    await see(page, '1 new, 1 gone.')
    await page.mouse.up()
    await page.getByText('keeps still').waitFor({ state: 'detached' })
  })

  test('what is selected is of its page alone, and one who may only read can select nothing', async () => {
    const page = await desk.show('#/jobs?queue=bulk')
    await box(page, 'all of this page').check()
    await see(page, '50 jobs selected')
    await press(page, 'Older')
    await row(page, '"n":69').waitFor()
    await page.getByText('50 jobs selected').waitFor({ state: 'detached' })
    const token = await desk.token('read')
    await page.reload()
    await page.getByLabel('Token').fill(token)
    await press(page, 'Sign in')
    await row(page, '"n":69').waitFor()
    assert.equal(await page.getByRole('checkbox').count(), 0)
  })
})
