// node docs/site/states.ts: draws docs/states.svg and docs/states-dark.svg from src/model/lifecycle.ts. Where things stand is
// said here; what there is to draw is not: a state or an event without a place, or a place without one, is an error.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lifecycle, type State, states } from '../../src/model/lifecycle.ts'

const places: Record<State, [x: number, y: number, hue: 'wait' | 'warn' | 'accent' | 'good' | 'bad' | 'dim']> = {
  scheduled: [290, 90, 'wait'],
  ready: [290, 210, 'warn'],
  running: [290, 360, 'accent'],
  cancelled: [125, 515, 'dim'],
  dead: [290, 515, 'bad'],
  succeeded: [455, 515, 'good'],
}

/** From a state, or from any of several, by events, along a path, named at a point. */
const ways: {
  from: State[]
  events: string[]
  path: string
  label: [x: number, y: number, anchor?: 'end' | 'middle']
}[] = [
  { from: ['scheduled'], events: ['due', 'runNow'], path: 'M290,112 V186', label: [298, 146] },
  {
    from: ['scheduled', 'ready'],
    events: ['cancel'],
    path: 'M208,130 C120,130 110,230 110,491',
    label: [104, 420, 'end'],
  },
  {
    from: ['scheduled', 'ready'],
    events: ['expire', 'refuse'],
    path: 'M232,250 C198,320 204,420 254,491',
    label: [206, 330, 'end'],
  },
  { from: ['ready'], events: ['lease'], path: 'M290,232 V336', label: [298, 300] },
  { from: ['running'], events: ['release', 'reclaim'], path: 'M335,338 C360,310 360,262 337,234', label: [361, 290] },
  {
    from: ['running'],
    events: ['retryLater', 'postpone'],
    path: 'M350,350 C510,330 510,110 352,90',
    label: [477, 212],
  },
  { from: ['running'], events: ['requestCancel'], path: 'M350,362 C412,352 412,396 349,374', label: [402, 380] },
  { from: ['running'], events: ['abort'], path: 'M244,382 L162,491', label: [176, 452, 'end'] },
  { from: ['running'], events: ['giveUp'], path: 'M290,382 V491', label: [298, 444] },
  { from: ['running'], events: ['succeed'], path: 'M330,382 L430,491', label: [396, 440] },
  { from: ['cancelled', 'dead'], events: ['retry'], path: 'M48,515 C4,440 4,222 228,212', label: [34, 372] },
  { from: ['cancelled'], events: ['remove'], path: 'M125,537 V586', label: [133, 574] },
  { from: ['dead'], events: ['remove'], path: 'M290,537 V586', label: [298, 574] },
  { from: ['succeeded'], events: ['remove'], path: 'M455,537 V586', label: [463, 574] },
]

const palettes = {
  'states.svg': {
    wait: '#6b4fa8',
    warn: '#835400',
    accent: '#1f5fbf',
    good: '#1a6e38',
    bad: '#b3261e',
    dim: '#5b6470',
    text: '#1c2128',
    sheet: '#f5f6f8',
  },
  'states-dark.svg': {
    wait: '#b79df0',
    warn: '#e2ae4a',
    accent: '#74aaf7',
    good: '#67c987',
    bad: '#ff8a80',
    dim: '#97a1ae',
    text: '#dde2e9',
    sheet: '#1b1f26',
  },
}

/** The pictures, by name. Throws when they and the table of states do not fit. */
export function drawStates(): Record<string, string> {
  const drawn = ways.flatMap(({ from, events }) => from.flatMap((state) => events.map((event) => `${state} ${event}`)))
  const there = states.flatMap((state) => Object.keys(lifecycle[state]).map((event) => `${state} ${event}`))
  const odd = [...there.filter((way) => !drawn.includes(way)), ...drawn.filter((way) => !there.includes(way))]
  if (odd.length > 0) throw new Error(`docs/site/states.ts does not fit src/model/lifecycle.ts: ${odd.join(', ')}`)
  return Object.fromEntries(Object.entries(palettes).map(([name, palette]) => [name, draw(palette)]))
}

function draw(color: (typeof palettes)['states.svg']): string {
  const group = (x: number, y: number, width: number, height: number) =>
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="12" fill="none" stroke="${color.dim}" stroke-dasharray="4 4"/>`
  const line = (path: string) =>
    `<path d="${path}" fill="none" stroke="${color.dim}" stroke-width="1.5" marker-end="url(#head)"/>`
  const text = (x: number, y: number, words: string, anchor = 'start', fill = color.text) =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="${fill}">${words}</text>`
  const arrows = ways.flatMap(({ events, path, label: [x, y, anchor] }) => [
    line(path),
    ...events.map((event, i) => text(x, y + 17 * i, event, anchor)),
  ])
  const boxes = states.map((state) => {
    const [x, y, hue] = places[state]
    return `<rect x="${x - 60}" y="${y - 22}" width="120" height="44" rx="8" fill="${color.sheet}" stroke="${color[hue]}" stroke-width="2"/>${text(x, y + 5, state, 'middle', color[hue])}`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 600" width="560" height="600" font-family="system-ui, sans-serif" font-size="15">
<title>The states of a job, and what leads from one to another</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 Z" fill="${color.dim}"/></marker></defs>
${[group(208, 52, 164, 196), group(48, 479, 318, 72), line('M290,8 V50'), text(300, 30, 'submit'), ...arrows, ...boxes].join('\n')}
</svg>
`
}

if (import.meta.main)
  for (const [name, svg] of Object.entries(drawStates())) writeFileSync(join(import.meta.dirname, '..', name), svg)
