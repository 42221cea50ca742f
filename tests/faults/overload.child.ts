import { setImmediate as turn } from 'node:timers/promises'
import { GopherQueue, GopherQueueError } from '../../src/index.ts'

// Many callers submit at once, each as fast as it is answered; says what they were told and what memory it took.

export interface OverloadConfig {
  file: string
  jobs: number
  callers: number
  /** Submits again what was refused, until it is taken. */
  patient: boolean
}
export interface Overload {
  acknowledged: number
  refused: Record<string, number>
  seconds: number
  peakMebibytes: number
}

const { file, jobs, callers, patient } = JSON.parse(process.argv[2]!) as OverloadConfig
const queue = await GopherQueue.open(file)
const refused: Record<string, number> = {}
const text = 'x'.repeat(1000)
let next = 0
let acknowledged = 0

async function caller(): Promise<void> {
  while (next < jobs) {
    const job = next++
    for (;;)
      try {
        await queue.submit('flood', { job, text })
        acknowledged++
        break
      } catch (error) {
        if (!(error instanceof GopherQueueError) || error.accepted !== 'no') throw error
        refused[error.code] = (refused[error.code] ?? 0) + 1
        await turn()
        if (!patient && error.code === 'QUEUE_FULL') break
      }
  }
}

const start = performance.now()
await Promise.all(Array.from({ length: callers }, caller))
const seconds = (performance.now() - start) / 1000
await queue.close()
const report: Overload = { acknowledged, refused, seconds, peakMebibytes: process.resourceUsage().maxRSS / 1024 }
console.log(JSON.stringify(report))
