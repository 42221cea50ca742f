import { GopherQueue } from '../../src/index.ts'

// A process whose handler never ends. It says so when it has its jobs.

const [file = '', name = '', type = '', jobs = '1'] = process.argv.slice(2)
const queue = await GopherQueue.open(file)
let running = 0
queue.define(type, { queue: 'exports', timeout: '12h' }, async () => {
  if (++running === Number(jobs)) console.log('running')
  await new Promise(() => setInterval(() => undefined, 1000))
})
queue.work({ name, concurrency: Number(jobs) })
