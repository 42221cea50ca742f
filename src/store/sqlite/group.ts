import type { Failure, Input, Submission } from '../store.ts'
import { writes } from './answer.ts'
import type { Request } from './request.ts'

// What shares a transaction, and how much: a flood must never delay an answer for long, nor keep another process from the
// write lock.

/** A group closes when it has so many jobs, or bytes of payloads and results. A larger single request is one of its own. */
const most = { jobs: 10_000, bytes: 16 * 1024 * 1024 }

interface Weight {
  jobs: number
  bytes: number
}

/** What requests weigh together. */
export class Load implements Weight {
  jobs = 0
  bytes = 0

  add({ jobs, bytes }: Weight): void {
    this.jobs += jobs
    this.bytes += bytes
  }

  get isFull(): boolean {
    return this.jobs >= most.jobs || this.bytes >= most.bytes
  }
}

/** Of a request: jobs that it may change, characters that it stores. */
export function weightOf({ operation, input }: Request): Weight {
  switch (operation) {
    case 'submit': {
      const { payloads } = input as Submission
      let bytes = 0
      for (const { length } of payloads) bytes += length
      return { jobs: payloads.length, bytes }
    }
    case 'many':
      return { jobs: (input as Input<'many'>).filter.limit ?? 100, bytes: 0 }
    case 'succeed':
      return { jobs: 1, bytes: (input as Input<'succeed'>).result.length }
    case 'checkpoint':
      return { jobs: 1, bytes: (input as Input<'checkpoint'>).state.length }
    case 'fail': {
      const { name, message, stack } = (input as Failure).error
      return { jobs: 1, bytes: name.length + message.length + (stack?.length ?? 0) }
    }
    default:
      return { jobs: 1, bytes: 0 }
  }
}

/**
 * Requests by the transactions that they share, in their order. What only reads comes last and by itself: within a
 * transaction that writes, the counts of 50,000 queues would keep everybody from the write lock.
 */
export function groupsOf(requests: Request[]): Request[][] {
  const reads: Request[] = []
  const groups: Request[][] = [[]]
  let load = new Load()
  for (const request of requests) {
    if (!(request.operation in writes)) {
      reads.push(request)
      continue
    }
    const weight = weightOf(request)
    if (load.jobs > 0 && (load.jobs + weight.jobs > most.jobs || load.bytes + weight.bytes > most.bytes)) {
      groups.push([])
      load = new Load()
    }
    load.add(weight)
    groups.at(-1)!.push(request)
  }
  if (reads.length > 0) groups.push(reads)
  return groups
}
