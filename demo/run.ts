import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import { createGzip } from 'node:zlib'
import { GopherQueue, type Job } from '../src/index.ts'
import type { Digest } from './work.ts'

// One job for every file under node_modules: its SHA-256 and its size as gzip. submit.ts submits the jobs, two work.ts
// work on them. This process kills them without warning, starts them again, and in the end checks that every job was
// done, and done right.
//
//   npm run demo -- [--limit FILES] [--db FOLDER]     FOLDER is kept; without it, a temporary one is removed at the end

const { values: options } = parseArgs({ options: { limit: { type: 'string' }, db: { type: 'string' } } })
const root = join(import.meta.dirname, '..')
const files = filesUnder(join(root, 'node_modules')).slice(0, Number(options.limit ?? Number.POSITIVE_INFINITY))
const folder = options.db ?? mkdtempSync(join(tmpdir(), 'gopherqueue-demo-'))
const db = join(folder, 'demo.db')
if (options.db === undefined) process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

if (files.length < 20) refuse('--limit must be a number from 20.')
if (existsSync(db)) refuse(`${db} is there already: give another folder.`)
mkdirSync(folder, { recursive: true })

const megabytes = files.reduce((sum, path) => sum + statSync(join(root, path)).size, 0) / 1e6
say(`GopherQueue demo: SHA-256 and gzip size of ${count(files.length)} files (${count(megabytes)} MB), a job each`)
say('1 process submits, 2 work on 8 jobs at a time, one SQLite file is all they share\n')

const queue = await GopherQueue.open(db)
let submitter: ChildProcess
let stored = 0
let resubmitted = 0
let goOn: (() => void) | undefined
const begin = performance.now()

startSubmitter()
const workers = [startWorker(), startWorker()]
say(`${cell(await ended(files.length / 4))} jobs done   kill -9 one worker, start it again`)
await kill(workers[0]!)
workers[0] = startWorker()
say(`${cell(await ended((files.length * 2) / 3))} jobs done   kill -9 both workers and the submitter, start them again`)
await kill(submitter!, ...workers)
startSubmitter()
workers.splice(0, 2, startWorker(), startWorker())
say(`${cell(await ended(files.length))} jobs done   checking each result`)

const seconds = (performance.now() - begin) / 1000
await Promise.all(workers.map(stop))
const jobs = await allJobs()
const { lost, wrong } = await check(jobs)
await queue.close()

say(`
jobs         ${cell(jobs.length)}
attempts     ${cell(jobs.reduce((sum, job) => sum + job.attempt, 0))}
redelivered  ${cell(jobs.filter((job) => job.attempt > 1).length)}   cut off by a kill, done again
resubmitted  ${cell(resubmitted)}   known by their idempotency key, not stored twice
lost         ${cell(lost)}
wrong        ${cell(wrong)}
jobs/s       ${cell(jobs.length / seconds)}   in ${seconds.toFixed(1)} s, kills included
`)
const well = lost === 0 && wrong === 0 && jobs.length === files.length
say(well ? 'Every job was done, and done right.' : 'FAILED: jobs are lost, wrong, or there twice.')
process.exitCode = well ? 0 : 1

/** Waits until so many jobs have ended; meanwhile shows how many, and lets the submitter stay a quarter ahead of them. */
async function ended(enough: number): Promise<number> {
  for (;;) {
    const counts = (await queue.stats()).queues[0]?.counts
    const done = counts ? counts.succeeded + counts.dead : 0
    progress(done, 'done', counts ? `${counts.running} running, ${counts.ready} ready` : '')
    if (done >= enough) return done
    if (goOn && stored <= done + files.length / 4) {
      goOn()
      goOn = undefined
    }
    await sleep(20)
  }
}

function startSubmitter(): void {
  const child = start(new URL('./submit.ts', import.meta.url))
  child.on('message', (chunk: { stored: number; duplicates: number }) => {
    stored = chunk.stored
    resubmitted += chunk.duplicates
    goOn = () => child.send('go on')
  })
  child.send(files)
  goOn = undefined
  submitter = child
}

function startWorker(): ChildProcess {
  return start(new URL('./work.ts', import.meta.url))
}

function start(script: URL): ChildProcess {
  const child = fork(script, [db], { cwd: root })
  child.once('exit', (code) => {
    if (code) throw new Error(`${script.pathname} ended with code ${code}.`)
  })
  return child
}

async function kill(...children: ChildProcess[]): Promise<void> {
  const gone = Promise.all(children.map((child) => once(child, 'exit')))
  for (const child of children) child.kill('SIGKILL')
  await gone
}

async function stop(worker: ChildProcess): Promise<void> {
  worker.kill('SIGTERM')
  await once(worker, 'exit')
}

async function allJobs(): Promise<Job[]> {
  const jobs: Job[] = []
  let cursor: number | null = null
  do {
    const page = await queue.jobs({ limit: 1000, cursor })
    jobs.push(...page.jobs)
    cursor = page.next
  } while (cursor !== null)
  return jobs
}

/** Reads every file again, by other means than the workers, and compares. */
async function check(jobs: Job[]): Promise<{ lost: number; wrong: number }> {
  const results = new Map(jobs.map((job) => [(job.payload as { path: string }).path, job]))
  let [lost, wrong, checked] = [0, 0, 0]
  const rest = files.values() // shared by four readers
  const reader = async () => {
    for (const path of rest) {
      const job = results.get(path)
      if (job?.state !== 'succeeded') lost++
      else if (!isDeepStrictEqual(job.result, await digestOf(join(root, path)))) wrong++
      progress(++checked, 'checked', '')
    }
  }
  await Promise.all([reader(), reader(), reader(), reader()])
  return { lost, wrong }
}

async function digestOf(path: string): Promise<Digest> {
  const sha256 = createHash('sha256')
  const gzip = createReadStream(path)
    .on('data', (bytes) => sha256.update(bytes))
    .pipe(createGzip())
  let gzipBytes = 0
  for await (const part of gzip) gzipBytes += part.length
  return { sha256: sha256.digest('hex'), gzipBytes }
}

/** Paths from the root, links left out, in an order that is always the same. */
function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

/** On a terminal a line that changes in place; elsewhere nothing, so that a log stays short. */
function progress(n: number, what: string, more: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[2K${cell(n)} of ${count(files.length)} ${what}   ${more}`)
}

function say(text: string): void {
  console.log(process.stdout.isTTY ? `\r\x1b[2K${text}` : text)
}

function refuse(why: string): never {
  console.error(why)
  process.exit(2)
}

function count(n: number): string {
  return Math.round(n).toLocaleString('en')
}

function cell(n: number): string {
  return count(n).padStart(7)
}
