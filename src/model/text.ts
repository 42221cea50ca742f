/** Control characters (C0, DEL, C1), line separators, and those that change the direction of writing. */
export const dangerous = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** JSON as one line that a terminal shows and does not obey: JSON itself escapes C0 only. */
export const escaped = (json: string): string =>
  json.replace(dangerous, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** A value in a message, so that its kind is seen: '5' is not 5, and what JSON makes null of is not null. */
export function shown(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString()
  return typeof value === 'string' || (typeof value === 'object' && value !== null)
    ? JSON.stringify(value)
    : String(value)
}
