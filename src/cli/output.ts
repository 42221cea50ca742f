import { styleText } from 'node:util'
import { systemClock } from '../model/clock.ts'
import { formatMs } from '../model/duration.ts'
import { isQueueError } from '../model/errors.ts'
import { dangerous, escaped } from '../model/text.ts'

/** Known before the arguments are parsed, because what is wrong with them is told in JSON too. */
export const json = process.argv.includes('--json')

/** A person reads: tables cut to the screen, ages, colours. Else a row is a line, its cells divided by tabs. */
export const forPeople = process.stdout.isTTY === true && !json

const hex = (char: string, digits: number) => char.charCodeAt(0).toString(16).padStart(digits, '0')

/** Text of unknown origin as one harmless line: a terminal shows what is in it and obeys nothing. */
export const safe = (text: string): string =>
  text.replace(dangerous, (char) => (char < '\u0100' ? `\\x${hex(char, 2)}` : `\\u${hex(char, 4)}`))

export const toLine = (value: unknown): string => escaped(JSON.stringify(value))

export const print = (line: string): boolean => process.stdout.write(`${line}\n`)

/** One document under --json, else what `otherwise` prints. */
export const show = (document: unknown, otherwise: () => void): unknown =>
  json ? print(toLine(document)) : otherwise()

/** The errors within one that `await using` made of two, the first to be thrown first: its own text says nothing of them. */
export function errorsOf(error: unknown): unknown[] {
  if (!(error instanceof Error && 'suppressed' in error && 'error' in error)) return [error]
  return [...new Set([error.suppressed, error.error].flatMap(errorsOf))] // to stop a worker twice throws the same twice
}

export function report(error: unknown): void {
  const { message, code = 'INTERNAL' }: NodeJS.ErrnoException = error instanceof Error ? error : new Error(`${error}`)
  const { accepted, details } = isQueueError(error) ? error : { accepted: 'unknown', details: undefined }
  const line = json ? toLine({ code, message, accepted, details }) : `gopherqueue: ${code}: ${safe(message)}`
  process.stderr.write(`${line}\n`)
}

const ago = (ms: number) => (ms >= 0 ? `${formatMs(ms)} ago` : `in ${formatMs(-ms)}`)

/** People want an instant's age, programs the instant, and who looks closely both. */
export function when(instant: number, closely = false): string {
  const age = ago(systemClock.now() - instant)
  const iso = new Date(instant).toISOString()
  return !forPeople ? iso : closely ? `${iso} (${age})` : age
}

const wide = /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u
const widthOf = (char: string) =>
  char < '\u0300' ? 1 : /[\p{M}\u200b-\u200d]/u.test(char) ? 0 : wide.test(char) ? 2 : 1
const width = (text: string) => [...text].reduce((sum, char) => sum + widthOf(char), 0)

/** Exactly `columns` wide: padded, or cut with a mark. */
export function fit(text: string, columns: number, right = false): string {
  const chars = [...text]
  let used = width(text)
  if (used > columns) while (used >= columns && chars.length > 0) used -= widthOf(chars.pop()!)
  if (chars.join('') !== text) used += chars.push('…') && 1
  return right ? chars.join('').padStart(columns) : chars.join('') + ' '.repeat(columns - used)
}

const colours = [
  ['green', /^(ok|succeeded|alive)/],
  ['cyan', /^running/],
  ['yellow', /^(scheduled|paused|degraded|warn)/],
  ['red', /^(dead|failed|timeout|lost|gone|FAIL)/],
] as const

/** A state in its colour; styleText heeds NO_COLOR and what the terminal can do. */
export function paint(state: string): string {
  const colour = colours.find(([, states]) => states.test(state))?.[0]
  return forPeople && colour ? styleText(colour, state) : state
}

/** What a column that may be cut keeps; one that would have less is left out, the last one first. */
const least = 8
/** Cells no wider than this are states, numbers and times, of which a part would say something else. */
const whole = 12
/** A number or a time, of any width. */
const figure = /^(-|none|(in )?\d+(ms|[dhms])?( \d+[hms])?( ago)?)$/

/** People get titles and are spared what the screen has no room for; programs get rows, each beginning with `kind` if given. */
export function table(titles: string[], rows: string[][], kind?: string): void {
  if (!forPeople) return void rows.map((row) => print((kind ? [kind, ...row] : row).map(safe).join('\t')))
  if (rows.length === 0) return void (kind || print('None.'))
  const screen = process.stdout.columns || 80
  const shown = titles.length > 0 ? [titles, ...rows] : rows
  const cells = shown.map((row) => row.map((cell) => safe(cell.slice(0, screen + 1)))) // more is never seen
  const widths = cells[0]!.map((_, x) => Math.max(...cells.map((row) => width(row[x]!))))
  const right = widths.map((_, x) => rows.every((row) => /^\d+$/.test(row[x]!)))
  const figures = widths.map((_, x) => rows.every((row) => figure.test(row[x]!)))
  const cut = fitted(widths, titles, screen, figures)
  for (const row of cells) {
    const there = row.flatMap((cell, x) => (cut[x] === 0 ? [] : [{ title: titles[x] ?? 'STATE', text: fit(cell, cut[x]!, right[x]) }])) // biome-ignore format: long
    const line = there.map(({ title, text }) => (title === 'STATE' ? paint(text) : text)).join('  ')
    print(row === cells[0] && titles.length > 0 ? styleText('bold', line.trimEnd()) : line.trimEnd())
  }
  if (kind) print('')
}

/** The columns' widths on a screen, 0 for one that is left out: the last ones, where those that may be cut are so narrow already. */
export function fitted(widths: number[], titles: string[], screen: number, figures: boolean[] = []): number[] {
  const cut = [...widths]
  const excess = () => cut.reduce((sum, columns) => sum + (columns > 0 ? columns + 2 : 0), -2) - screen
  const soft = cut.flatMap((columns, x) =>
    columns > whole && !figures[x] && !/^(ID|STATE)$/.test(titles[x] ?? '') ? [x] : [],
  )
  const widest = () => soft.reduce((best, x) => (cut[x]! > cut[best]! ? x : best), soft[0]!)
  while (excess() > 0 && soft.length > 0) {
    const last = soft.at(-1)!
    const x = cut[last]! > 2 * least ? last : widest() // the last one is the least
    if (cut[x]! > least) cut[x]!--
    else cut[soft.pop()!] = soft.length === 0 ? least : 0
  }
  for (let x = cut.length - 1; x > 0 && excess() > 0; x--) cut[x] = 0
  cut[0] = Math.max(1, cut[0]! - Math.max(0, excess()))
  return cut
}
