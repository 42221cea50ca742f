import type { Reply, Request } from '../src/store/sqlite/request.ts'
import type { Input, Lease, LeasedJob, LeaseRequest, Output } from '../src/store/store.ts'
import type { Call } from './checker.ts'

/** One line for one call; null for a look that found nothing. */
export function call({ kind, pid, asked, replies, events, faulty }: Call, crashed: boolean): string | null {
  if (kind === 'tick' && replies.length === 0 && events.length === 0 && !crashed) return null
  const by = new Map(asked.map((request) => [request.seq, request]))
  const told = replies.map((reply) => `${question(by.get(reply.seq))}${answer(by.get(reply.seq), reply)}`)
  const open = asked.filter(({ seq }) => !replies.some((reply) => reply.seq === seq)).map(question)
  const happened = events.map((event) => {
    const about = 'id' in event ? event.id : 'schedule' in event ? event.schedule : 'health' in event ? event.health.status : '' // biome-ignore format: one line
    return `! ${event.event} ${about}`
  })
  const waits = open.length > 0 ? [`(waiting: ${open.join(', ')})`] : []
  return [`p${pid} ${kind}${faulty ? '?' : ''}${crashed ? ' CRASH' : ''}`, ...told, ...happened, ...waits].join('; ')
}

function question(request: Request | undefined): string {
  if (!request) return '?'
  const { seq, operation, input } = request
  switch (operation) {
    case 'submit': {
      const { payloads, keys } = input as Input<'submit'>
      return `#${seq} submit ${payloads.length === 1 ? payloads[0] : `${payloads.length} jobs`}${keys ? ` keys ${keys}` : ''}`
    }
    case 'lease':
      return `#${seq} lease w${(input as LeaseRequest).worker}`
    case 'succeed':
    case 'fail': {
      const { lease, kind = 'succeed' } = input as { lease: Lease; kind?: string }
      return `#${seq} ${kind} ${lease.id}`
    }
    case 'release':
    case 'heartbeat':
      return `#${seq} ${operation} ${(input as Lease).id}`
    default:
      return `#${seq} ${operation} ${typeof input === 'number' ? input : JSON.stringify(input)}`
  }
}

function answer(request: Request | undefined, reply: Reply): string {
  if ('error' in reply) return ` -> ${reply.error.code}${reply.error.accepted === 'unknown' ? ' unknown' : ''}`
  switch (request?.operation) {
    case 'submit': {
      const { ids, duplicates } = reply.value as Output<'submit'>
      return ` -> ${ids}${duplicates.length > 0 ? ` duplicates ${duplicates}` : ''}`
    }
    case 'lease':
      return ` -> [${(reply.value as LeasedJob[]).map(({ id, attempt, token }) => `${id} try ${attempt} token ${token}`)}]`
    case 'register':
      return ` -> w${reply.value}`
    case 'heartbeat':
    case 'remove':
    case 'unregister':
    case 'setQueue':
    case 'setSchedule':
    case 'removeSchedule':
      return ''
    default:
      return reply.value === null ? '' : ` -> ${(reply.value as { state: string }).state}`
  }
}
