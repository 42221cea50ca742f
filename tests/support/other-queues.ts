// What the scripts of docs/migrate.md see of bullmq and of pg-boss, in their place.

const hour = 3_600_000

export class Queue {
  readonly #delayed = ['1', '2'].map((id) => ({
    id,
    name: 'welcome',
    data: { to: id },
    timestamp: Date.now(),
    delay: hour,
  }))

  readonly options: { connection: { host: string; port: number } }

  constructor(_name: string, options: { connection: { host: string; port: number } }) {
    this.options = options
  }

  async getDelayed(): Promise<{ id?: string; name: string; data: unknown; timestamp: number; delay: number }[]> {
    return [...this.#delayed]
  }

  async remove(id: string): Promise<number> {
    this.#delayed.splice(
      this.#delayed.findIndex((job) => job.id === id),
      1,
    )
    return 1
  }

  async close(): Promise<void> {
    if (this.#delayed.length > 0) throw new Error('Some were left.')
  }
}

export class PgBoss {
  #fetched = 0
  #completed = 0

  readonly url: string

  constructor(url: string) {
    this.url = url
  }

  async start(): Promise<void> {
    this.#completed = 0
  }

  async fetch(_name: string, options: { batchSize: number; includeMetadata: true; ignoreStartAfter: true }) {
    const size = Math.min(options.batchSize, 105 - this.#fetched)
    const startAfter = new Date(Date.now() + hour)
    return Array.from({ length: size }, () => ({
      id: `uuid-${++this.#fetched}`,
      data: { to: 'ada' } as object,
      startAfter,
    }))
  }

  async complete(_name: string, ids: string[]): Promise<void> {
    this.#completed += ids.length
  }

  async stop(): Promise<void> {
    if (this.#completed !== 105) throw new Error(`${this.#completed} were completed.`)
  }
}
