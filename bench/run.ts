// npm run bench [-- --scale 1 --repeat 3 --dir FOLDER --slow-fsync]: each workload on GopherQueue and on hand-written SQL, beside each other.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Figures, workloads } from './workloads.ts'

const { values: flags } = parseArgs({
  options: {
    scale: { type: 'string', default: '1' },
    repeat: { type: 'string', default: '1' },
    workloads: { type: 'string', default: Object.keys(workloads).join(',') },
    dir: { type: 'string', default: tmpdir() },
    /** Each fsync takes 2 ms more, as on many real disks. Needs strace. */
    'slow-fsync': { type: 'boolean', default: false },
  },
})
const systems = { raw: 'raw.ts', gopherqueue: 'adapter.js' }
type System = keyof typeof systems
type Row = Figures & { megabytes: number }

function run(system: System, workload: string): Row {
  const dir = mkdtempSync(join(flags.dir, 'bench-'))
  const command = [
    process.execPath,
    join(import.meta.dirname, 'one.ts'),
    join(import.meta.dirname, systems[system]),
    workload,
    flags.scale,
    dir,
  ]
  if (flags['slow-fsync'])
    command.unshift(
      'strace',
      '-f',
      '--seccomp-bpf',
      '-o',
      '/dev/null',
      '-e',
      'trace=fsync,fdatasync',
      '-e',
      'inject=fsync,fdatasync:delay_enter=2000',
    )
  try {
    return JSON.parse(
      execFileSync(command[0]!, command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }),
    ) as Row
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const median = (numbers: number[]) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!
const rate = (row: Row) => row.jobsPerSecond ?? 0
/** What must hold, as [workload, what, figure, least or most]. Raw rates are those of the same run. */
const rows: Record<string, Record<System, Row>> = {}
for (const workload of flags.workloads.split(',')) {
  const found: Record<System, Row[]> = { raw: [], gopherqueue: [] }
  for (let round = 0; round < Number(flags.repeat); round++)
    for (const system of ['raw', 'gopherqueue'] as const) found[system].push(run(system, workload))
  const middle = (system: System) => {
    const keys = Object.keys(found[system][0]!) as (keyof Row)[]
    return Object.fromEntries(keys.map((key) => [key, median(found[system].map((row) => row[key]!))])) as unknown as Row
  }
  rows[workload] = { raw: middle('raw'), gopherqueue: middle('gopherqueue') }
  for (const system of ['raw', 'gopherqueue'] as const)
    console.log(`${workload} ${system.padEnd(12)}${show(rows[workload][system])}`)
}

function show({ jobsPerSecond, p50, p99, ratio, megabytes }: Row): string {
  const parts = []
  if (jobsPerSecond !== undefined) parts.push(`${Math.round(jobsPerSecond).toLocaleString('en').padStart(9)} jobs/s`)
  if (p50 !== undefined) parts.push(`p50 ${p50.toFixed(2)} ms, p99 ${p99!.toFixed(2)} ms`)
  if (ratio !== undefined) parts.push(`${ratio.toFixed(2)} x the rate at 10,000`)
  return `${parts.join('   ')}   (${Math.round(megabytes)} MB)`
}

const bars: [string, string, number, (row: Record<System, Row>) => number][] = [
  ['W1', 'of raw single-row commits', 0.45, ({ gopherqueue, raw }) => rate(gopherqueue) / rate(raw)],
  ['W2', 'x raw single-row commits', 10, ({ gopherqueue, raw }) => rate(gopherqueue) / rate(rows.W1?.raw ?? raw)],
  ['W3', 'of raw transactions of 1,000', 0.5, ({ gopherqueue, raw }) => rate(gopherqueue) / rate(raw)],
  ['W4', 'of raw claim and complete by 100', 0.5, ({ gopherqueue, raw }) => rate(gopherqueue) / rate(raw)],
  ['W5', 'ms at p50', 1.5, ({ gopherqueue }) => gopherqueue.p50!],
  ['W6', 'of the rate at 10,000', 0.9, ({ gopherqueue }) => gopherqueue.ratio!],
]
console.log()
for (const [workload, what, bar, figure] of bars) {
  const row = rows[workload]
  if (!row) continue
  const value = figure(row)
  const most = workload === 'W5'
  const holds = most ? value <= bar : value >= bar
  console.log(
    `${workload}  ${value.toFixed(2)} ${what} (${most ? 'at most' : 'at least'} ${bar})  ${holds ? 'holds' : 'FALLS SHORT'}`,
  )
}
