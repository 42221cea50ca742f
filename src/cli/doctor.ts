import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { systemClock } from '../model/clock.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { GopherQueue } from '../queue/gopherqueue.ts'
import { isPostgres } from '../queue/options.ts'
import { usualReserve } from '../store/sqlite/disk.ts'
import { examine } from '../store/sqlite/doctor.ts'
import type { Finding } from '../store/sqlite/finding.ts'
import { openToRead } from '../store/sqlite/reader.ts'
import { recount } from '../store/sqlite/repair.ts'
import { databaseOf, fileOf, whole } from './arguments.ts'
import { forPeople, paint, print, safe, show, table } from './output.ts'

export function doctorCommand(root: Command): void {
  root
    .command('doctor')
    .description(
      'look at the file, its disk and its contents, or at the PostgreSQL database and its server, and say what is not well; changes nothing, unless told to',
    )
    .option('--order', 'also prove the order of all first leases')
    .option('--repair', 'first count all dead and failing jobs anew by their causes, beside whoever works on the file')
    .option('--crash', 'also kill a process that submits, ten times, on this disk (in a file of its own), and count')
    .option('--reserve <bytes>', 'the diskReserve that your processes open the queue with', whole, usualReserve)
    .addOption(new Option('--crash-child').hideHelp())
    .addHelpText('after', '\nExit status: 0 when nothing says FAIL, else 1.')
    .action(
      async (
        flags: { order?: true; repair?: true; crash?: true; crashChild?: true; reserve: number },
        command: Command,
      ) => {
        const place = databaseOf(command)
        if (isPostgres(place)) {
          if (flags.repair || flags.crash)
            throw invalid('--repair and --crash work on an SQLite file. Nothing was done: leave them out.')
          const { examineServer } = await import('../store/postgres/doctor.ts') // and with it the driver, which others need not have
          return conclude(await examineServer(place, flags.order === true))
        }
        const file = fileOf(command)
        if (flags.crashChild) return submitForEver(file)
        if (flags.repair) recount(file, systemClock)
        const findings = examine(file, flags.reserve, flags.order === true)
        if (flags.crash) findings.push(await crash(`${resolve(file)}-crash-${process.pid}`))
        conclude(findings)
      },
    )
}

function conclude(findings: Finding[]): void {
  const failed = findings.some(({ verdict }) => verdict === 'FAIL')
  if (failed) process.exitCode = 1
  show({ ok: !failed, findings }, () => findings.forEach(tell))
}

/** A line each, never cut: what is wrong must be readable on a narrow screen too. */
function tell({ name, verdict, says, advice }: Finding): void {
  if (!forPeople) return void table([], [[verdict, name, says, advice ?? '']])
  print(`${paint(verdict)}${' '.repeat(6 - verdict.length)}${name.padEnd(12)}${safe(says)}`)
  if (advice) print(`${' '.repeat(6)}-> ${safe(advice)}`)
}

const rounds = 10

/** Submits, kills, reopens and counts on a file of its own. It shows what a kill does, not what a power cut does. */
async function crash(file: string): Promise<Finding> {
  const acknowledged = new Map<number, string>()
  const lost = new Set<number>()
  try {
    for (let round = 1; round <= rounds; round++) {
      if (forPeople) process.stderr.write(`\r\x1b[Kcrash ${round} of ${rounds}`)
      for (const [id, payload] of await submitAndKill(file)) acknowledged.set(id, payload)
      await (await GopherQueue.open(file)).close() // that is the recovery
      using db = openToRead(file)
      const found = new Map(
        db
          .prepare('SELECT id, payload FROM gq_jobs')
          .all()
          .map((row) => [row.id, row.payload]),
      )
      const sound = db.prepare('PRAGMA integrity_check').get()!.integrity_check
      if (sound !== 'ok') throw new GopherQueueError('STORAGE_CORRUPT', `after kill ${round}: ${sound}`)
      for (const [id, payload] of acknowledged) if (found.get(id) !== payload) lost.add(id)
    }
    const says = `${rounds} kills, ${acknowledged.size} jobs acknowledged, ${lost.size} lost`
    if (lost.size === 0) return { name: 'crash', verdict: 'ok', says, advice: null }
    return { name: 'crash', verdict: 'FAIL', says, advice: 'do not trust this disk with jobs; report it' }
  } catch (error) {
    return { name: 'crash', verdict: 'FAIL', says: String(error), advice: 'see what it says' }
  } finally {
    if (forPeople) process.stderr.write('\r\x1b[K')
    for (const suffix of ['', '-wal', '-shm', '-reserve']) rmSync(`${file}${suffix}`, { force: true })
  }
}

/** What a child acknowledged until it was killed, at a random moment after its first word. */
async function submitAndKill(file: string): Promise<[id: number, payload: string][]> {
  const args = [process.argv[1]!, 'doctor', '--crash-child', '--db', file]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let said = ''
  for await (const text of child.stdout.setEncoding('utf8')) {
    if (said === '') systemClock.timer(randomInt(150), () => child.kill('SIGKILL'))
    said += text
  }
  const [code, signal] = await closed
  if (signal !== 'SIGKILL')
    throw new GopherQueueError('STORAGE_UNAVAILABLE', `it ended by itself with exit code ${code}`)
  const lines = said.split('\n').slice(0, -1) // the last line may be torn
  return lines.map((line) => JSON.parse(line))
}

/** In the child: each acknowledgement is with the parent before the next submission. */
async function submitForEver(file: string): Promise<void> {
  const queue = await GopherQueue.open(file, { diskReserve: 0 })
  const chain = async (name: number) => {
    for (let n = 0; ; n++) {
      const payload = `${name}.${n}`
      const { id } = await queue.submit('crash', payload)
      print(JSON.stringify([id, JSON.stringify(payload)]))
    }
  }
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(chain))
}
