import { isQueueError } from '../model/errors.ts'
import { type Numbered, numberedBy } from '../store/http/numbers.ts'
import type { Source, Store, WorkerRegistration } from '../store/store.ts'

interface Named {
  said: string
  id: Promise<Numbered>
}

/** Names that are remembered, those that asked last: a client that makes up a name each time must not fill the memory. */
const mostNames = 20_000

const isUnknown = (error: unknown): boolean => isQueueError(error) && error.code === 'WORKER_UNKNOWN'

/** Workers on the network: by the id that the file gave them, or signed on by the name with which they ask. */
export class Workers {
  readonly #store: Store
  readonly #names = new Map<string, Named>()
  #known: Promise<void> | undefined
  /** Of the file that is there, as last heard of. */
  epoch = ''

  /** Knows those that asked an earlier server. */
  constructor(store: Store) {
    this.#store = store
    this.#earlier.catch(() => undefined)
  }

  /** Asked anew after a failure: storage that was away for a moment must not keep workers out until a restart. */
  get #earlier(): Promise<void> {
    this.#known ??= this.#ask()
    return this.#known.catch((error) => {
      this.#known = undefined
      throw error
    })
  }

  async #ask(): Promise<void> {
    const [epoch, { workers }] = await Promise.all([this.#store.call('epoch', null), this.#store.call('stats', null)])
    this.epoch = epoch
    for (const { id, name, pid } of workers)
      if (pid === null) this.#names.set(name, { said: '', id: Promise.resolve({ epoch, number: id }) })
  }

  /** Signs on. Another file may have taken the place of the one that was known. */
  async register(registration: WorkerRegistration): Promise<Numbered> {
    await this.#earlier
    const { epoch } = this
    try {
      return { epoch, number: await this.#store.call('register', registration, undefined, undefined, epoch) }
    } catch (error) {
      if (!isUnknown(error)) throw error
      this.epoch = await this.#store.call('epoch', null)
      if (this.epoch === epoch) throw error
      return this.register(registration)
    }
  }

  /**
   * Runs `work` for a worker, given by its id, or by its name: then what it takes is brought up to date, and it is signed
   * on again if somebody has signed it off. Throws WORKER_UNKNOWN for an id.
   */
  async with<T>(
    worker: string,
    told: { sources: Source[]; slots: number; remote: string },
    work: (worker: Numbered) => Promise<T>,
  ): Promise<T> {
    const given = numberedBy(worker)
    if (given) return work(given)
    try {
      return await work(await this.#named(worker, told))
    } catch (error) {
      if (!isUnknown(error)) throw error
      this.#names.set(worker, { ...this.#names.get(worker)!, said: '' })
      return work(await this.#named(worker, told))
    }
  }

  async #named(name: string, told: { sources: Source[]; slots: number; remote: string }): Promise<Numbered> {
    await this.#earlier
    const said = JSON.stringify(told)
    const before = this.#names.get(name)
    this.#names.delete(name) // and back at the end, as the one that asked last
    if (before?.said === said) {
      this.#names.set(name, before)
      return before.id
    }
    const registration = { name, ...told, instance: `named ${name}` }
    const again = ({ number: known }: Numbered) => this.register({ ...registration, known })
    const id = before ? before.id.then(again) : this.register(registration)
    this.#names.set(name, { said, id })
    for (const oldest of this.#names.keys()) {
      if (this.#names.size <= mostNames) break
      this.#names.delete(oldest)
    }
    id.catch(() => this.#names.delete(name))
    return id
  }

  /** Its id, if there is such a worker. */
  async idOf(worker: string): Promise<Numbered | undefined> {
    await this.#earlier
    return numberedBy(worker) ?? this.#names.get(worker)?.id
  }

  /** As `idOf`; its name is free from now on. */
  async forget(worker: string): Promise<Numbered | undefined> {
    const id = await this.idOf(worker)
    this.#names.delete(worker)
    return id
  }
}
