import { type ComponentChildren, options, type VNode } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { CallError, type Data, now } from './api.ts'
import { useHeld } from './held.tsx'

// The few pieces that all pages are made of.

const numbers = new Intl.NumberFormat('en')
export const number = (value: number): string => numbers.format(value)

export function bytes(value: number): string {
  const unit = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10))
  return `${(value / 1024 ** unit).toFixed(unit > 0 && value / 1024 ** unit < 100 ? 1 : 0)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`
}

const units = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000]] as const // biome-ignore format: a table

/** In its two largest units: '3 min 5 s'. */
export function span(ms: number): string {
  const at = units.findIndex(([, size]) => Math.abs(ms) >= size)
  if (at === -1) return `${Math.round(ms)} ms`
  const [unit, size] = units[at]!
  if (unit === 's') return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`
  const [small, smallSize] = units[at + 1]!
  const rest = Math.floor((ms % size) / smallSize)
  return `${Math.floor(ms / size)} ${unit}${rest > 0 ? ` ${rest} ${small}` : ''}`
}

const exact = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' })

/** Relative to now, exact on hover. */
export function Time({ at, none = '–' }: { at: number | null | undefined; none?: string }) {
  if (at == null) return <span class="dim">{none}</span>
  const away = at - now()
  const said = Math.abs(away) < 1000 ? 'now' : away < 0 ? `${short(-away)} ago` : `in ${short(away)}`
  return (
    <time dateTime={new Date(at).toISOString()} title={exact.format(at)}>
      {said}
    </time>
  )
}

const short = (ms: number): string => span(Math.round(ms / 1000) * 1000).replace(/\.0 s$/, ' s')

/** A state by colour and word. */
export const State = ({ state, also }: { state: string; also?: string | null }) => (
  <span class={`state ${state}`}>
    {state}
    {also && <small> {also}</small>}
  </span>
)

export const Notice = ({ error }: { error: CallError | undefined }) =>
  error ? (
    <p class="notice" role="alert">
      <b>{error.code}</b> {error.message}
    </p>
  ) : null

/** What a page shows of a call: its failure, that it is under way, or what it answered (perhaps an older answer). */
export function Loaded<T>({ data, children }: { data: Data<T>; children: (value: T) => ComponentChildren }) {
  return (
    <>
      <Notice error={data.error} />
      {data.error && data.value !== undefined && (
        <p class="dim">
          As of <Time at={data.at} />:
        </p>
      )}
      {data.value !== undefined ? children(data.value) : !data.error && <p class="dim">Loading…</p>}
    </>
  )
}

/** What it is of, whatever moves it to another place, then its cells: a button keeps to its row. */
export type Row = [key: string | number, ...cells: ComponentChildren[]]
/** Column heads: a leading '#' aligns numbers, a leading '-' leaves the column out where there is little room. */
export function Table({
  label,
  heads,
  rows,
  empty,
  selection,
}: {
  label: string
  heads: string[]
  rows: Row[]
  empty: ComponentChildren
  /** Rows may be selected: these are, by their keys. */
  selection?: Selection | undefined
}) {
  const section = useRef<HTMLElement>(null)
  const { shown, bar } = useHeld(rows, (selection?.keys.size ?? 0) > 0, section)
  if (shown.length === 0) return <p class="empty">{empty}</p>
  const classes = heads.map((head) => ({ '#': 'number', '-': 'wide', '+': 'number wide' })[head[0]!])
  return (
    <>
      <section ref={section} class="scroll" tabIndex={0} aria-label={label}>
        <table>
          <thead>
            <tr>
              {selection && (
                <Select all={shown.map(([key]) => key)} of={selection} label="all of this page" cell="th" />
              )}
              {heads.map((head, i) => (
                <th key={head} scope="col" class={classes[i]}>
                  {head.replace(/^[#+-]/, '') || <span class="hidden">Actions</span>}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map(([key, ...cells]) => (
              <tr key={key}>
                {selection && <Select all={[key]} of={selection} label={`${key}`} cell="td" />}
                {cells.map((cell, x) => (
                  <td key={heads[x]} class={classes[x]}>
                    {cell}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {bar}
    </>
  )
}

export interface Selection {
  keys: ReadonlySet<Row[0]>
  select: (keys: ReadonlySet<Row[0]>) => void
}

/** A box that stands for some rows. */
function Select({ all, of, label, cell: Cell }: { all: Row[0][]; of: Selection; label: string; cell: 'th' | 'td' }) {
  const some = all.filter((key) => of.keys.has(key)).length
  const toggle = () => of.select(some === all.length ? of.keys.difference(new Set(all)) : of.keys.union(new Set(all)))
  return (
    <Cell class="select">
      <label>
        <span class="hidden">Select {label}</span>
        <input
          type="checkbox"
          checked={some === all.length}
          indeterminate={some > 0 && some < all.length}
          onChange={toggle}
        />
      </label>
    </Cell>
  )
}

export const Facts = ({ facts }: { facts: [string, ComponentChildren, hint?: string][] }) => (
  <dl class="facts">
    {facts.map(([name, value, hint]) => (
      <div key={name} title={hint}>
        <dt>{name}</dt>
        <dd>{value}</dd>
      </div>
    ))}
  </dl>
)

/** Marks that turn the direction of what follows, or show nothing, by their numbers. */
const visible = (text: string): string =>
  text.replace(/[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`) // biome-ignore format: long

/** Of every text of the page and every name of a part of it: a type's name must not look like another, or rewrite a question. */
options.vnode = (vnode: VNode<Record<string, unknown>> | { type: null; props: unknown }) => {
  if (vnode.type === null) vnode.props = typeof vnode.props === 'string' ? visible(vnode.props) : vnode.props
  else if (typeof vnode.type === 'string')
    for (const name of ['aria-label', 'title'])
      if (typeof vnode.props[name] === 'string') vnode.props[name] = visible(vnode.props[name])
}

/** What is shown as it is: text, and never markup. */
export const Text = ({ label, children }: { label: string; children: string }) => (
  <section class="text" tabIndex={0} aria-label={label}>
    <pre>{children}</pre>
  </section>
)

export const Json = ({ label, value }: { label: string; value: unknown }) => (
  <Text label={label}>{JSON.stringify(value, null, 2)}</Text>
)

interface ActProps {
  children: ComponentChildren
  /** Asked before it is done, with what follows from it. */
  confirm?: string
  danger?: boolean
  /** Where more than the label is needed to tell which. */
  label?: string
  /** May tell how far it is. */
  act: (tell: (progress: string) => void) => Promise<unknown>
}

/** A button that does one thing: asks first where that is wise, shows that it is under way, and what it failed with. */
export function Act({ children, confirm, danger, label, act }: ActProps) {
  const [busy, setBusy] = useState<string | null>(null)
  const [error, setError] = useState<CallError>()
  const [asking, setAsking] = useState(false)
  const go = async () => {
    setAsking(false)
    setBusy('…')
    setError(undefined)
    await act(setBusy).catch((failure) =>
      setError(failure instanceof CallError ? failure : new CallError('PAGE', String(failure))),
    )
    setBusy(null)
  }
  return (
    <>
      <button
        type="button"
        class={danger ? 'danger' : ''}
        aria-disabled={busy !== null}
        aria-label={busy === null ? label : undefined}
        onClick={() => busy === null && (confirm ? setAsking(true) : go())}
      >
        {busy ?? children}
      </button>
      {asking && (
        <Dialog title={label ?? String(children)} close={() => setAsking(false)}>
          <p>{confirm}</p>
          <button type="button" class={danger ? 'danger main' : 'main'} onClick={go}>
            {children}
          </button>
        </Dialog>
      )}
      <Notice error={error} />
    </>
  )
}

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement as HTMLElement
    dialog.current!.showModal()
    return () => before.focus()
  }, [])
  return (
    <dialog ref={dialog} aria-label={title} onClose={close}>
      <h2>{title}</h2>
      {children}
      <button type="button" onClick={close}>
        Go back
      </button>
    </dialog>
  )
}
