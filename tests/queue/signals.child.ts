import { existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { GopherQueue } from '../../src/index.ts'

// A worker whose process would go on for ever, and that stops at a signal.

export interface SignalsConfig {
  folder: string
  /** How long handlers may go on. */
  grace?: '1ms' | '6s'
  /** Listens to SIGTERM itself: then it says when it ends. */
  own?: true
}
const { folder, grace, own } = JSON.parse(process.argv[2]!) as SignalsConfig
const queue = await GopherQueue.open(`${folder}/jobs.db`)
queue.define<string>('t', async ({ payload }, { signal }) => {
  writeFileSync(`${folder}/started`, '')
  while (!existsSync(`${folder}/go`) && !(payload === 'heeds' && signal.aborted)) await new Promise(setImmediate)
  signal.throwIfAborted()
  return 'done'
})
if (own) process.once('SIGTERM', () => setTimeout(() => process.exit(7), 100))
createServer().listen(0)
queue.work({ stopOn: ['SIGTERM', 'SIGINT'], ...(grace && { grace }) })
console.log('works')
