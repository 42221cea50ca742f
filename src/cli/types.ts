import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { formatMs, toMs } from '../model/duration.ts'
import type { Durations } from '../model/hours.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import { look } from './arguments.ts'
import { forPeople, print, show, table, when } from './output.ts'

/** What happened, by type. */
export function typesCommand(root: Command): void {
  root
    .command('types')
    .description('show what happened to the jobs of each type, in whole hours of the last 8 days')
    .option('--since <duration>', 'how far back, such as 1h or 7d', '24h')
    .option('--type <type>', 'of this type alone')
    .action(look(types))
}

async function types(queue: GopherQueue, { since, type }: { since: string; type?: string }): Promise<void> {
  const from = systemClock.now() - toMs(since, '--since')
  const report = await queue.types({ since: Math.max(0, from), ...(type !== undefined && { type }) })
  show(report, () => {
    const rows = report.types.map(({ type: name, submitted, succeeded, failed, retried, dead, wait, run }) => [
      [name === '' ? '(others)' : name],
      [submitted, succeeded, failed, retried, dead].map(String),
      [...times(run), ...times(wait)],
    ])
    const heads = [['TYPE'], ['SUBMITTED', 'SUCCEEDED', 'FAILED', 'RETRIED', 'DEAD'], ['RUN P50', 'P95', 'MAX', 'WAIT P50', 'P95', 'MAX']] // biome-ignore format: long
    const parts = forPeople && (process.stdout.columns || 80) < wideEnough ? [[0, 1], [0, 2]] : [[0, 1, 2]] // biome-ignore format: short
    for (const [i, part] of parts.entries()) {
      if (i > 0) print('')
      const of = (row: string[][]) => part.flatMap((x) => row[x]!)
      table(of(heads), rows.map(of)) // biome-ignore format: short
    }
    if (forPeople) print(`\nSince ${when(report.since, true)}. p50 and p95 are estimates; all else is exact.`)
  })
}

/** For all in one table, with names of some length. */
const wideEnough = 120

const times = ({ p50, p95, max }: Durations): string[] =>
  [p50, p95, max].map((ms) => (ms === null ? '-' : formatMs(ms)))
