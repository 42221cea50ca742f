import type { Report } from './api.ts'
import type { Patience } from './client.ts'

/** What a report waits for: it goes with all others of the same turn. */
export interface Pending {
  report: Report
  patience: Patience
  resolve(answer: never): void
  reject(error: unknown): void
}

/**
 * Bytes from which reports are divided over several requests: in one they may be more than a server takes (65 MiB, or
 * 10,000 reports, which have more bytes than this), or than a slow network carries before the answer counts as lost.
 */
const partBytes = 512 * 1024

export function divided(reports: Pending[]): Pending[][] {
  const parts: Pending[][] = []
  let left = 0
  for (const one of reports) {
    const bytes = Buffer.byteLength(JSON.stringify(one.report))
    left -= bytes
    if (left >= 0) parts.at(-1)!.push(one)
    else {
      parts.push([one])
      left = partBytes - bytes
    }
  }
  return parts
}
