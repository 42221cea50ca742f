import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { Scope } from '../model/token.ts'
import type { Store, Token } from '../store/store.ts'

/** How soon a token that another process made or revoked counts, in ms. */
const fresh = 1000
/** How often its last use is written down, in ms. */
const usedEvery = 60_000

/** 256 random bits: nobody guesses them however fast the hash is, so it needs neither salt nor a slow function. */
export function makeToken(): { token: string; hash: string } {
  const token = `gq_${randomBytes(32).toString('base64url')}`
  return { token, hash: hashOf(token).toString('hex') }
}

const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest()

/** Of who was not let in: no part of the token itself. */
export interface RefusedToken {
  why: 'no token' | 'not known' | 'revoked' | 'expired' | 'scope'
  /** Its name, where it is known. */
  token?: string
  /** The client's address. */
  from: string
}

/** The file's tokens, and what each allows. */
export class Tokens {
  readonly #store: Store
  readonly #clock: Clock
  readonly #tell: (refused: RefusedToken) => void
  #known: { token: Token; hash: Buffer }[] = []
  #readAt = Number.NEGATIVE_INFINITY
  #reading: Promise<void> | undefined

  /** `tell` hears of each that is refused. */
  constructor(store: Store, clock: Clock, tell: (refused: RefusedToken) => void = () => undefined) {
    this.#store = store
    this.#clock = clock
    this.#tell = tell
  }

  /** None was ever made: whoever can reach the server may do all. Those that were revoked keep it closed. */
  get none(): boolean {
    return this.#known.length === 0
  }

  /** Throws what the store throws. */
  async read(): Promise<void> {
    const at = this.#clock.monotonic()
    const tokens = await this.#store.call('tokens', null)
    this.#known = tokens.map((token) => ({ token, hash: Buffer.from(token.hash, 'hex') }))
    this.#readAt = at
  }

  /**
   * Who calls with this header, from that address. Throws UNAUTHORIZED, or FORBIDDEN when none of these scopes is the token's.
   */
  async check(header: string | undefined, sufficient: readonly Scope[], from = ''): Promise<string> {
    if (this.#clock.monotonic() - this.#readAt >= fresh) {
      this.#reading ??= this.read().finally(() => {
        this.#reading = undefined
      })
      await this.#reading.catch(() => undefined) // storage is in trouble: those known last still count
    }
    if (this.none) return 'loopback'
    const [, given] = /^Bearer +(\S+)$/i.exec(header ?? '') ?? []
    const refuse = (code: 'UNAUTHORIZED' | 'FORBIDDEN', why: RefusedToken['why'], message: string, token?: string) => {
      this.#tell({ why, ...(token !== undefined && { token }), from })
      return new GopherQueueError(code, message)
    }
    if (given === undefined)
      throw refuse(
        'UNAUTHORIZED',
        'no token',
        "This server asks for a token (header 'Authorization: Bearer TOKEN', GopherQueue.open(url, { token }), GOPHERQUEUE_TOKEN). Nothing was accepted: make one with 'gopherqueue token create'.",
      )
    const hash = hashOf(given)
    let found: Token | undefined
    for (const known of this.#known) if (timingSafeEqual(known.hash, hash)) found = known.token
    if (!found || found.revokedAt !== null)
      throw refuse(
        'UNAUTHORIZED',
        found ? 'revoked' : 'not known',
        'This server does not know the token, or it was revoked. Nothing was accepted: use another.',
        found?.name,
      )
    const { name, scopes, expiresAt } = found
    if (expiresAt !== null && this.#clock.now() >= expiresAt)
      throw refuse(
        'UNAUTHORIZED',
        'expired',
        `The token '${name}' expired at ${new Date(expiresAt).toISOString()}. Nothing was accepted: make another with 'gopherqueue token create'.`,
        name,
      )
    if (!scopes.includes('admin') && !sufficient.some((scope) => scopes.includes(scope)))
      throw refuse(
        'FORBIDDEN',
        'scope',
        `The token '${name}' is for ${scopes.join(', ')}; this takes ${sufficient.join(' or ')}. Nothing was accepted: use another.`,
        name,
      )
    this.#use(found)
    return `token:${name}`
  }

  #use(token: Token): void {
    const now = this.#clock.now()
    if (token.lastUsedAt !== null && Math.abs(now - token.lastUsedAt) < usedEvery) return
    token.lastUsedAt = now
    this.#store.call('tokenUsed', token.name).catch(() => undefined) // whatever is wrong with the storage, health tells
  }
}
