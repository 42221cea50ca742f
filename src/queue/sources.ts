import type { Clock } from '../model/clock.ts'
import { asQueueError, GopherQueueError, invalid } from '../model/errors.ts'
import { checkName } from '../model/job.ts'
import { shown } from '../model/text.ts'
import type { Source, Store } from '../store/store.ts'
import type { Definition } from './definition.ts'

/** How often a worker looks for new queues that its patterns match, in ms. */
const lookEvery = 1000

/** Most sources (a queue and a type) that a worker takes by patterns: its row and each request that names them grow with them. */
const mostSources = 100_000

/** What a worker is to take jobs of: names of queues, and the beginnings of names that its patterns stand for. */
export interface Queues {
  named: string[]
  prefixes: string[]
}

/** `queues` of `work`: a name that ends in * is a pattern. A beginning that a shorter one covers is left out. Throws INVALID_ARGUMENT. */
export function queuesOf(queues: readonly string[]): Queues {
  const isPattern = (queue: string) => typeof queue === 'string' && queue.includes('*')
  const prefixes = queues.filter(isPattern).map((pattern) => {
    const prefix = pattern.slice(0, -1)
    if (!pattern.endsWith('*') || prefix.includes('*'))
      throw invalid(
        `In queues a * stands for the rest of a name, and may only end it ('tenant-*', or '*' for all queues); got ${shown(pattern)}. A queue with a * in its name is among those of '${pattern.slice(0, pattern.indexOf('*'))}*'.`,
      )
    return prefix === '' ? prefix : checkName('queue', prefix)
  })
  const isCovered = (prefix: string) => prefixes.some((other) => other !== prefix && prefix.startsWith(other))
  return {
    named: [...new Set(queues)].filter((queue) => !isPattern(queue)).map((queue) => checkName('queue', queue)),
    prefixes: [...new Set(prefixes)].filter((prefix) => !isCovered(prefix)).sort(),
  }
}

/** The names that begin with a prefix, as far as a worker could take them, and how many it has not read; and by what they are known. */
interface Found {
  names: string[]
  left: number
  count: number
  forgotten: number
}

const noneFound: Found = { names: [], left: 0, count: 0, forgotten: 0 }

/** No job runs in a queue whose name only plain SQL can make; and a server would refuse the whole list for it. */
function isName(queue: string): boolean {
  try {
    return checkName('queue', queue) === queue
  } catch {
    return false
  }
}

/** What a worker takes jobs of: each type that has a handler, in the queues that it names, or in those that these types name. */
export class Sources {
  /** As of now: another array after each change, and only then. */
  list: Source[] = []
  readonly #definitions: ReadonlyMap<string, Definition>
  readonly #queues: Queues | undefined
  readonly #worker: string
  readonly #store: Store
  readonly #clock: Clock
  readonly #warn: (warning: GopherQueueError) => void
  readonly #found = new Map<string, Found>()
  /** Queues that no source had room for when that was last told. */
  #toldLeft = 0
  #toldFault = false
  /** The file may be another one, which has other queues. */
  #mayDiffer = false
  #stopTimer: (() => void) | undefined
  #stopped = false

  /** Throws INVALID_ARGUMENT when no type has a handler. */
  constructor(
    definitions: ReadonlyMap<string, Definition>,
    queues: Queues | undefined,
    {
      worker,
      store,
      clock,
      warn,
    }: { worker: string; store: Store; clock: Clock; warn: (warning: GopherQueueError) => void },
  ) {
    this.#definitions = definitions
    this.#queues = queues
    this.#worker = worker
    this.#store = store
    this.#clock = clock
    this.#warn = warn
    if (this.#able().length === 0) throw invalid('No definition has a handler: there is nothing this worker could run.')
    this.update()
  }

  #able(): Definition[] {
    return [...this.#definitions.values()].filter(({ handler }) => handler)
  }

  /** By the definitions and the queues that are known now. False when that changes nothing. */
  update(): boolean {
    const able = this.#able()
    const types = able.map(({ type }) => type)
    const { named, prefixes } = this.#queues ?? {
      named: [...new Set(able.map(({ spec }) => spec.queue))],
      prefixes: [],
    }
    const found = prefixes.map((prefix) => this.#found.get(prefix) ?? noneFound)
    const own = new Set(named)
    const matching = found.flatMap(({ names }) => names).filter((queue) => !own.has(queue))
    const all = [...named, ...matching]
    const taken = all.slice(0, Math.max(named.length, roomFor(all, types, this.#store.mostSourceBytes)))
    const unread = found.reduce((sum, { left }) => sum + left, 0)
    this.#tellLeft(taken.length, all.length - taken.length + unread, all[taken.length])
    const list = taken.flatMap((queue) => types.map((type) => ({ queue, type })))
    const isSame = ({ queue, type }: Source, i: number) => queue === this.list[i]!.queue && type === this.list[i]!.type
    if (list.length === this.list.length && list.every(isSame)) return false
    this.list = list
    return true
  }

  /** Told again when twice as many are left: where each look finds one more, it would be told each second. */
  #tellLeft(taken: number, left: number, first: string | undefined): void {
    if (left > 0 && left < 2 * this.#toldLeft) return
    this.#toldLeft = left
    if (left === 0) return
    const patterns = this.#queues!.prefixes.map((prefix) => `'${prefix}*'`).join(', ')
    const bound =
      this.#store.mostSourceBytes === undefined
        ? ''
        : `, and its requests over the network ${this.#store.mostSourceBytes / 1024} KiB of them`
    const message = `Worker '${this.#worker}' takes jobs of ${taken} queues of those that ${patterns} matches, in the order of their names, and of ${left} more it takes none${first === undefined ? '' : `, from '${first}' on`}: a worker has at most ${mostSources} sources (a queue and a type)${bound}. Jobs there are kept and wait for another worker: give several of them longer patterns or fewer types, or submit to one queue with a concurrencyKey for each tenant.`
    this.#warn(
      new GopherQueueError('QUEUES_NOT_TAKEN', message, { accepted: 'yes', details: { taken, notTaken: left } }),
    )
  }

  /** Looks for queues that the patterns match, now and each second. `changed` is called when the list is another. */
  look(changed: () => void): void {
    const { prefixes } = this.#queues ?? { prefixes: [] }
    if (prefixes.length === 0) return
    const again = () => {
      if (!this.#stopped) this.#stopTimer = this.#clock.timer(lookEvery, () => this.look(changed))
    }
    Promise.all(prefixes.map((prefix) => this.#lookFor(prefix))).then(
      (news) => {
        this.#toldFault = false
        this.#mayDiffer = false
        if (!this.#stopped && news.includes(true) && this.update()) changed()
        again()
      },
      (error) => {
        this.#tellFault(error)
        again()
      },
    )
  }

  /** As long as there are as many, and none was forgotten since, they are the same. */
  async #lookFor(prefix: string): Promise<boolean> {
    const known = this.#mayDiffer ? undefined : this.#found.get(prefix)
    const asked = { prefix, known: known?.count ?? 0, forgotten: known?.forgotten ?? 0 }
    const { count, forgotten, ...first } = await this.#store.call('queueNames', asked)
    if (count === known?.count && forgotten === known.forgotten) return false
    const { names } = first
    let { next } = first
    while (next !== null && names.length < mostSources) {
      const page = await this.#store.call('queueNames', { prefix, after: next })
      names.push(...page.names)
      next = page.next
    }
    // Between two pages queues come and go, so that their number proves nothing: what was read to its end leaves none.
    const left = next === null ? 0 : Math.max(0, count - names.length)
    this.#found.set(prefix, { names: names.filter(isName), left, count, forgotten })
    return true
  }

  #tellFault(error: unknown): void {
    const { code, message } = asQueueError(error)
    if (this.#toldFault || this.#stopped || code === 'CLOSED') return
    this.#toldFault = true
    const says = `Worker '${this.#worker}' could not look for new queues: it goes on with those that it knows, and looks again each second by itself.`
    this.#warn(new GopherQueueError(code, `${says} ${message}`, { cause: error }))
  }

  /** The file may be another one: the next look reads all names. */
  forget(): void {
    this.#mayDiffer = true
  }

  stop(): void {
    this.#stopped = true
    this.#stopTimer?.()
  }
}

/** How many of these queues fit, with all types, into the most sources and so many bytes of JSON. */
function roomFor(queues: string[], types: string[], bytes = Number.POSITIVE_INFINITY): number {
  const most = Math.floor(mostSources / types.length)
  if (bytes === Number.POSITIVE_INFINITY) return most
  const sizeOf = (text: string) => Buffer.byteLength(JSON.stringify(text))
  const ofTypes = types.reduce((sum, type) => sum + sizeOf(type) + '{"queue":,"type":},'.length, 0)
  let [room, left] = [0, bytes]
  for (const queue of queues) {
    left -= ofTypes + sizeOf(queue) * types.length
    if (left < 0 || room === most) break
    room++
  }
  return room
}
