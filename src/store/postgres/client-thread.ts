import { type MessagePort, workerData } from 'node:worker_threads'
import type pg from 'pg'
import { systemClock } from '../../model/clock.ts'
import { isStandby, loaded } from './driver.ts'
import { type Fault, lostConnection } from './fault.ts'
import { Listener } from './listener.ts'

// Speaks to the server for a thread that waits: that one runs the engine, which is synchronous, as SQLite is.

type Plain = string | number | null
type Value = Plain | Plain[]

/** A statement; with a name it is prepared once a connection. */
export interface Sent {
  name?: string
  text: string
  values: Value[]
}
export type ToClient =
  | { open: number; hosts: string[] }
  | { on: number; flight: Sent[]; patience: number }
  | { listen: number; channel: string; hosts: string[] }
  | { tell: number }
  | { close: number }

/** Of each statement of a flight, in order. `warned`: the server has warned while it ran. */
export type Result =
  | { command: string; changes: number; fields: string[]; rows: unknown[][]; warned: string | null }
  | { fault: Fault }
export type Done = Exclude<Result, { fault: unknown }>
/** What is asked, and the answer, have a number: an answer for which nobody waits any more is passed over. */
export interface Asked {
  seq: number
  message: ToClient
}
export interface FromClient {
  seq: number
  results: Result[]
}

export interface ClientData {
  port: MessagePort
  /** Where it is said of which connection others have told something. */
  heard: MessagePort
  /** Counts answers. */
  signal: Int32Array
}
const { port, heard, signal } = workerData as ClientData

type Client = pg.Client & { pipeline?: boolean }
const clients = new Map<number, Client>()
const listeners = new Map<number, Listener>()
const ended = new Map<number, Fault>()
let warned: string | null = null

function answer(seq: number, results: Result[]): void {
  port.postMessage({ seq, results } satisfies FromClient)
  Atomics.add(signal, 0, 1)
  Atomics.notify(signal, 0)
}

const done: Result = { command: '', changes: 0, fields: [], rows: [], warned: null }

function faultOf(error: unknown): Fault {
  const { message, code, severity } = error as { message: string; code?: string; severity?: string }
  return { message: message || String(code), sqlstate: severity && code ? code : lostConnection }
}

const numbers = new Set([20, 21, 23, 700, 701, 1700])
/** SQLite has numbers and texts alone; counts beyond 2^53 do not come. */
const types = {
  getTypeParser: (oid: number) =>
    numbers.has(oid) ? Number : oid === 16 ? (text: string) => (text === 't' ? 1 : 0) : (text: string) => text,
}

/** How long a host has to take a connection, in ms; where there are others, one that does not answer must not keep them waiting. */
const connectWithin = { alone: 5000, oneOfSome: 1500 }

/** Connects to the host that takes writes: a standby is passed over, unless it is the only host. */
async function open(id: number, hosts: string[]): Promise<Result> {
  const before = clients.get(id)
  if (before && !ended.has(id)) before.end().catch(() => undefined)
  let fault: Fault = { message: 'No host is named', sqlstate: lostConnection }
  for (const connectionString of hosts)
    try {
      const client = await connect(id, connectionString, hosts.length > 1)
      if (hosts.length === 1 || !(await isStandby(client))) {
        clients.set(id, client)
        return done
      }
      fault = { message: 'Of the hosts that answer, each is a standby', sqlstate: lostConnection }
      await client.end()
    } catch (error) {
      fault = faultOf(error)
    }
  return { fault }
}

async function connect(id: number, connectionString: string, hasOthers: boolean): Promise<Client> {
  const { Client } = await loaded()
  const connectionTimeoutMillis = hasOthers ? connectWithin.oneOfSome : connectWithin.alone
  const settings = { connectionString, pipeline: true, keepAlive: true, connectionTimeoutMillis, application_name: 'gopherqueue' } // biome-ignore format: one line
  const client: Client = new Client({ ...settings, types: types as pg.CustomTypesConfig })
  client.on('error', (error) => {
    if (clients.get(id) === client) ended.set(id, faultOf(error))
  })
  client.on('notice', ({ severity, message }) => {
    if (severity === 'WARNING') warned = message ?? 'a warning'
  })
  clients.delete(id)
  ended.delete(id)
  await client.connect()
  return client
}

/** Sends all at once, and answers when the last has ended. Overdue, the connection is given up: never is anything cancelled. */
async function fly(id: number, flight: Sent[], patience: number): Promise<Result[]> {
  const client = clients.get(id)
  const gone = ended.get(id)
  if (!client || gone) return [{ fault: gone ?? { message: 'The connection is closed', sqlstate: lostConnection } }]
  const giveUp = systemClock.timer(patience, () => (client as unknown as Wire).connection.stream.destroy())
  const results = await Promise.all(flight.map((sent) => run(client, sent)))
  giveUp()
  return results
}

interface Wire {
  connection: { stream: { destroy(): void } }
}

async function run(client: Client, { name, text, values }: Sent): Promise<Result> {
  warned = null
  try {
    const config = { text, rowMode: 'array' as const, ...(name !== undefined && { name, values }) }
    const all: unknown = await client.query(config)
    const { command, rowCount, fields, rows } = (Array.isArray(all) ? all.at(-1) : all) as pg.QueryArrayResult<
      unknown[]
    >
    return { command, changes: rowCount ?? 0, fields: (fields ?? []).map(({ name }) => name), rows: rows ?? [], warned }
  } catch (error) {
    return { fault: faultOf(error) }
  }
}

async function listen(id: number, channel: string, hosts: string[]): Promise<Result> {
  const { Client } = await loaded()
  let tries = 0 // a standby takes no LISTEN, and then the next host is tried
  const connect = () => new Client({ connectionString: hosts[tries++ % hosts.length]!, keepAlive: true, connectionTimeoutMillis: 5000, application_name: 'gopherqueue listens' }) // biome-ignore format: one line
  await listeners.get(id)?.end()
  listeners.set(id, new Listener(connect, channel, () => heard.postMessage(id)))
  return done
}

async function handle(message: ToClient): Promise<Result[]> {
  if ('tell' in message) {
    listeners.get(message.tell)?.tell()
    return []
  }
  if ('listen' in message) return [await listen(message.listen, message.channel, message.hosts)]
  if ('open' in message) return [await open(message.open, message.hosts)]
  if ('on' in message) return fly(message.on, message.flight, message.patience)
  const client = clients.get(message.close)
  clients.delete(message.close)
  await listeners.get(message.close)?.end()
  listeners.delete(message.close)
  if (client && !ended.has(message.close)) await client.end()
  return [done]
}

port.on('message', ({ seq, message }: Asked) => {
  handle(message).then(
    (results) => results.length > 0 && answer(seq, results),
    (error) => answer(seq, [{ fault: faultOf(error) }]),
  )
})
