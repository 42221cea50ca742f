import { describe, test } from 'node:test'
import { type OpenStore, Subject } from '../support/subject.ts'
import { attempts } from './attempts.ts'
import { batches } from './batches.ts'
import { company } from './company.ts'
import { hours } from './hours.ts'
import { keys } from './keys.ts'
import { leases } from './leases.ts'
import { limits } from './limits.ts'
import { order } from './order.ts'
import { rates } from './rates.ts'
import { reads } from './reads.ts'
import { retention } from './retention.ts'
import { search } from './search.ts'
import { transitions } from './transitions.ts'

type Body = (subject: Subject) => Promise<void>

/** How the subjects' files say what must hold. Each body gets a store of its own. */
export interface Suite {
  holds(name: string, body: Body): void
  /** Only where time is virtual: nothing is ever waited for. */
  holdsOverTime(name: string, body: Body): void
  /** Only where all that one turn asks for is one transaction. */
  holdsTogether(name: string, body: Body): void
}

/** What every store promises, whatever keeps its jobs. */
export function contract(
  name: string,
  open: OpenStore,
  { virtualTime, remote = false }: { virtualTime: boolean; remote?: boolean },
): void {
  const holds = (title: string, body: Body): void => {
    test(title, async () => {
      await using subject = new Subject(await open())
      await body(subject)
    })
  }
  const suite: Suite = {
    holds,
    holdsOverTime: virtualTime ? holds : () => undefined,
    holdsTogether: remote ? () => undefined : holds,
  }
  describe(name, () => {
    for (const part of [
      transitions,
      order,
      leases,
      company,
      attempts,
      keys,
      limits,
      rates,
      batches,
      retention,
      reads,
      hours,
      search,
    ])
      describe(part.name, () => part(suite))
  })
}
