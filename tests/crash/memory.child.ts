import { GopherQueue } from '../../src/index.ts'

// Fills a file with waiting jobs, then submits and works at that depth, and says how much memory it took.

export interface MemoryConfig {
  file: string
  depth: number
  /** Jobs submitted and worked at that depth; 0 only fills the file. */
  turnover: number
}

const { file, depth, turnover } = JSON.parse(process.argv[2]!) as MemoryConfig
const queue = await GopherQueue.open(file)
const payload = { text: 'x'.repeat(150) }
if (turnover === 0) {
  for (let left = depth; left > 0; left -= 10_000)
    await queue.submitMany(
      'deep',
      Array.from({ length: Math.min(left, 10_000) }, () => payload),
    )
  await queue.close()
} else {
  let done = 0
  let submitted = turnover // the depth stays: one is submitted for each that has ended
  const { promise: turnedOver, resolve } = Promise.withResolvers<void>()
  queue.define('deep', {}, () => undefined)
  queue.on('succeeded', () => {
    done++
    if (submitted-- > 0) void queue.submit('deep', payload)
    if (done === turnover) resolve()
  })
  queue.work({ concurrency: 20 })
  await turnedOver
  const { queues, oldestReadyMs } = await queue.stats()
  const rss = process.memoryUsage.rss() / 1e6
  const peak = process.resourceUsage().maxRSS / 1e3
  console.log(JSON.stringify({ waiting: queues[0]!.counts.ready, oldestReadyMs, rss, peak }))
  await queue.close()
}
