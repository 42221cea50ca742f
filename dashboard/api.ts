import { useEffect, useState } from 'preact/hooks'
import type { Answer, Call } from '../src/store/http/api.ts'

// All that the page knows of the server: its HTTP API, and that its events say when to ask again.

export type { Answer }
export type Stats = Answer<'stats'>
export type Job = Answer<'job'>

/** What a call failed with; `code` is the server's, or NETWORK. */
export class CallError extends Error {
  readonly code: string
  /** It was to change something, and nobody knows whether it did. */
  readonly isUnknown: boolean

  constructor(code: string, message: string, isUnknown = false) {
    super(message)
    this.code = code
    this.isUnknown = isUnknown
  }
}

const unknown = 'Whether this was done is not known.'
const unreachable = (isChange: boolean) =>
  new CallError('NETWORK', `The server cannot be reached. ${isChange ? `See whether it runs. ${unknown}` : 'The page goes on trying; see whether it runs.'}`, isChange) // biome-ignore format: long

const key = 'gopherqueue-token' // kept for this tab alone, and never in an address

export const token = {
  get: () => sessionStorage.getItem(key),
  set(value: string | null): void {
    if (value === null) sessionStorage.removeItem(key)
    else sessionStorage.setItem(key, value)
    connect()
    changed()
  },
}

/** The server's clock is this much ahead of this machine's, as far as its answers' seconds tell. */
let ahead = 0
export const now = (): number => Date.now() + ahead

async function request(path: string, options: RequestInit = {}): Promise<Response> {
  const isChange = options.method !== undefined
  const held = token.get()
  const headers = { ...options.headers, ...(held !== null && { authorization: `Bearer ${held}` }) }
  const response = await fetch(path, { ...options, headers }).catch((error: Error) => {
    if (options.signal?.aborted) throw error
    throw unreachable(isChange)
  })
  const difference = Date.parse(response.headers.get('date') ?? '') - Date.now()
  ahead = Math.abs(difference) > 2000 ? difference : 0
  if (response.ok) return response
  const isLost = isChange && response.status >= 500 // by a proxy, unless the body says more
  const lost = { code: `HTTP ${response.status}`, detail: `${response.statusText} ${isLost ? unknown : ''}`, accepted: isLost ? 'unknown' : 'no' } // biome-ignore format: long
  const { code, detail, accepted } = { ...lost, ...(await response.json().catch(() => ({}))) }
  throw new CallError(code, detail, accepted === 'unknown')
}

export type Query = Record<string, string | number | null | undefined>

export const search = (query: Query): string => {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '')
  return given.length > 0 ? `?${new URLSearchParams(given.map(([name, value]) => [name, `${value}`]))}` : ''
}

const asked = new Map<string, Promise<unknown>>()

/** Parts of the page that ask the same at once share one answer. */
export function get<K extends Call>(path: string, query: Query = {}, signal?: AbortSignal): Promise<Answer<K>> {
  const url = `v1/${path}${search(query)}`
  const key = `${token.get()} ${url}`
  const ask = () => request(url, { signal: signal ?? null }).then((response) => response.json())
  if (signal) return ask()
  if (!asked.has(key))
    asked.set(
      key,
      ask().finally(() => asked.delete(key)),
    )
  return asked.get(key) as Promise<Answer<K>>
}

export async function send<K extends Call>(method: string, path: string, body?: unknown): Promise<Answer<K>> {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const response = await request(`v1/${path}`, { method, ...json })
  const answer = await response.json().catch(() => {
    throw unreachable(true) // cut off within its answer
  })
  changed()
  return answer
}

const listeners = new Set<() => void>()
let timer: ReturnType<typeof setTimeout> | undefined

/** For who reads what would move away under the eyes. */
export const updates = {
  paused: false,
  toggle(): void {
    updates.paused = !updates.paused
    changed()
  },
}

/** Whatever is shown is asked for anew: at most four times a second, and every 10 s when nothing is heard. */
function changed(): void {
  clearTimeout(timer)
  timer = setTimeout(() => {
    if (!updates.paused) for (const listener of listeners) listener()
    timer = setTimeout(changed, 10_000)
  }, 250)
}

/** Whether the server's events are heard. */
export let isLive = false
let connection = new AbortController()

/** Hears from the server that something has changed, and comes back when the connection breaks. */
export async function connect(): Promise<void> {
  connection.abort()
  connection = new AbortController()
  const { signal } = connection
  while (!signal.aborted) {
    try {
      const { body } = await request('v1/events?events=changed,health', { signal })
      isLive = true
      changed()
      const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
      for (let read = await reader.read(); !read.done; read = await reader.read())
        if (read.value.includes('event:')) changed()
    } catch (error) {
      if (error instanceof CallError && /^(UNAUTHORIZED|FORBIDDEN)$/.test(error.code)) return // until there is another token
    }
    if (signal.aborted) return
    isLive = false
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
}

export interface Data<T> {
  value: T | undefined
  /** When it was answered. */
  at: number
  error: CallError | undefined
}

/** What `load` answers, asked for anew whenever something has changed, `restMs` later at the earliest; `of` names what it asks for. */
export function useData<T>(of: string, load: (signal: AbortSignal) => Promise<T>, restMs = 0): Data<T> {
  const [data, setData] = useState<Data<T> & { of: string }>({ value: undefined, at: 0, error: undefined, of })
  useEffect(() => {
    let asking = false
    const over = new AbortController()
    const { signal } = over
    let restUntil = 0
    let later: ReturnType<typeof setTimeout> | undefined
    const ask = async () => {
      const begun = performance.now()
      clearTimeout(later)
      if (begun < restUntil) later = setTimeout(ask, restUntil - begun)
      if (asking || begun < restUntil) return
      asking = true
      try {
        const value = await load(signal)
        if (!signal.aborted) setData({ value, at: now(), error: undefined, of })
      } catch (error) {
        if (!signal.aborted)
          setData((before) => ({
            ...before,
            ...(before.of !== of && { value: undefined }),
            error: error as CallError,
            of,
          }))
      }
      asking = false
      restUntil = performance.now() + Math.max(restMs, 9 * (performance.now() - begun)) // what is dear is asked for less often
    }
    ask()
    listeners.add(ask)
    return () => {
      over.abort()
      clearTimeout(later)
      listeners.delete(ask)
    }
  }, [of])
  return data.of === of ? data : { value: undefined, at: 0, error: undefined }
}
