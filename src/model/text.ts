/** Control characters (C0, DEL, C1), line separators, and those that change the direction of writing. */
export const dangerous = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** JSON as one line that a terminal shows and does not obey: JSON itself escapes C0 only. */
export const escaped = (json: string): string =>
  json.replace(dangerous, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
