import { setFlagsFromString } from 'node:v8'
import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import { ownStore } from '../queue/place.ts'
import { listen } from '../queue/signals.ts'
import { withoutPassword } from '../store/postgres/place.ts'
import { databaseOf, whole } from './arguments.ts'

export function serveCommand(root: Command): void {
  root
    .command('serve')
    .description('serve the file over HTTP, to submitters and workers on this and other machines')
    .option('--host <address>', 'where to listen; other than loopback it takes a token first', '127.0.0.1')
    .option('--port <n>', '0 takes a free one', whole, 7420)
    .option('--public-url <url>', 'where a reverse proxy makes it known, such as https://example.org/jobs')
    .option('--tls-cert <file>', 'PEM; serve HTTPS. SIGHUP reads both files again')
    .option('--tls-key <file>', 'PEM')
    .option(
      '--log-level <level>',
      'fatal, error, warn, info, debug, trace or silent; a JSON line each on stdout',
      'info',
    )
    .addHelpText('after', '\nUntil SIGTERM or SIGINT; then what waits is answered, and what was begun is finished.')
    .action(serveFile)
  root
    .command('dashboard')
    .description("serve the file's dashboard, and its API, to this machine")
    .option('--port <n>', 'default: a free one', whole, 0)
    .addHelpText('after', "\nUntil SIGTERM or SIGINT. 'serve' has it too, at / .")
    .action((flags: { port: number }, command: Command) =>
      serveFile({ ...flags, host: '127.0.0.1', logLevel: 'silent' }, command),
    )
}

/** V8 collects garbage when the heap has grown by 30 %: as it is, a burst of large bodies leaves several times their size. */
const heapGrowth = '--heap-growing-percent=30'

/** How long to stop may take, in ms. */
const grace = 30_000

type Flags = { host: string; port: number; logLevel: string; tlsCert?: string; tlsKey?: string; publicUrl?: string }

async function serveFile({ tlsCert, tlsKey, ...flags }: Flags, command: Command): Promise<void> {
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new GopherQueueError('INVALID_ARGUMENT', '--tls-cert and --tls-key go together. Nothing was started.')
  const tls = tlsCert !== undefined && tlsKey !== undefined && { cert: tlsCert, key: tlsKey }
  setFlagsFromString(heapGrowth)
  const { serve } = await import('../server/server.ts') // no other command needs what it brings along
  const hurry = (why: string) => {
    process.stderr.write(
      `${why}: it ends at once. What was acknowledged is on disk; running jobs go on when it is back.\n`,
    )
    process.exit(1)
  }
  const asked = new Promise((resolve) => {
    listen(['SIGTERM', 'SIGINT'], resolve, () => hurry('Asked twice to stop'))
  })
  const place = databaseOf(command)
  const version = command.parent!.version()!
  const store = await ownStore(place, { tends: true })
  const server = await serve(store, { ...flags, version, ...(tls && { tls }) }).catch(async (error) => {
    await store.close()
    throw error
  })
  if (tls) process.on('SIGHUP', () => server.reload()) // else it ends the process, as usual when a terminal goes
  // With a log on stdout, each line there is of the log.
  const known = flags.publicUrl === undefined ? '' : `, known as ${flags.publicUrl}`
  const out = flags.logLevel === 'silent' ? process.stdout : process.stderr
  out.write(`serving ${withoutPassword(place)} at ${server.url}${known}\n\n`)
  await asked
  systemClock.timer(grace, () => hurry(`Not done after ${grace / 1000} s`))
  await server.close()
  process.stdout.write('', () => process.exit()) // once the log is out: a timer or a socket that stays would hold the process
}
