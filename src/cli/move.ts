import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { formatMs, toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { isPostgres } from '../queue/options.ts'
import type { Progress } from '../store/postgres/move.ts'
import { who } from './arguments.ts'
import { forPeople, print, safe, show, table } from './output.ts'

const help = `
The file is sealed first: submissions are refused with MOVED and the new address, and no job starts. Jobs that run may
end within --grace; what runs then goes back, uncharged. Then all is copied and proved by digests. Stopped at any
moment, the same command goes on with it. --abort makes a queue of the file again, until the new place was written to.
The password may be in PGPASSWORD instead of the URL, which other users of the machine can see.`

/** From one file to a PostgreSQL database. */
export function moveCommand(root: Command): void {
  root
    .command('move')
    .description('move the queue of a file to a PostgreSQL database, with ids, history, schedules, keys and tokens')
    .requiredOption('--from <file>', 'the file that it is in')
    .requiredOption('--to <url>', 'postgres://user@host/database?schema=gopherqueue, where no queue is yet')
    .option('--grace <duration>', 'how long jobs that run may go on', '30s')
    .option('--abort', 'end a move: delete what was copied, and make a queue of the file again')
    .addHelpText('after', help)
    .action(run)
}

type Choice = { from: string; to: string; grace: string; abort?: true }

async function run({ from, to, grace, abort }: Choice): Promise<void> {
  if (isPostgres(from) || from.includes('://')) throw invalid('--from takes the file of a queue.')
  if (!isPostgres(to)) throw invalid('--to takes the URL of a PostgreSQL database, postgres://user@host/database.')
  const { tell, end } = teller()
  const options = { grace: toMs(grace, '--grace'), who: who(), tell }
  const { move, abortMove } = await import('../store/postgres/move.ts')
  if (abort) {
    await abortMove(from, to, who())
    show({ from, aborted: true }, () => print(`${safe(from)} is a queue again. Restart what has found it moved.`))
    return
  }
  const began = systemClock.monotonic()
  const moved = await move(from, to, options).finally(end)
  const ms = Math.round(systemClock.monotonic() - began)
  show({ ...moved, ms }, () => {
    if (moved.again) return print(`${safe(from)} has moved to ${safe(moved.to)} before.`)
    table(['TABLE', 'ROWS', 'DIGEST'], moved.tables.map(({ table, rows, digest }) => [table, `${rows}`, digest]), 'table') // biome-ignore format: one line
    if (forPeople) print(`All of ${safe(from)} is at ${safe(moved.to)}, after ${formatMs(ms)}. Open it there.`)
  })
}

/** On a terminal, one line that is written over. */
function teller(): { tell: (progress: Progress) => void; end: () => void } {
  if (!process.stderr.isTTY) return { tell: () => undefined, end: () => undefined }
  let told = 0
  const write = (line: string) => process.stderr.write(`\r\x1b[K${line}`)
  const tell = (progress: Progress) => {
    const now = systemClock.monotonic()
    if (now - told < 100) return
    told = now
    write(lineOf(progress))
  }
  return { tell, end: () => void write('') }
}

function lineOf(progress: Progress): string {
  if (progress.step === 'waiting') return `waiting for ${progress.jobs} jobs that run`
  if (progress.step === 'verifying') return `comparing ${progress.table}`
  const { table, rows, of } = progress
  return `copying ${table}: ${rows} of ${of} (${Math.floor((rows / Math.max(1, of)) * 100)} %)`
}
