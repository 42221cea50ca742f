import { statSync } from 'node:fs'
import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { backup } from '../store/sqlite/backup.ts'
import { note } from '../store/sqlite/record.ts'
import { planRecovery } from '../store/sqlite/recover.ts'
import { restore } from '../store/sqlite/restore.ts'
import { type Salvage, salvage } from '../store/sqlite/salvage.ts'
import { fileOf, who } from './arguments.ts'
import { forPeople, print, safe, show, table } from './output.ts'

/** What to do before and after the file is damaged. */
export function recoverCommands(root: Command): void {
  root
    .command('backup')
    .description('write the whole queue, as of one instant, into a new file; everything else goes on meanwhile')
    .argument('<file>', 'the file to make')
    .option('--force', 'replace a file that is there')
    .addHelpText('after', "\n'gopherqueue restore FILE' puts it in the place of the queue's file.")
    .action((file: string, { force }: { force?: true }, command: Command) => {
      backup(fileOf(command), file, force === true)
      const { size } = statSync(file)
      tellFile(fileOf(command), file, size)
      show({ file, bytes: size }, () => print(forPeople ? `${safe(file)} is whole and on disk (${size} bytes).` : file))
    })
  root
    .command('restore')
    .description("put a copy of a backup in the place of the queue's file; what is there is kept under another name")
    .argument('<backup>', 'the backup; it stays as it is')
    .addHelpText('after', '\nStop all processes of the queue first: it refuses while any has the file open.')
    .action((backup: string, _: unknown, command: Command) => {
      const restored = restore(backup, fileOf(command), who())
      const { file, kept, jobs } = restored
      const before = kept === null ? '' : ` What was there is ${safe(kept)}.`
      show({ from: backup, ...restored }, () =>
        print(
          forPeople
            ? `${safe(file)} is the backup now, with ${jobs} jobs.${before}`
            : `${file}\t${jobs}\t${kept ?? ''}`,
        ),
      )
    })
  root
    .command('recover')
    .description('say what becomes of running jobs whose worker is gone, or salvage a damaged file into a new one')
    .option('--plan', 'list each orphan and its fate; changes nothing (opening the queue is the recovery)')
    .option('--into <file>', 'read all that can be read of the damaged file into this new one, and list what cannot')
    .addHelpText(
      'after',
      '\nStop all processes of the queue before --into. Exit status with it: 1 if anything is lost.',
    )
    .action(({ plan, into }: { plan?: true; into?: string }, command: Command) => {
      if ((plan === undefined) === (into === undefined)) command.error('Name one of --plan and --into NEW.')
      if (into === undefined) showPlan(fileOf(command))
      else tell(salvage(fileOf(command), into, systemClock), into)
    })
}

/** The backup is there, whatever becomes of this. */
function tellFile(path: string, file: string, bytes: number): void {
  try {
    note(path, { who: who(), action: 'backup', target: file, details: { bytes } }, systemClock.now())
  } catch (error) {
    process.stderr.write(
      `gopherqueue: ${safe(file)} is made, but ${safe(path)} does not say so: ${safe((error as Error).message)}\n`,
    )
  }
}

function showPlan(file: string): void {
  const orphans = planRecovery(file, systemClock)
  show(orphans, () => {
    const rows = orphans.map(({ id, type, queue, attempt, maxAttempts, why, fate: { state, reason, runAt } }) => {
      const next = state === 'ready' ? `ready for attempt ${attempt + 1} of ${maxAttempts}` : state
      const fate = `${next}${reason ? ` (${reason})` : ''}${runAt === null ? '' : ` until ${new Date(runAt).toISOString()}`}`
      return [`${id}`, type, queue, `${attempt}/${maxAttempts}`, fate, why]
    })
    table(['ID', 'TYPE', 'QUEUE', 'TRIES', 'FATE', 'WHY'], rows)
  })
}

function tell(report: Salvage, into: string): void {
  const { saved, lostJobs, unreadable, lostRows, refused, damage } = report
  const lost = [lostJobs, unreadable, lostRows, refused].some((list) => list.length > 0)
  if (lost) process.exitCode = 1
  show({ into, ...report }, () => {
    const told = {
      saved: Object.entries(saved).map(([name, rows]) => `${rows} rows of ${name}`),
      lost: [...lostJobs.map((id) => `job ${id}`), ...lostRows],
      unread: unreadable.map(([first, last]) => `ids ${first} to ${last}: there may be more jobs`),
      refused,
      damage,
    }
    for (const [kind, lines] of Object.entries(told))
      for (const line of lines) print(`${forPeople ? kind.padEnd(9) : `${kind}\t`}${safe(line)}`)
    if (forPeople)
      print(`\n${safe(into)} is whole and on disk${lost ? ', without what is listed above' : ': nothing is lost'}.`)
  })
}
