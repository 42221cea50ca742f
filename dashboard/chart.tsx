import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { now } from './api.ts'
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

/** Lines over time, with a summary in words for who cannot see them.  */
export function Chart({ title, unit, minutes, at, lines }: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
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
        padding: [8, 4, 0, 0],
        cursor: { drag: { x: false, y: false } },
        scales: {
          x: { range: () => [now() / 1000 - minutes * 60, now() / 1000] },
          y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] },
        },
        axes: [{ ...axis, values: '{HH}:{mm}', space: 60, size: 26 } as uPlot.Axis, { ...axis, size: 44 }],
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
  useEffect(() => plot.current?.setData(data), [at.at(-1), at.length])
  useEffect(() => plot.current?.redraw(), [document.documentElement.style.colorScheme])
  const last = (line: Line) => line.values.at(-1)?.toLocaleString('en', { maximumFractionDigits: 1 }) ?? '–'
  const summary = `${title}: ${lines.map((line) => `${line.name} ${last(line)} ${unit}`).join(', ')} at last`
  return (
    <figure>
      <figcaption>
        {title} <span class="dim">{unit}</span>
        {lines.map((line) => (
          <span key={line.name} class={`ink ${line.color}`}>
            {line.name} {last(line)}
          </span>
        ))}
      </figcaption>
      <div ref={box} class="plot" role="img" aria-label={summary} />
    </figure>
  )
}
