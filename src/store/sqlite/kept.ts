import type { Db } from './db.ts'

// Answers that may have been lost, on the network or because a COMMIT that was reported as failed took place: kept for who
// asks again. Each kind has names of its own, or a bulk could be answered with a worker's id.

type Kind = 'bulk' | 'worker' | 'report'

/** How long who asks again is answered as the first time. */
export const answersKept = 3_600_000

/** What a request was answered, and the digest of what it asked for; undefined when that is not known. */
export function keptAnswer<Answer>(
  db: Db,
  kind: Kind,
  name: string,
): { answer: Answer; digest: string | null } | undefined {
  const sql = `SELECT answer, digest FROM gq_requests WHERE request = ?1`
  const kept = db.get<{ answer: string; digest: string | null }>(sql, `${kind} ${name}`)
  return kept && { ...kept, answer: JSON.parse(kept.answer) as Answer }
}

/** The first answer under a name stays. */
export function keepAnswer(db: Db, kind: Kind, name: string, answer: unknown, digest: string | null = null): void {
  db.later(
    `INSERT INTO gq_requests (request, answer, digest, expires_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`,
    ...[`${kind} ${name}`, JSON.stringify(answer), digest, db.now + answersKept],
  )
}
