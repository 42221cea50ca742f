import { type MessagePort, workerData } from 'node:worker_threads'
import { Engine } from '../sqlite/commit.ts'
import { run } from '../sqlite/serve.ts'
import { ServerClock } from './clock.ts'
import { connect } from './open.ts'
import type { Place } from './place.ts'

// The storage thread of a queue on PostgreSQL: the engine is the one of SQLite's, its connection another.

/** How often to look what other processes have committed, while someone here would want to know, in ms: they tell of it, too. */
const lookEvery = { told: 500, untold: 50 }

export interface ThreadData {
  place: Place
  port: MessagePort
  tends: boolean
}
const { place, port, tends } = workerData as ThreadData

let hear = () => {
  // Nobody waits yet.
}

function open(): Engine {
  const clock = new ServerClock()
  const listening = () => {
    const db = connect(place, clock)
    if (place.listens) db.connection.listen(() => hear())
    return db
  }
  return new Engine(place.schema, clock, { open: listening, tends, asksApp: true })
}

run(port, open, place.listens ? lookEvery.told : lookEvery.untold, (look) => {
  hear = look
})
