import { Cron, CronPattern } from 'croner'
import type { Instant } from './clock.ts'
import { invalid } from './errors.ts'
import { latestInstant, wholeNumber } from './job.ts'
import { shown } from './text.ts'

// Ticks of a cron line in a time zone. croner tells which times of a wall clock the line names; what a change of the clocks
// does to them is decided here, for lines with one time a day and with many alike:
// - times of set hours that are left out come once, at the end of the gap;
// - those that come twice count the first time;
// - a line of every hour runs at all times that there are: none of a gap is made up for, and those that come twice do.

const second = 1000
const week = 7 * 86_400_000
/** A zone that leaves out or repeats more has changed its date: nothing is made up for. */
const mostTurned = 3 * 3_600_000

interface Line {
  /** The next time of a wall clock that the line names, as if that clock showed UTC. */
  wallAfter(wall: number): number | null
  everyHour: boolean
  /** Ms by which the zone's wall clock is ahead of UTC. */
  ahead(at: Instant): number
}

/** A change of a zone's clocks. */
interface Turn {
  at: Instant
  before: number
  after: number
}

/** The next tick after an instant (Unix ms); null when there is none. Throws INVALID_ARGUMENT. */
export function nextTime(cron: string, timezone: string, after: Instant): Instant | null {
  return tickAfter(lineOf(cron, timezone), after)
}

/** The next ticks of a cron line after an instant (Unix ms): up to `count`, at most 10,000, fewer when it ends. Throws INVALID_ARGUMENT. */
export function nextTimes(cron: string, timezone: string, count: number, after: Instant): Instant[] {
  wholeNumber(count, 0, 10_000, 'count')
  wholeNumber(after, -latestInstant, latestInstant, 'after')
  const line = lineOf(cron, timezone)
  const ticks: Instant[] = []
  for (let at: Instant | null = after; ticks.length < count; ticks.push(at)) {
    at = tickAfter(line, at)
    if (at === null) break
  }
  return ticks
}

/** The newest `most` ticks after an instant up to another, oldest first. Its cost does not grow with how many there were. */
export function newestTimes(cron: string, timezone: string, most: number, after: Instant, until: Instant): Instant[] {
  const line = lineOf(cron, timezone)
  if (most === 1) {
    const newest = newestOf(line, after, until)
    return newest === null ? [] : [newest]
  }
  for (let span = most * second; ; span *= 4) {
    const from = Math.max(after, until - span)
    const ticks: Instant[] = []
    for (let at = tickAfter(line, from); at !== null && at <= until; at = tickAfter(line, at)) ticks.push(at)
    if (ticks.length >= most || from === after) return ticks.slice(-most)
  }
}

/** By halving: a week of minutes takes a dozen steps, not ten thousand. */
function newestOf(line: Line, after: Instant, until: Instant): Instant | null {
  const within = (from: Instant): Instant | null => {
    const tick = tickAfter(line, from)
    return tick !== null && tick <= until ? tick : null
  }
  let newest: Instant | null = null
  let [low, high] = [after, until]
  for (let tick = within(low); tick !== null; tick = within(low)) {
    newest = low = tick
    while (high - low > second) {
      const middle = Math.floor((low + high) / 2)
      const later = within(middle)
      if (later !== null) newest = low = later
      else high = middle
    }
  }
  return newest
}

function tickAfter(line: Line, after: Instant): Instant | null {
  const { wallAfter, everyHour, ahead } = line
  let from = after
  let offset = ahead(from)
  let wall = from + offset
  const last = everyHour ? null : firstTurn(line, after - mostTurned, after)
  if (last && isShort(last)) wall = Math.max(wall, last.at + last.before - second) // else times would count a second time
  for (;;) {
    const next = wallAfter(wall)
    if (next === null) return null
    const turn = firstTurn(line, from, next - offset)
    if (!turn) return next - offset
    const { at, before, after } = turn
    const makesUp = !everyHour && isShort(turn)
    if (makesUp && next < at + after) return at // in the gap: the first instant that there is
    wall = at + (makesUp ? Math.max(before, after) : after) - second
    from = at
    offset = after
  }
}

const isShort = ({ before, after }: Turn): boolean => Math.abs(after - before) <= mostTurned

/** The first change of the clocks after an instant up to another. No zone changes them twice in a week. */
function firstTurn({ ahead }: Line, from: Instant, to: Instant): Turn | null {
  const before = ahead(from)
  for (let low = from; low < to; ) {
    let high = Math.min(low + week, to)
    if (ahead(high) === before) {
      low = high
      continue
    }
    while (high - low > second) {
      const middle = Math.floor((low + high) / 2 / second) * second
      if (middle <= low) break
      if (ahead(middle) === before) low = middle
      else high = middle
    }
    const at = Math.floor(high / second) * second // zones change at whole seconds
    return { at, before, after: ahead(at) }
  }
  return null
}

/** The line that was read last: to read one takes as long as ten ticks of it, and 160 KB. */
let latest: { cron: string; timezone: string; line: Line } | undefined

function lineOf(cron: string, timezone: string): Line {
  for (const text of [cron, timezone])
    if (typeof text !== 'string') throw invalid(`A schedule's line and its time zone are texts; got ${shown(text)}.`)
  if (latest?.cron === cron && latest.timezone === timezone) return latest.line
  try {
    const line = read(cron, timezone)
    latest = { cron, timezone, line }
    return line
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error)
    const reason = /exactly five, six, or seven/.test(said) ? wrongFields(fieldsOf(cron)) : said // a seventh is not taken here
    throw invalid(`'${cron}' in time zone '${timezone}' cannot be read as a schedule: ${reason.replace(/\.?$/, '.')}`)
  }
}

const fieldsOf = (cron: string): number => cron.trim().split(/\s+/).length

const wrongFields = (fields: number): string =>
  `it has ${fields} field${fields === 1 ? '' : 's'}; a line has five, or six with seconds first`

function read(cron: string, timezone: string): Line {
  const fields = fieldsOf(cron)
  if (fields > 6) throw new Error(wrongFields(fields)) // croner takes a seventh, of years
  const ahead = aheadIn(timezone)
  const walls = new Cron(cron, { utcOffset: 0, paused: true }) // four times as fast as in a named zone
  if (walls.getOnce()) {
    const once = new Cron(cron, { timezone, paused: true }).getOnce()!.getTime()
    return { wallAfter: (at) => (once > at ? once : null), everyHour: true, ahead: () => 0 }
  }
  const everyHour = new CronPattern(cron).hour.every(Boolean)
  const wallAfter: Line['wallAfter'] = (wall) =>
    walls.nextRun(new Date(Math.floor(wall / second) * second))?.getTime() ?? null
  return { wallAfter, everyHour, ahead }
}

/** By zone: to make a formatter costs a thousand times as much as to use it. There are a few hundred zones. */
const formats = new Map<string, Intl.DateTimeFormat>()
const parts = { year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' } as const // biome-ignore format: a table

function aheadIn(timezone: string): (at: Instant) => number {
  let format = formats.get(timezone)
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', { timeZone: timezone, hourCycle: 'h23', ...parts })
    formats.set(timezone, format)
  }
  return (at) => {
    const [month, day, year, hour, minute, seconds] = format.format(at).match(/\d+/g)!.map(Number) as number[]
    return Date.UTC(year!, month! - 1, day, hour, minute, seconds) - Math.floor(at / second) * second
  }
}
