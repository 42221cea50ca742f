import { formatMs } from '../../model/duration.ts'
import { type Finding, fail, found, mebibytes, warn } from '../sqlite/finding.ts'
import type { ServerFigures } from '../stats.ts'

// What a server's figures mean, and what to type. doctor says it, and so does the health of a running process.

/** Longer than the engine keeps it by far, in ms. */
const longLock = 3000
/** Dead rows pile up behind a snapshot; after this time (ms) that is seen in what a claim costs. */
const longSnapshot = 60_000

export const judged = (figures: ServerFigures): Finding[] =>
  [standbysOf, writerOf, snapshotsOf, slotsOf, connectionsOf, sizeOf, roleOf].flatMap((judge) => judge(figures) ?? [])

/** What keeps the queue from its work, or will: how a server was set up on purpose is not among it. */
export const troublesOf = (figures: ServerFigures): Finding[] =>
  judged(figures).filter(({ name, verdict }) => verdict === 'FAIL' || (verdict === 'warn' && name !== 'standby' && name !== 'role')) // biome-ignore format: one line

function standbysOf({ standbys, standbyMissing, waitsFor }: ServerFigures): Finding | null {
  if (standbys === null) return null
  if (standbyMissing)
    return found('standby', `commits wait for ${waitsFor}, which is not there`, fail('nothing is acknowledged until it is: start it, or change synchronous_standby_names')) // biome-ignore format: one line
  if (standbys.length === 0) return found('standby', 'none')
  const each = standbys.map(({ name, sync, behindBytes }) => `${name} (${sync}${behindBytes === null ? '' : `, ${mebibytes(behindBytes)} behind`})`) // biome-ignore format: one line
  const advice = 'no commit waits for a standby: one that is promoted may lack what was acknowledged last. Set synchronous_standby_names if that matters' // biome-ignore format: one line
  return found('standby', each.join(', '), waitsFor === '' && warn(advice))
}

function writerOf({ writer }: ServerFigures): Finding {
  if (!writer) return found('writer', 'nobody writes right now')
  const { pid, name, state, address, ms, waiting } = writer
  const who = `backend ${pid} (${[name, address ?? (state === null ? null : 'on this machine'), state].filter((part) => part !== null && part !== '').join(', ')})` // biome-ignore format: one line
  const says = `${who} has the queue's lock${ms === null ? '' : `, ${formatMs(ms)} into its transaction`}; ${waiting} wait`
  const advice = `all that write to this queue wait for it; if it does not end: SELECT pg_terminate_backend(${pid})`
  return found('writer', says, Number(ms) > longLock && warn(advice))
}

function snapshotsOf({ snapshots }: ServerFigures): Finding | null {
  if (snapshots === null) return null
  const [oldest] = snapshots
  if (!oldest) return found('snapshot', 'no transaction keeps dead rows')
  const { pid, name, ms } = oldest
  const advice = `vacuum can remove no row that died since, and claims slow down; if it does not end: SELECT pg_terminate_backend(${pid})`
  return found('snapshot', `the oldest is backend ${pid} (${name}), ${formatMs(ms)} old`, ms > longSnapshot && warn(advice)) // biome-ignore format: one line
}

const slotsOf = ({ slots }: ServerFigures): Finding[] =>
  slots.map(({ name, bytes }) =>
    found(
      'slot',
      `replication slot ${name} is not used and keeps ${bytes === null ? 'dead rows' : `${mebibytes(bytes)} of WAL`}`,
      warn(`start what it is for, or: SELECT pg_drop_replication_slot('${name}')`),
    ),
  )

function connectionsOf({ connections: { ours, all, most } }: ServerFigures): Finding {
  const advice = 'new processes will not get in: use a pooler (docs/scaling.md), or raise max_connections'
  return found('connections', `${ours} of GopherQueue, ${all} of at most ${most} in all`, all > most * 0.9 && warn(advice)) // biome-ignore format: one line
}

/** Of the table where most is dead. */
function sizeOf({ tables }: ServerFigures): Finding | null {
  if (tables.length === 0) return null
  const { name, rows, dead, vacuumedAt } = tables.reduce((worst, table) => (table.dead > worst.dead ? table : worst))
  const vacuumed = vacuumedAt === null ? 'never' : new Date(vacuumedAt).toISOString()
  const size = mebibytes(tables.reduce((sum, { bytes }) => sum + bytes, 0))
  const advice = `autovacuum does not keep up: look at snapshot above, and lower autovacuum_vacuum_scale_factor of ${name}`
  return found(
    'size',
    `${size}; ${name} has about ${rows} rows and ${dead} dead ones, last vacuumed ${vacuumed}`,
    dead > 100_000 && dead > rows && warn(advice),
  )
}

const roleOf = ({ role, seesAll }: ServerFigures): Finding | null =>
  seesAll ? null : found('role', `standbys, old snapshots and what other roles do are not visible to ${role}`, warn(`GRANT pg_monitor TO ${role}`)) // biome-ignore format: one line
