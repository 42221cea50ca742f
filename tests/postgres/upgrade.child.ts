import { GopherQueue } from '../../src/index.ts'

// Submits and works until SIGTERM, and tells of it: '+' what was acknowledged, '-' what was not and why, 'ran', and '!' all that should not happen.

const [, , url = '', name = ''] = process.argv
const say = (...words: unknown[]) => process.stdout.write(`${words.join(' ')}\n`)

const queue = await GopherQueue.open(url)
for (const event of ['warning', 'health', 'leaseLost'] as const)
  queue.on(event, (news: unknown) => say('!', event, JSON.stringify(news), news))
const task = queue.define('work', {}, ({ payload }) => say('ran', payload))
queue.work({ concurrency: 5 })
let going = true
process.once('SIGTERM', () => (going = false))
say('ready')

const submit = async (job: string) => {
  try {
    await task.submit(job)
    say('+', job)
  } catch (error) {
    const { code, accepted, message } = error as Error & { code: string; accepted: string }
    say('-', job, code, accepted, message)
    going = false
  }
}
for (let i = 0; going; i++) await Promise.all([1, 2, 3].map((n) => submit(`${name}/${i}/${n}`)))
await queue.close().catch(({ code }) => say('! close', code))
