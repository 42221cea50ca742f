import { type Happened, hourMs, hoursKept, unpacked } from '../../model/hours.ts'
import type { Input, Output } from '../store.ts'
import type { Db } from './db.ts'
import { mostTypes } from './happened.ts'

/** Rows of one answer, after which its hour is the last. */
const rowsPerPage = 1000

type Row = [submitted: number, succeeded: number, failed: number, retried: number, dead: number, waits: string, runs: string, number, number] // biome-ignore format: long
const columns = 'submitted, succeeded, failed, retried, dead, waits, runs, wait_max, run_max'

function fromRow(row: unknown[]): Happened {
  const [submitted, succeeded, failed, retried, dead, waits, runs, waitMax, runMax] = row as Row
  return {
    submitted,
    succeeded,
    failed,
    retried,
    dead,
    waits: { counts: unpacked(waits), max: waitMax },
    runs: { counts: unpacked(runs), max: runMax },
  }
}

/** The hours from `since` on, the earliest first: whole hours, as many as one answer carries. */
export function hours(db: Db, { since, until, type }: Input<'hours'>): Output<'hours'> {
  const from = Math.max(Math.floor(since / hourMs), Math.floor((db.now - hoursKept) / hourMs))
  const to = Math.floor((until ?? db.now) / hourMs)
  const rows = db.arrays(
    `SELECT hour, type, ${columns} FROM gq_hours WHERE hour BETWEEN ?1 AND ?2 AND (CAST(?3 AS TEXT) IS NULL OR type = ?3)
     ORDER BY hour LIMIT ${rowsPerPage + mostTypes + 1}`,
    ...[from, to, type ?? null],
  )
  const last = rows[rowsPerPage]?.[0] as number | undefined
  const page = last === undefined ? rows : rows.filter(([hour]) => (hour as number) <= last)
  const next = last !== undefined && last < to ? (last + 1) * hourMs : null
  return { hours: page.map(([hour, name, ...row]) => ({ at: (hour as number) * hourMs, type: name as string, ...fromRow(row) })), next } // biome-ignore format: long
}
