import type { Command } from 'commander'
import { wholeNumber } from '../model/job.ts'
import type { AuditEntry, AuditPage, Store } from '../store/store.ts'
import { past, storeToLook, whole } from './arguments.ts'
import { forPeople, json, print, table, toLine, when } from './output.ts'

/** What operators did. */
export function auditCommand(root: Command): void {
  root
    .command('audit')
    .description('show what operators did, newest first: who, when, to what, and what was there before')
    .option('--limit <n>', 'most entries shown', whole, 100)
    .option('--since <when>', 'a duration back, such as 7d, or a date', past, 0)
    .option('--who <who>', 'of this one alone, such as token:shop-web')
    .action(audit)
}

async function audit({ limit, since, who }: Asked, command: Command): Promise<void> {
  wholeNumber(limit, 1, Number.MAX_SAFE_INTEGER, 'limit')
  await using store = await storeToLook(command)
  const found: AuditEntry[] = []
  for await (const entry of entries(store)) {
    if (entry.at < since || found.length >= limit) break
    if (who === undefined || who === entry.who) found.push(entry)
  }
  if (json) return void found.map((entry) => print(toLine(entry)))
  const rows = found.map(({ at, who, action, target, details }) => [when(at), who, action, target, JSON.stringify(details)]) // biome-ignore format: one line
  table(['WHEN', 'WHO', 'ACTION', 'TARGET', 'DETAILS'], rows)
  if (found.length >= limit && forPeople) print('\nMore: --limit')
}

type Asked = { limit: number; since: number; who?: string }

/** All of the log, page by page. */
async function* entries(store: Store): AsyncGenerator<AuditEntry> {
  for (let cursor: number | null | undefined; cursor !== null; ) {
    const page: AuditPage = await store.call('auditLog', { limit: 1000, ...(cursor !== undefined && { cursor }) })
    yield* page.entries
    cursor = page.next
  }
}
