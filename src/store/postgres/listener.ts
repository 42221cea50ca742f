import type pg from 'pg'
import { systemClock } from '../../model/clock.ts'

/** NOTIFY holds a lock of the whole server until its transaction has ended: so it is sent so seldom, and never with a write. */
const tellEvery = 5
const reconnectAfter = 1000

/** A connection of its own over which processes tell each other that there is something to look at. What it misses is found by looking. */
export class Listener {
  readonly #connect: () => pg.Client
  readonly #channel: string
  readonly #heard: () => void
  #client: pg.Client | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #telling = false
  /** To be told when the answer to the last one has come: one statement at a time. */
  #again = false
  #ended = false

  /** `channel`: an identifier in its quotes. `heard`: another process has told. */
  constructor(connect: () => pg.Client, channel: string, heard: () => void) {
    this.#connect = connect
    this.#channel = channel
    this.#heard = heard
    this.#listen()
  }

  #listen(): void {
    const client = this.#connect()
    const again = () => {
      if (this.#client === client) this.#client = undefined
      client.removeAllListeners('end')
      if (!this.#ended) systemClock.timer(reconnectAfter, () => this.#listen())
    }
    client.on('error', () => undefined) // its end follows
    client.on('end', again)
    client.on('notification', ({ processId }) => {
      if (processId !== (client as unknown as { processID: number }).processID) this.#heard()
    })
    const begin = async () => {
      await client.connect()
      await client.query(`LISTEN ${this.#channel}`)
      this.#client = client
      this.#heard() // what was told meanwhile
    }
    begin().catch(() => client.end().catch(() => undefined))
  }

  /** Tells the others, soon. */
  tell(): void {
    this.#again = this.#telling
    if (this.#telling) return
    const wait = this.#toldAt + tellEvery - systemClock.monotonic()
    this.#telling = true
    if (wait > 0) systemClock.timer(wait, () => this.#tell())
    else this.#tell()
  }

  #tell(): void {
    this.#toldAt = systemClock.monotonic()
    this.#again = false
    const told = () => {
      this.#telling = false
      if (this.#again) this.tell()
    }
    // Set for NOTIFY alone, which writes nothing: for the session it would stay with a pooler's, and be another client's.
    const sent = this.#client?.query(`BEGIN; SET LOCAL synchronous_commit = off; NOTIFY ${this.#channel}; COMMIT`)
    if (sent) sent.then(told, told)
    else told()
  }

  async end(): Promise<void> {
    this.#ended = true
    await this.#client?.end()
  }
}
