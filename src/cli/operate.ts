import type { Command } from 'commander'
import { GopherQueueError } from '../model/errors.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import { action, ids } from './arguments.ts'
import { report, show, table } from './output.ts'

/** What operators do to jobs and queues. */
export function operateCommands(root: Command): void {
  eachJob(
    'retry',
    'make dead or cancelled jobs ready again, without a deadline that has passed',
    async (queue, id) => (await queue.retry(id)).state,
  )
  eachJob('cancel', 'end waiting jobs, ask running ones to stop', async (queue, id) => (await queue.cancel(id)).state)
  eachJob('rm', 'delete ended jobs and their history', (queue, id) => queue.remove(id).then(() => 'removed'))
  oneQueue('pause', 'start no more jobs of a queue; running ones go on')
  oneQueue('resume', 'let a paused queue go on')

  function eachJob(name: string, what: string, act: (queue: GopherQueue, id: number) => Promise<string>): void {
    const command = root.command(name).description(`${what}; exit status 1 if any was refused`)
    const all = async (queue: GopherQueue, wanted: number[]) => {
      for (const id of wanted)
        try {
          const state = await act(queue, id)
          show({ id, state }, () => table([], [[`${id}`, state === 'running' ? 'running (to stop)' : state]]))
        } catch (error) {
          process.exitCode = 1
          report(error)
        }
    }
    command.argument('<id...>', 'job ids', ids).action(action(all))
  }

  function oneQueue(name: 'pause' | 'resume', what: string): void {
    const command = root.command(name).description(what)
    const one = async (queue: GopherQueue, line: string, { create }: { create?: true }) => {
      if (!create && line !== 'default') await mustBeThere(queue, line)
      await queue[name](line)
      show({ queue: line, paused: name === 'pause' }, () => table([], [[line, `${name}d`]]))
    }
    command
      .argument('[queue]', 'name of the queue', 'default')
      .option('--create', 'also a queue that had no job yet')
      .action(action(one))
  }
}

/** A misspelt name would be paused with success, while the queue that was meant goes on. */
async function mustBeThere(queue: GopherQueue, line: string): Promise<void> {
  const { queues } = await queue.stats()
  if (queues.some((known) => known.queue === line)) return
  const names = queues.slice(0, 10).map((known) => `'${known.queue}'`)
  throw new GopherQueueError(
    'NOT_FOUND',
    `There is no queue '${line}'; there ${names.length > 0 ? `are ${names.join(', ')}${queues.length > 10 ? ' and others' : ''}` : 'is none yet'}. Nothing was changed: correct the name, or --create.`,
  )
}
