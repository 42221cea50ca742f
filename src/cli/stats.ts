import type { Command } from 'commander'
import { formatMs } from '../model/duration.ts'
import { states } from '../model/lifecycle.ts'
import { action } from './arguments.ts'
import { forPeople, print, safe, show, table, when } from './output.ts'

export function statsCommand(root: Command): void {
  const command = root.command('stats').description('show health, queues, workers, and types that no worker handles')
  command.action(
    action(async (queue) => {
      const [stats, { status, causes }] = await Promise.all([queue.stats(), queue.health()])
      show({ ...stats, health: { status, causes } }, () => {
        const oldest = stats.oldestReadyMs === null ? 'none' : formatMs(stats.oldestReadyMs)
        table(['STATE', 'OLDEST READY'], [[status, oldest]], 'health')
        for (const { code, message } of causes)
          if (forPeople) print(`${safe(`${code}: ${message}`)}\n`)
          else table([], [[code, message]], 'cause')
        const { bytes, freeBytes, walBytes } = stats.file ?? { bytes: 0, freeBytes: 0, walBytes: 0 }
        table(['FILE BYTES', 'FREE IN IT', 'WAL BYTES'], [[`${bytes}`, `${freeBytes}`, `${walBytes}`]], 'file')
        const queueRows = stats.queues.map(({ queue: name, paused, maxDepth, maxRunning, counts }) => [
          ...[name, paused ? 'paused' : 'open', `${maxDepth ?? 'none'}`, `${maxRunning ?? 'none'}`],
          ...states.map((state) => `${counts[state]}`),
        ])
        table(['QUEUE', 'STATE', 'LIMIT', 'AT ONCE', ...states.map((state) => state.toUpperCase())], queueRows, 'queue')
        const workerRows = stats.workers.map(({ name, alive, host, pid, running, slots, startedAt, sources }) => [
          ...[name, alive ? 'alive' : 'gone', host, `${pid ?? 'none'}`, `${running}/${slots}`, when(startedAt)],
          sources.map((source) => `${source.queue}:${source.type}`).join(' '),
        ])
        table(['WORKER', 'STATE', 'HOST', 'PID', 'BUSY', 'STARTED', 'HANDLES'], workerRows, 'worker')
        const unhandledRows = stats.unhandled.map(({ queue: name, type }) => [type, name])
        table(['UNHANDLED TYPE', 'QUEUE'], unhandledRows, 'unhandled')
      })
    }),
  )
}
