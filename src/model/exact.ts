import { limits } from './job.ts'
import { type Kind, mustFit } from './json.ts'

// JSON that came as JSON: a server has parsed it, so that nothing but numbers can be lost of it, and depth refused.

/**
 * As `toJson`, of what JSON.parse has made of a text that `isExact`: it is not walked through, which would take three times as
 * long as all else. Throws PAYLOAD_TOO_LARGE or RESULT_TOO_LARGE.
 */
export function exactJson(kind: Kind, value: object, place = ''): string {
  const json = JSON.stringify(value)
  mustFit(kind, json, place)
  return json
}

/** Digits of a number that a double may not hold. */
const manyDigits = 16

/** Whether a JSON text certainly has no number that a double does not hold, and is no deeper than is taken. By a loop: a pattern takes ten times as long. */
export function isExact(json: string): boolean {
  let [depth, digits] = [0, 0]
  for (let i = 0; i < json.length; i++) {
    const char = json.charCodeAt(i)
    if (char >= 48 && char <= 57) {
      if (++digits >= manyDigits) return false
      continue
    }
    if (digits > 0 && (char === 69 || char === 101)) return false // e
    digits = 0
    if (char === 34) {
      for (i++; i < json.length && json.charCodeAt(i) !== 34; i++) if (json.charCodeAt(i) === 92) i++ // to the end of the text
    } else if (char === 91 || char === 123) {
      if (++depth > limits.depth) return false
    } else if (char === 93 || char === 125) depth--
  }
  return true
}
