import type { ServerFigures, ServerStats } from '../store/store.ts'
import { escaped } from './labels.ts'

type Sample = [labels: string, value: number]
const one = (value: number | null | undefined): Sample[] => (value == null ? [] : [['', value]])
/** Names may be there twice, as those of standbys: the larger value is told, since Prometheus takes no sample twice. */
const each = <T>(label: string, all: T[], of: (one: T) => [name: string, value: number | null]): Sample[] => {
  const largest = new Map<string, number>()
  for (const [name, value] of all.map(of))
    if (value !== null) largest.set(name, Math.max(value, largest.get(name) ?? 0))
  return [...largest].map(([name, value]) => [`{${label}="${escaped(name)}"}`, value])
}

/** What the role may not see, or no look has found out, has no sample: a 0 would say that all is well. */
const families: [name: string, help: string, samples: (figures: ServerFigures) => Sample[]][] = [
  ['standbys', 'Standbys that are connected.', ({ standbys }) => one(standbys?.length)],
  ['standby_behind_bytes', 'WAL that the standby does not have on its disk yet.', ({ standbys }) => each('standby', standbys ?? [], ({ name, behindBytes }) => [name, behindBytes])],
  ['standby_missing', '1 while commits wait for a standby that is not there.', ({ standbyMissing }) => one(standbyMissing === null ? null : Number(standbyMissing))],
  ['writer_lock_seconds', "Age of the transaction that has the queue's lock; 0 if none has.", ({ writer }) => one(writer ? writer.ms && writer.ms / 1000 : 0)],
  ['writer_lock_waiting', "Backends that wait for the queue's lock.", ({ writer }) => one(writer?.waiting ?? 0)],
  ['snapshot_age_seconds', 'Age of the oldest transaction of a client that keeps dead rows; 0 if none does.', ({ snapshots }) => one(snapshots && (snapshots[0]?.ms ?? 0) / 1000)],
  ['unused_slots', 'Replication slots that nobody uses and that keep WAL or dead rows.', ({ slots }) => one(slots.length)],
  ['server_connections', 'Connections of clients to the server, all of them.', ({ connections }) => one(connections.all)],
  ['server_connections_max', 'Most that it takes.', ({ connections }) => one(connections.most)],
  ['table_bytes', "The queue's tables, each with its indexes.", ({ tables }) => each('table', tables, ({ name, bytes }) => [name, bytes])],
  ['table_rows', 'Living rows, as the server estimates them.', ({ tables }) => each('table', tables, ({ name, rows }) => [name, rows])],
  ['table_dead_rows', 'Dead rows that vacuum has not removed yet, as the server estimates them.', ({ tables }) => each('table', tables, ({ name, dead }) => [name, dead])],
] // biome-ignore format: a table

/** How a PostgreSQL server is, in the text format of Prometheus. */
export function serverText({ figures }: ServerStats): string {
  const seen: Sample[] = [['{what="server"}', Number(figures !== null)]]
  if (figures) seen.push(['{what="others"}', Number(figures.seesAll)])
  return [
    [
      'server_visible',
      '0 of the server: the last look at it failed. 0 of others: what other roles do is not visible without pg_monitor.',
      seen,
    ] as const,
    ...families.map(([name, help, samples]) => [name, help, figures ? samples(figures) : []] as const),
  ]
    .map(([name, help, samples]) => {
      const full = `gopherqueue_${name}`
      return `# HELP ${full} ${help}\n# TYPE ${full} gauge\n${samples.map(([labels, value]) => `${full}${labels} ${value}\n`).join('')}`
    })
    .join('\n')
}
