import { type Command, InvalidArgumentError } from 'commander'
import { invalid } from '../model/errors.ts'
import { rateText } from '../model/rate.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { QueueStats } from '../store/store.ts'
import { action, look, whole } from './arguments.ts'
import { allQueues, mustBeThere } from './operate.ts'
import { json, print, show, table, toLine } from './output.ts'

/** Looking at queues and their limits, and setting these. */
export function queueCommand(root: Command): void {
  const group = root.command('queue').description('look at queues and their limits, and set these')
  group.command('list', { isDefault: true }).description('all queues, with their limits').action(look(list))
  group
    .command('set')
    .description(
      "set limits of a queue, and how long it keeps ended jobs; what is not named stays, 'none' takes a limit away",
    )
    .argument('<queue>', 'name of the queue')
    .option('--max-depth <n>', 'most jobs that wait; more are refused', limit)
    .option('--max-running <n>', 'most jobs that run at once, over all processes', limit)
    .option('--max-running-per-key <n>', 'most jobs of a type and concurrency key that run at once: a number', whole)
    .option('--rate <max/per>', 'most starts in any such interval, over all processes, such as 100/1m', rate)
    .option('--keep-succeeded <duration>', 'how long succeeded jobs stay, such as 7d; none: for ever')
    .option('--keep-cancelled <duration>', 'the same of cancelled jobs')
    .option('--keep-dead <duration>', 'the same of dead jobs')
    .option('--create', 'also a queue that had no job yet')
    .action(action(set))
}

// Commander takes null for an option without a value: 'none' becomes null afterwards.

const limit = (text: string): number | string => (text === 'none' ? text : whole(text))

function rate(text: string): { max: number; per: string } | string {
  if (text === 'none') return text
  const [, max, per] = /^(\d{1,15})\/(.+)$/.exec(text) ?? []
  if (max === undefined || per === undefined) throw new InvalidArgumentError('Give a rate such as 100/1m, or none.')
  return { max: Number(max), per }
}

async function set(queue: GopherQueue, name: string, { create, ...given }: { create?: true }): Promise<void> {
  const options = Object.fromEntries(
    Object.entries(given).map(([key, value]) => [key, value === 'none' ? null : value]),
  )
  if (Object.keys(options).length === 0) throw invalid('Name what to set (see queue set --help).')
  if (!create) await mustBeThere(queue, name)
  await queue.configure(name, options)
  show({ queue: name, set: options }, () => table([], [[name, 'set', ...Object.keys(options)]]))
}

async function list(queue: GopherQueue): Promise<void> {
  const limits: Omit<QueueStats, 'counts' | 'totals'>[] = []
  for await (const { counts: _, totals: __, ...one } of allQueues(queue)) limits.push(one)
  const rows = limits.map(({ queue: name, paused, maxDepth, maxRunning, maxRunningPerKey, rate: of }) => [
    ...[name, paused ? 'paused' : 'open', `${maxDepth ?? 'none'}`, `${maxRunning ?? 'none'}`, `${maxRunningPerKey}`],
    of ? rateText(of) : 'none',
  ])
  if (json) return void limits.map((one) => print(toLine(one)))
  table(['QUEUE', 'STATE', 'MAX DEPTH', 'MAX RUNNING', 'PER KEY', 'RATE'], rows)
}
