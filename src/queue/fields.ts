import { limits } from '../model/job.ts'

// An error's own fields, as they cross from a handler's thread: what `classify` decides by, such as `status`, `code`,
// `response.status` or `cause.code`.

/** An error of an HTTP client leads to its sockets and all that they know: so deep, and so many fields, are copied. */
const most = { depth: 4, fields: 1000 }

/** Own fields of an error that can be copied to another thread, with those of the objects in them. Never throws. */
export function fieldsOf(error: unknown): Record<string, unknown> {
  let left = most.fields
  const seen = new Set<object>()

  const members = (from: object, depth: number): Record<string, unknown> => {
    const into: Record<string, unknown> = {}
    const names = new Set(Object.keys(from))
    for (const name of from instanceof Error ? ['name', 'message', 'code', 'cause', 'errors'] : []) names.add(name)
    for (const name of names) {
      if (left-- <= 0) break
      const value = attempted(() => copy((from as Record<string, unknown>)[name], depth + 1))
      if (value !== undefined) Object.defineProperty(into, name, { value, enumerable: true }) // also one named __proto__
    }
    return into
  }

  const copy = (value: unknown, depth: number): unknown => {
    if (typeof value === 'string') return value.length > limits.stackBytes ? value.slice(0, limits.stackBytes) : value
    if (typeof value !== 'object' || value === null)
      return typeof value === 'function' || typeof value === 'symbol' ? undefined : value
    if (value instanceof Date) return new Date(value)
    if (depth > most.depth || seen.has(value)) return undefined
    seen.add(value)
    if (Array.isArray(value)) return value.slice(0, 100).map((one) => attempted(() => copy(one, depth + 1)))
    return members(value, depth)
  }

  return attempted(() => (typeof error === 'object' && error !== null ? members(error, 0) : {})) ?? {}
}

/** Gives an error fields that were copied. Its name, message and stack stay as they are. */
export function withFields<E extends Error>(error: E, fields: Record<string, unknown>): E {
  for (const [name, value] of Object.entries(fields))
    if (!['name', 'message', 'stack'].includes(name))
      Object.defineProperty(error, name, { value, enumerable: true, writable: true, configurable: true })
  return error
}

function attempted<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
