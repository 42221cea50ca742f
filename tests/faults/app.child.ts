import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { type ActiveJob, type DurationText, GopherQueue, GopherQueueError, PermanentError } from '../../src/index.ts'

// An app as a process of its own: does what its standard input says, line by line, and tells all that happens to it as
// lines of JSON. The end of its input asks it to stop.

export interface AppConfig {
  file: string
  diskReserve?: number
  /** Slots; 0 (default) only submits. */
  concurrency?: number
}

/** How a `held` job ends, once it is told to. */
export type Ending = 'success' | 'temporary' | 'permanent'

/** A line of what the app tells. `of` is the command's own name for it. */
export interface Told {
  what: string
  of?: string
  id?: number
  attempt?: number
  code?: string
  accepted?: string
  message?: string
  status?: string
  causes?: string[]
  works?: { submit: boolean; lease: boolean; complete: boolean }
  state?: string
}

const config = JSON.parse(process.argv[2]!) as AppConfig
const tell = (told: Told) => process.stdout.write(`${JSON.stringify(told)}\n`)
const refusal = (what: string, of: string, error: unknown) => {
  if (!(error instanceof GopherQueueError)) throw error
  tell({ what, of, code: error.code, accepted: error.accepted, message: error.message })
}

const queue = await GopherQueue.open(
  config.file,
  config.diskReserve === undefined ? {} : { diskReserve: config.diskReserve },
).catch((error: GopherQueueError): never => {
  tell({ what: 'unopened', code: error.code, message: error.message })
  process.exit(0)
})
tell({ what: 'opened' })
queue.on('health', ({ status, causes, works }) =>
  tell({ what: 'health', status, causes: causes.map(({ code }) => code), works }),
)
queue.on('warning', (error) =>
  tell({ what: 'warning', code: (error as GopherQueueError).code, message: String(error) }),
)
queue.on('leaseLost', ({ id, attempt }) => tell({ what: 'leaseLost', id, attempt }))
queue.on('succeeded', ({ id, attempt }) => tell({ what: 'succeeded', id, attempt }))
queue.on('retrying', ({ id, attempt }) => tell({ what: 'retrying', id, attempt }))
queue.on('dead', ({ id, attempt }) => tell({ what: 'dead', id, attempt }))
queue.on('reclaimed', ({ id }, { state }) => tell({ what: 'reclaimed', id, state }))

/** Handlers that wait for the word, oldest first. */
const held: (() => void)[] = []

queue.define('held', {}, async (job: ActiveJob<{ ending: Ending }>, { signal }) => {
  signal.addEventListener('abort', () => tell({ what: 'aborted', id: job.id, attempt: job.attempt }))
  tell({ what: 'start', id: job.id, attempt: job.attempt })
  await new Promise<void>((resolve) => held.push(resolve))
  tell({ what: 'end', id: job.id, attempt: job.attempt })
  if (job.payload.ending === 'temporary') throw new Error(`the mail server said: try again. ${'-'.repeat(200)}`)
  if (job.payload.ending === 'permanent') throw new PermanentError('no such address')
  return { attempt: job.attempt, by: process.pid }
})
queue.define('short', {}, (job) => tell({ what: 'start', id: job.id, attempt: job.attempt }))
queue.define('busy', {}, (job: ActiveJob<{ ms: number }>) => {
  tell({ what: 'start', id: job.id, attempt: job.attempt })
  if (job.attempt > 1) return
  const until = performance.now() + job.payload.ms
  while (performance.now() < until); // nothing else of the app's thread runs meanwhile
  tell({ what: 'end', id: job.id, attempt: job.attempt })
})

const commands: Record<string, (...words: string[]) => Promise<void> | void> = {
  /** submit NAME [TYPE [DELAY]]: one job, with NAME as its idempotency key. */
  async submit(of = '', type = 'short', delay = '0s') {
    try {
      const { id } = await queue.submit(
        type,
        { ending: 'success', of },
        { idempotencyKey: of, delay: delay as DurationText },
      )
      tell({ what: 'accepted', of, id })
    } catch (error) {
      refusal('refused', of, error)
    }
  },
  async wait(id = '') {
    try {
      await queue.wait(Number(id))
      tell({ what: 'waited', of: id, state: 'succeeded' })
    } catch (error) {
      refusal('waited', id, error)
    }
  },
  /** Lets so many held handlers end at once; `one-by-one` waits between them, so that each has a transaction of its own. */
  async finish(count = '', how = '') {
    for (const end of held.splice(0, Number(count))) {
      end()
      if (how === 'one-by-one') await pause(1)
    }
  },
  async health() {
    const { status, causes, works } = await queue.health()
    tell({ what: 'asked', status, causes: causes.map(({ code }) => code), works })
  },
  work() {
    queue.work({ concurrency: config.concurrency ?? 1 })
  },
}
if (config.concurrency) commands.work!()
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const [command = '', ...words] = line.split(' ')
  void commands[command]!(...words)
})
lines.on('close', () => void queue.close())
