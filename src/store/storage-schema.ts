import { type TSchema, Type } from 'typebox'

// JSON Schemas of what lies under a queue, see stats.ts.

const { Array: list, Boolean: bool, Integer: int, Number: number, Object: object, String: string } = Type
const maybe = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const text = maybe(string())
const instant = int({ description: 'Unix ms' })

export const FileStats = object({
  path: string({ description: 'On the machine of the server' }),
  ...{ bytes: int(), freeBytes: int(), walBytes: int() },
  ...{ shrinks: bool(), reserveBytes: int(), diskFreeBytes: int(), backupAt: maybe(instant) },
})

const Figures = object(
  {
    role: string(),
    seesAll: bool({ description: 'false: it lacks pg_monitor, and what it may not see is null' }),
    waitsFor: string({ description: 'synchronous_standby_names' }),
    standbys: maybe(list(object({ name: string(), sync: string(), behindBytes: maybe(number()) }))),
    standbyMissing: maybe(bool({ description: 'Commits wait for one that is not there' })),
    writer: maybe(object({ pid: int(), name: text, address: text, state: text, ms: maybe(number()), waiting: int() })),
    snapshots: maybe(list(object({ pid: int(), name: string(), ms: number() }))),
    slots: list(object({ name: string(), bytes: maybe(number()) })),
    connections: object({ ours: int(), all: int(), most: int() }),
    tables: list(
      object({ name: string(), bytes: number(), rows: number(), dead: number(), vacuumedAt: maybe(instant) }),
    ),
  },
  { title: 'ServerFigures', description: 'What a PostgreSQL server says of itself and of the tables of the queue' },
)
export const ServerStats = object({
  at: instant,
  problem: maybe(string({ description: 'Why the look found nothing out' })),
  figures: maybe(Figures),
})
