import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { planRecovery } from '../store/sqlite/recover.ts'
import { type Salvage, salvage } from '../store/sqlite/salvage.ts'
import { fileOf } from './arguments.ts'
import { forPeople, print, safe, show, table } from './output.ts'

export function recoverCommand(root: Command): void {
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

function showPlan(file: string): void {
  const orphans = planRecovery(file, systemClock)
  show(orphans, () => {
    const rows = orphans.map(({ id, type, queue, attempt, maxAttempts, why, fate }) => {
      const next = fate.state === 'ready' ? `ready for attempt ${attempt + 1} of ${maxAttempts}` : fate.state
      const at = fate.runAt === null ? '' : ` until ${new Date(fate.runAt).toISOString()}`
      return [
        `${id}`,
        type,
        queue,
        `${attempt}/${maxAttempts}`,
        `${next}${fate.reason ? ` (${fate.reason})` : ''}${at}`,
        why,
      ]
    })
    table(['ID', 'TYPE', 'QUEUE', 'TRIES', 'FATE', 'WHY'], rows)
  })
}

function tell(report: Salvage, into: string): void {
  const { saved, lostJobs, unreadable, lostRows, refused, damage } = report
  const lost = [lostJobs, unreadable, lostRows, refused].some((list) => list.length > 0)
  if (lost) process.exitCode = 1
  show({ into, ...report }, () => {
    const rows: [string, string][] = Object.entries(saved).map(([name, rows]) => ['saved', `${rows} rows of ${name}`])
    rows.push(...lostJobs.map((id): [string, string] => ['lost', `job ${id}`]))
    rows.push(...lostRows.map((what): [string, string] => ['lost', what]))
    rows.push(...unreadable.map(([a, b]): [string, string] => ['unread', `ids ${a} to ${b}: there may be more jobs`]))
    rows.push(...refused.map((what): [string, string] => ['refused', what]))
    rows.push(...damage.map((what): [string, string] => ['damage', what]))
    for (const [kind, what] of rows) forPeople ? print(`${kind.padEnd(9)}${safe(what)}`) : table([], [[kind, what]])
    if (forPeople)
      print(`\n${safe(into)} is whole and on disk${lost ? ', without what is listed above' : ': nothing is lost'}.`)
  })
}
