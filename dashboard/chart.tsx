import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { now } from './api.ts'
import { span } from './parts.tsx'
import 'uplot/dist/uPlot.min.css'

/** A line over time: its name, the CSS variable of its colour, its values. */
export interface Line {
  name: string
  color: string
  values: (number | null)[]
}

/** The colour that an element of the class has now: in this theme. */
function colorOf(name: string): string {
  const probe = document.createElement('i')
  probe.className = `ink ${name}`
  document.body.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

interface ChartProps {
  title: string
  unit: string
  /** How far back it shows. */
  minutes: number
  /** Unix ms of the values. */
  at: number[]
  lines: Line[]
}

const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

/** What the chart shows up to: one burst must not flatten all the rest. */
function ceiling(lines: Line[]): { top: number; peak: number } {
  const values = lines.flatMap((line) => line.values.filter((value) => value !== null)).sort((a, b) => a - b)
  const peak = values.at(-1) ?? 0
  const usual = values[Math.floor(values.length * 0.95)] ?? 0
  return { top: usual > 0 && peak > 10 * usual ? 4 * usual : peak, peak }
}

/** Lines over time, with a summary in words for who cannot see them.  */
export function Chart({ title, unit, minutes, at, lines }: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const ceilings = useRef(1)
  const { top, peak } = ceiling(lines)
  ceilings.current = top
  const label = (value: number) => (unit === 's' ? span(value * 1000) : short.format(value))
  const data = [at.map((ms) => ms / 1000), ...lines.map(({ values }) => values)] as uPlot.AlignedData
  useEffect(() => {
    const axis = {
      stroke: () => colorOf('dim'),
      grid: { stroke: () => colorOf('line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    }
    const size = () => ({ width: box.current!.clientWidth, height: 150 })
    const made = new uPlot(
      {
        ...size(),
        legend: { show: false },
        padding: [8, 18, 0, 0], // half of the last time's text
        cursor: { drag: { x: false, y: false } },
        scales: {
          x: { range: () => [now() / 1000 - minutes * 60, now() / 1000] },
          y: { range: () => [0, unit === 's' ? ceilings.current * 1.1 || 1 : Math.max(1, ceilings.current * 1.1)] },
        },
        axes: [
          { ...axis, values: minutes > 2 * 1440 ? '{D} {MMM}' : '{HH}:{mm}', space: 60, size: 26 } as uPlot.Axis,
          { ...axis, size: 56, values: (_, ticks) => ticks.map(label) },
        ],
        series: [{}, ...lines.map(({ color }) => ({ stroke: () => colorOf(color), width: 1.5, points: { size: 3 } }))],
      },
      data,
      box.current!,
    )
    plot.current = made
    const observer = new ResizeObserver(() => box.current && made.setSize(size()))
    observer.observe(box.current!)
    return () => {
      observer.disconnect()
      made.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [at.at(-1), at.length, lines.map(({ values }) => values.at(-1)).join()])
  useEffect(() => plot.current?.redraw(), [document.documentElement.style.colorScheme])
  const last = (line: Line) => {
    const value = line.values.at(-1)
    return value == null
      ? '–'
      : unit === 's'
        ? span(value * 1000)
        : value.toLocaleString('en', { maximumFractionDigits: 1 })
  }
  const of = unit === 's' ? '' : ` ${unit}`
  const summary = `${title}: ${lines.map((line) => `${line.name} ${last(line)}${of}`).join(', ')} at last`
  return (
    <figure>
      <figcaption>
        {title} <span class="dim">{unit === 's' ? '' : unit}</span>
        {lines.map((line) => (
          <span key={line.name} class={`ink ${line.color}`}>
            {line.name} {last(line)}
          </span>
        ))}
        {peak > top && <span class="dim">cut off: a peak of {label(peak)}</span>}
      </figcaption>
      <div ref={box} class="plot" role="img" aria-label={summary} />
    </figure>
  )
}
