import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import { GopherQueueError, invalid, isQueueError } from '../model/errors.ts'
import { shown } from '../model/text.ts'
import { auditCommand } from './audit.ts'
import { causeCommands } from './causes.ts'
import { doctorCommand } from './doctor.ts'
import { helpCommands } from './help.ts'
import { inspectCommands } from './inspect.ts'
import { maintainCommands } from './maintain.ts'
import { moveCommand } from './move.ts'
import { operateCommands } from './operate.ts'
import { errorsOf, report, show, table } from './output.ts'
import { queueCommand } from './queue.ts'
import { recoverCommands } from './recover.ts'
import { scheduleCommand } from './schedule.ts'
import { serveCommand } from './serve.ts'
import { submitCommand } from './submit.ts'
import { tokenCommand } from './token.ts'
import { topCommand } from './top.ts'
import { typesCommand } from './types.ts'
import { workCommand } from './work.ts'

/** Runs the command line. The exit code is left in process.exitCode: 0 ok, 1 failed, 2 usage, 130 interrupted. */
export async function main(): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exitCode = 1
    if (error.code !== 'EPIPE') report(error) // a reader that went away, such as `head`, is no news
  })
  process.stderr.on('error', () => {
    process.exitCode = 1 // nobody is left to tell, but a worker goes on
  })
  try {
    mustBeText(process.argv.slice(2))
    await program().parseAsync()
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return // help or the version was asked for
    const failures = errorsOf(error).map((one) => (one instanceof CommanderError ? usage(one) : one))
    failures.forEach(report)
    const isInterrupted = failures.some((one) => (one as { code?: string }).code === 'INTERRUPTED')
    const isUsage = failures.every((one) => isQueueError(one) && one.code === 'INVALID_ARGUMENT')
    process.exitCode = isInterrupted ? 130 : isUsage ? 2 : 1
  }
}

/** Node reads bytes that are not UTF-8 as U+FFFD: two keys that differ there would be one, and the second job a duplicate. */
function mustBeText(args: string[]): void {
  const garbled = args.find((arg) => arg.includes('\uFFFD'))
  if (garbled !== undefined)
    throw invalid(
      `The argument ${shown(garbled)} has bytes that are not UTF-8, so nothing was done: write it in UTF-8.`,
    )
}

function usage({ code, message }: CommanderError): GopherQueueError {
  const what = code === 'commander.help' ? 'Name a command.' : message.replace(/^error: /, '').replaceAll('\n', ' ')
  return new GopherQueueError('INVALID_ARGUMENT', `${what} (see --help)`)
}

function program(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  const root = new Command('gopherqueue')
    .description('Background jobs that are never lost: one SQLite file, no broker to operate.')
    .addOption(new Option('--db <file>', "the queue's file, or its database as postgres://...").env('GOPHERQUEUE_DB'))
    .addOption(
      new Option('--url <url>', 'its server, in place of a file; GOPHERQUEUE_TOKEN is sent along').env(
        'GOPHERQUEUE_URL',
      ),
    )
    .option('--json', 'JSON on stdout: one document, or for lists one a line (NDJSON); errors as JSON on stderr')
    .version(version)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => undefined, writeErr: () => undefined }) // `main` reports in its own form
    .exitOverride()
    .addHelpText(
      'after',
      '\nA terminal gets tables, a pipe tab-separated rows. Exit status: 0 ok, 1 failed, 2 usage, 130 interrupted.',
    )
  const groups = [
    submitCommand,
    workCommand,
    serveCommand,
    topCommand,
    typesCommand,
    tokenCommand,
    auditCommand,
    inspectCommands,
    causeCommands,
    operateCommands,
    queueCommand,
    doctorCommand,
    recoverCommands,
    scheduleCommand,
    maintainCommands,
    moveCommand,
    helpCommands,
  ]
  for (const add of groups) add(root)
  root
    .command('version')
    .description('show the versions of GopherQueue, Node and SQLite')
    .action(() => {
      const { node, sqlite = 'none' } = process.versions
      const versions: Record<string, string> = { gopherqueue: version, node, sqlite }
      show(versions, () => table(Object.keys(versions), [Object.values(versions)]))
    })
  return root
}
