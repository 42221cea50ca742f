/**
 * Where a job can be: `scheduled` waits for its `runAt`, `ready` for a worker, `running` is leased by one. The last three
 * are terminal: nothing happens to them unless an operator acts.
 */
export type State = 'scheduled' | 'ready' | 'running' | 'succeeded' | 'dead' | 'cancelled'

/** What can happen to a job. Each is one function in the store and one transaction. */
export type Event =
  | 'due'
  | 'runNow'
  | 'cancel'
  | 'expire'
  | 'refuse'
  | 'lease'
  | 'succeed'
  | 'retryLater'
  | 'postpone'
  | 'giveUp'
  | 'release'
  | 'reclaim'
  | 'abort'
  | 'requestCancel'
  | 'retry'
  | 'remove'

/** The whole system on one screen: state x event -> state, null meaning gone. What is not here is refused. */
export const lifecycle = {
  scheduled: { due: 'ready', runNow: 'ready', cancel: 'cancelled', expire: 'dead', refuse: 'dead' },
  ready: { lease: 'running', cancel: 'cancelled', expire: 'dead', refuse: 'dead' },
  running: {
    succeed: 'succeeded',
    retryLater: 'scheduled',
    postpone: 'scheduled',
    giveUp: 'dead',
    release: 'ready',
    reclaim: 'ready',
    abort: 'cancelled',
    requestCancel: 'running',
  },
  succeeded: { remove: null },
  dead: { retry: 'ready', remove: null },
  cancelled: { retry: 'ready', remove: null },
} as const satisfies Record<State, Partial<Record<Event, State | null>>>

/** The state after `event`, null for gone, undefined when the event does not fit the state. */
export function next(state: State, event: Event): State | null | undefined {
  const row: Partial<Record<Event, State | null>> = lifecycle[state]
  return row[event]
}

export const states = Object.keys(lifecycle) as State[]

/** Where a job has not started yet. */
export type Waiting = 'scheduled' | 'ready'
export const isWaiting = (state: State): state is Waiting => state === 'scheduled' || state === 'ready'

/** Where a job has ended. */
export type Terminal = 'succeeded' | 'dead' | 'cancelled'
export const isTerminal = (state: State): state is Terminal =>
  state === 'succeeded' || state === 'dead' || state === 'cancelled'
