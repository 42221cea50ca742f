import type { Command } from 'commander'
import { retryTimes } from '../model/backoff.ts'
import { systemClock } from '../model/clock.ts'
import { nextTimes } from '../model/cron.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { Schedule } from '../store/store.ts'
import { action, look, whole } from './arguments.ts'
import { json, print, show, table, when } from './output.ts'

/** Looking at schedules and at retries before they happen, and acting on schedules. */
export function scheduleCommand(root: Command): void {
  const schedule = root.command('schedule').description('look at schedules and act on them; code defines them')
  schedule
    .command('list', { isDefault: true })
    .description('all schedules, with their next tick')
    .option('--retries <type>', 'in place of that: when a job of the type would be retried, each time it fails')
    .action(look((queue, { retries }: { retries?: string }) => (retries ? preview(queue, retries) : list(queue))))
  schedule
    .command('next')
    .description('its next ticks')
    .argument('<name>')
    .option('--count <n>', 'how many', whole, 10)
    .action(
      look(async (queue, name: string, { count }: { count: number }) => {
        const found = (await queue.schedules({ payloads: false })).find((one) => one.name === name)
        if (!found) throw new GopherQueueError('NOT_FOUND', `There is no schedule '${name}'.`)
        const times = nextTimes(found.cron, found.timezone, count, systemClock.now())
        show(times, () => times.map((at) => print(when(at, true))))
      }),
    )
  for (const [name, what, act] of [
    ['pause', 'no more ticks until it is resumed', 'pauseSchedule'],
    ['resume', 'ticks again, from now on', 'resumeSchedule'],
    ['rm', 'remove it; the jobs that it has submitted stay', 'removeSchedule'],
  ] as const)
    schedule
      .command(name)
      .description(what)
      .argument('<name>')
      .action(action((queue, schedule: string) => queue[act](schedule)))
}

async function list(queue: GopherQueue): Promise<void> {
  const schedules = await queue.schedules({ payloads: json })
  show(schedules, () => scheduleTable(schedules))
}

/** `kind` as `table` has it. */
export function scheduleTable(schedules: Schedule[], kind?: string): void {
  const rows = schedules.map(({ name, paused, inCode, cron, timezone, nextAt, type }) => [
    ...[name, paused ? 'paused' : inCode ? 'open' : 'not in code', cron, timezone],
    ...[nextAt === null ? 'never' : when(nextAt), type],
  ])
  table(['SCHEDULE', 'STATE', 'CRON', 'ZONE', 'NEXT', 'TYPE'], rows, kind)
}

/** By the policy of its youngest job: policies are in code, and the file knows them by jobs alone. */
async function preview(queue: GopherQueue, type: string): Promise<void> {
  const [job] = (await queue.jobs({ type, limit: 1 })).jobs
  if (!job) throw new GopherQueueError('NOT_FOUND', `There is no job of type '${type}' whose policy could be shown.`)
  const times = retryTimes({ ...job, attemptsLeft: job.maxAttempts, deadline: null }, systemClock.now())
  const rows = times.map((at, i) => [`${i + 1}`, when(at, true)])
  show({ type, backoff: job.backoff, maxAttempts: job.maxAttempts, times }, () => table(['TRY', 'WHEN'], rows))
}
