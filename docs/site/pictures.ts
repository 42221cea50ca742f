// node docs/site/pictures.ts [--minutes N]: pictures of the real dashboard for the documentation, in docs/pictures: a server, a
// browser, and workers that have something to do for some minutes, so that there is something to be seen.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { type Backoff, PermanentError } from '../../src/index.ts'
import { Desk } from '../../tests/browser/support.ts'

const { minutes } = parseArgs({ options: { minutes: { type: 'string', default: '8' } } }).values
const folder = join(import.meta.dirname, '../pictures')
mkdirSync(folder, { recursive: true })
const sleep = (ms: number, signal?: AbortSignal) =>
  new Promise<void>((resolve) => AbortSignal.any([AbortSignal.timeout(ms), ...(signal ? [signal] : [])]).addEventListener('abort', () => resolve())) // biome-ignore format: long

await using desk = await Desk.open()
const { queue } = desk
const brief = { kind: 'table', delays: ['2s', '10s', '2m'] } satisfies Backoff
const mail = queue.define<{ to: string }, { deliveredTo: string }>(
  'welcome-mail',
  { queue: 'mail', backoff: brief, maxAttempts: 4 },
  async ({ id, payload, attempt }, { signal }) => {
    await sleep(40 + (id % 7) * 20, signal)
    if (id % 97 === 0) throw new PermanentError(`550 no such mailbox: ${payload.to}`)
    if (id % 11 === 0 && attempt < 3) throw new Error('connect ECONNREFUSED 10.0.0.7:25')
    return { deliveredTo: payload.to }
  },
)
const image = queue.define<{ file: string }, null>(
  'thumbnail',
  { queue: 'images', timeout: '2m' },
  async ({ id }, { signal, progress }) => {
    for (let percent = 0; percent < 100 && !signal.aborted; percent += 20) {
      progress(percent, `size ${1 + percent / 20} of 5`)
      await sleep(60 + (id % 5) * 40, signal)
    }
    return null
  },
)
const report = queue.define<{ month: string }>('report', { queue: 'reports', priority: 'low' }, () => sleep(300))
await report.schedule('monthly', '0 3 1 * *', { month: 'last' }, { timezone: 'Europe/Berlin' })
await report.submit({ month: '2026-12' }, { delay: '7d' })
await queue.configure('images', { maxRunning: 6 })
const workers = [
  queue.work({ queues: ['mail'], concurrency: 8 }),
  queue.work({ queues: ['images', 'reports'], concurrency: 8 }),
]

const names = ['ada', 'grace', 'edsger', 'barbara', 'donald', 'frances']
for (let second = 0; second < Number(minutes) * 60; second++) {
  const many = Math.round(14 + 10 * Math.sin(second / 40) + 5 * Math.sin(second / 7))
  await mail.submitMany(Array.from({ length: many }, (_, i) => ({ to: `${names[i % 6]}@example.com` })))
  await image.submitMany(Array.from({ length: many >> 2 }, (_, i) => ({ file: `IMG_${1000 + second * 8 + i}.jpg` })))
  if (second % 30 === 0) await report.submit({ month: `2026-${String(1 + ((second / 30) % 12)).padStart(2, '0')}` })
  await sleep(1000)
}
const { jobs } = await queue.jobs({ type: 'welcome-mail', state: 'succeeded', limit: 500 })
const retried = jobs.find(({ attempt }) => attempt > 2)!.id
for (const theme of ['light', 'dark'] as const)
  for (const [name, hash] of Object.entries({ overview: '#/', job: `#/job/${retried}` })) {
    const page = await desk.show(hash, { width: 1280, theme })
    await page.locator('main :is(table, pre, canvas):visible').first().waitFor()
    if (name === 'overview') await page.getByRole('button', { name: '15 min' }).click()
    await sleep(1500) // charts are drawn after their data came; the page's events never let the network be idle
    const picture = await page.screenshot()
    const file = `${name}${theme === 'dark' ? '-dark' : ''}.webp`
    await sharp(picture).webp({ quality: 80 }).toFile(join(folder, file))
  }
await Promise.all(workers.map((worker) => worker.stop({ drain: false })))
