import { type Command, Option } from 'commander'
import type { DurationText } from '../model/clock.ts'
import { checkKey, type JobOptions, jobSpec, priorities } from '../model/job.ts'
import { deadline, instant, open, parsed, whole } from './arguments.ts'
import { submitLines } from './bulk.ts'
import { forPeople, print, show, table } from './output.ts'

type Flags = JobOptions & { key?: string; keyWindow?: string }

export function submitCommand(root: Command): void {
  root
    .command('submit')
    .description('store a job, or one for each line of stdin; answers when they are on disk')
    .argument('<type>', 'selects the worker')
    .argument(
      '[payload]',
      "JSON, null by default; '-' reads JSON lines from stdin: up to 10,000 and 16 MiB all or none, more in such bulks",
    )
    .option('--queue <name>', "the line to stand in (default: 'default')")
    .addOption(new Option('--priority <class>', "(default: 'normal')").choices(priorities))
    .option('--delay <duration>', 'not before this long from now, such as 500ms, 30s, 5m, 1.5h, 7d')
    .option('--run-at <date>', 'not before this instant', instant)
    .option(
      '--deadline <date|duration>',
      'no attempt starts from then on: dead if it waits then, also for a retry',
      deadline,
    )
    .option('--max-attempts <n>', 'the first one included (default: 12)', whole)
    .option('--timeout <duration>', 'longest run of one attempt (default: 15m)')
    .addOption(new Option('--on-timeout <what>', "(default: 'retry')").choices(['retry', 'dead']))
    .option('--visibility-timeout <duration>', 'life of a lease without heartbeats (default: 30s)')
    .option('--backoff <json>', 'such as {"kind":"linear","delay":"5s","max":"1h"}', parsed)
    .option('--key <key>', 'idempotency key: a second submission returns the first job')
    .option('--unique-key <key>', 'as long as a job of it has not ended, a second submission returns that')
    .option('--concurrency-key <key>', 'of jobs with the same, at most maxRunningPerKey of the queue run at once')
    .option('--key-window <duration>', 'how long the key is kept at least (default: 24h)')
    .action(
      async (type: string, payload: string | undefined, { key, keyWindow, ...flags }: Flags, command: Command) => {
        const options: JobOptions = { ...flags }
        if (key !== undefined) options.idempotencyKey = checkKey(key)
        if (keyWindow !== undefined) options.idempotencyWindow = keyWindow as DurationText
        jobSpec(type, options) // refuses what is wrong before a file is made for it
        if (payload === '-' && key !== undefined) command.error('--key is for one job, not for lines of stdin.')
        const value = payload === '-' || payload === undefined ? null : parsed(payload)
        await using queue = await open(command, 'create')
        if (payload === '-') {
          const bulk = await submitLines(queue, type, options, process.stdin)
          const row = Object.values(bulk).map((part) => `${part ?? 'none'}`)
          return void show(bulk, () => table(['ACCEPTED', 'FIRST ID', 'LAST ID'], [row]))
        }
        const submitted = await queue.submit(type, value, options)
        const { id, duplicate, state } = submitted
        const first = `was there already under this key (${state ?? 'deleted by retention'}); nothing was added`
        const said = `Job ${id} ${duplicate ? first : 'is on disk'}.`
        show(submitted, () => print(forPeople ? said : `${id}`))
      },
    )
}
