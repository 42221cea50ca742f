import { once } from 'node:events'
import { type IncomingHttpHeaders, request as plain, type RequestOptions } from 'node:http'
import { request as secure } from 'node:https'
import { connect, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Scope } from '../../src/model/token.ts'
import { makeToken } from '../../src/server/auth.ts'
import { type ServeOptions, type Server, serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

export interface Serving {
  file: string
  store: SqliteStore
  server: Server
  /** Lines of the log so far. */
  log: string[]
  ask(method: string, path: string, given?: Given): Promise<Heard>
  /** Makes a token of the file, after the server has started: it is known a second later. */
  token(name: string, ...scopes: Scope[]): Promise<string>
}

interface Given extends Pick<RequestOptions, 'headers'> {
  token?: string
  body?: unknown
  ca?: string
}
interface Heard {
  status: number
  headers: IncomingHttpHeaders
  text: string
  json: Record<string, unknown>
}

/** A server on a file of its own, until the test ends. */
export async function serving(t: TestContext, options: ServeOptions & { tokens?: [string, ...Scope[]][] } = {}) {
  const folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const store = await SqliteStore.open(file, { tends: true })
  const secrets: Record<string, string> = {}
  for (const [name, ...scopes] of options.tokens ?? []) secrets[name] = await token(name, ...scopes)
  const log: string[] = []
  const { tokens: _, ...given } = options
  const server = await serve(store, { port: 0, log: (line) => log.push(line), ...given })
  t.after(async () => {
    let closed = false
    const closing = server.close().finally(() => {
      closed = true
    })
    const { clock } = options
    while (clock instanceof VirtualClock && !closed) {
      clock.advance(1)
      await setImmediate()
    }
    await closing
    folder[Symbol.dispose]()
  })
  const made: Serving = { file, store, server, log, token, ask: (...asked) => ask(server.url, ...asked) }
  return { ...made, secrets }

  async function token(name: string, ...scopes: Scope[]): Promise<string> {
    const { token, hash } = makeToken()
    await store.call('createToken', { name, scopes, hash })
    return token
  }
}

/** A request with exactly these headers, such as `fetch` would not send. */
export async function ask(base: string, method: string, path: string, given: Given = {}): Promise<Heard> {
  const { token, body, headers, ca } = given
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const { hostname, port, protocol } = new URL(base)
  const sent = (protocol === 'https:' ? secure : plain)({
    ...{ host: hostname.replace(/[[\]]/g, ''), port, method, path, ca, agent: false },
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
  })
  sent.end(text)
  const [response] = await once(sent, 'response')
  let all = ''
  for await (const chunk of response.setEncoding('utf8')) all += chunk
  const json = all !== '' && /json/.test(response.headers['content-type']) ? JSON.parse(all) : null
  return { status: response.statusCode, headers: response.headers, text: all, json }
}

/** A connection on which bytes are sent as they are; `all` is what comes back until the server ends it. */
export async function raw(base: string, bytes = ''): Promise<{ socket: Socket; all: Promise<string> }> {
  const { hostname, port } = new URL(base)
  const socket = connect(Number(port), hostname)
  let heard = ''
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text
  })
  socket.on('error', () => undefined) // a connection that is reset has said all
  const all = new Promise<string>((resolve) => socket.once('close', () => resolve(heard)))
  await once(socket, 'connect')
  socket.write(bytes)
  return { socket, all }
}
