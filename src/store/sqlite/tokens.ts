import { GopherQueueError } from '../../model/errors.ts'
import type { Scope } from '../../model/token.ts'
import type { AuditEntry, AuditPage, NewToken, Token } from '../store.ts'
import { countWithin } from './budget.ts'
import type { Db } from './db.ts'

// Who may call a server on this file, and what its operators did.

/** All of them, also revoked ones, by age. */
export function tokens(db: Db): Token[] {
  const rows = db.all<Omit<Token, 'scopes'> & { scopes: string }>(
    `SELECT name, scopes, hash, created_at AS createdAt, last_used_at AS lastUsedAt, revoked_at AS revokedAt,
            expires_at AS expiresAt
     FROM gq_tokens
     ORDER BY id`,
  )
  return rows.map(({ scopes, ...token }) => ({ ...token, scopes: scopes.split(' ') as Scope[] }))
}

/** A name is used once, so that the audit log says who it was for ever. Refuses with INVALID_STATE. */
export function createToken(db: Db, { name, scopes, hash, expiresAt = null }: NewToken): null {
  const made = db.run(
    `INSERT INTO gq_tokens (name, scopes, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO NOTHING`,
    ...[name, scopes.join(' '), hash, db.now, expiresAt],
  )
  if (made === 1) return null
  throw new GopherQueueError(
    'INVALID_STATE',
    `There is or was a token '${name}', and names are not used again. Nothing was made: choose another.`,
  )
}

/** For ever; a second time changes nothing. Refuses with NOT_FOUND. */
export function revokeToken(db: Db, name: string): null {
  if (db.run(`UPDATE gq_tokens SET revoked_at = COALESCE(revoked_at, ?2) WHERE name = ?1`, name, db.now) === 1)
    return null
  throw new GopherQueueError('NOT_FOUND', `There is no token '${name}'. Nothing was changed: see 'token list'.`)
}

export function tokenUsed(db: Db, name: string): null {
  db.run(`UPDATE gq_tokens SET last_used_at = ?2 WHERE name = ?1`, name, db.now)
  return null
}

/** Characters of details in one page. */
const mostDetails = 1024 * 1024

/** Newest first. A page may be short: go on until `next` is null. */
export function auditLog(db: Db, { limit = 100, cursor }: { limit?: number; cursor?: number | null }): AuditPage {
  const found = db.all<Omit<AuditEntry, 'details'> & { details: string | null }>(
    `SELECT id, at, who, action, target, details FROM gq_audit WHERE id < ?1 ORDER BY id DESC LIMIT +?2`,
    ...[cursor ?? Number.MAX_SAFE_INTEGER, limit],
  )
  const rows = found.slice(0, countWithin(found.map(({ details }) => details?.length ?? 0), mostDetails)) // biome-ignore format: one line
  const entries = rows.map(({ details, ...entry }) => ({ ...entry, details: details === null ? null : JSON.parse(details) })) // biome-ignore format: long
  return { entries, next: rows.length < found.length || found.length === limit ? rows.at(-1)!.id : null }
}
