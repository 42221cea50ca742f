import type { RefObject } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { number, type Row } from './parts.tsx'

/** Whether the pointer is down in an element, or text in it is selected. */
function useHand(of: RefObject<HTMLElement | null>): boolean {
  const [isDown, setDown] = useState(false)
  const [isSelected, setSelected] = useState(false)
  useEffect(() => {
    const isIn = (node: Node | null) => node !== null && (of.current?.contains(node) ?? false)
    const down = ({ target }: Event) => setDown(isIn(target as Node))
    const up = () => setDown(false)
    const select = () => {
      const selection = getSelection()
      setSelected(selection?.isCollapsed === false && isIn(selection.anchorNode))
    }
    const heard = { pointerdown: down, pointerup: up, pointercancel: up, selectionchange: select }
    for (const [name, hear] of Object.entries(heard)) document.addEventListener(name, hear)
    return () => {
      for (const [name, hear] of Object.entries(heard)) document.removeEventListener(name, hear)
    }
  }, [])
  return isDown || isSelected
}

/**
 * Rows of a list that changes, in their places while some are selected or the hand is on them: a row that moves would have
 * another one retried or removed. What is no longer in the list stays as it was last. With what leads on to the list as it is.
 */
export function useHeld(rows: Row[], isChosen: boolean, of: RefObject<HTMLElement | null>) {
  const hand = useHand(of)
  const held = useRef(rows)
  const [, show] = useState(0)
  if (!isChosen && !hand) held.current = rows
  const fresh = new Map(rows.map((row) => [row[0], row]))
  held.current = held.current.map((row) => fresh.get(row[0]) ?? row)
  const keys = new Set(held.current.map(([key]) => key))
  const added = rows.filter(([key]) => !keys.has(key)).length
  const gone = held.current.length - (rows.length - added)
  const moved = added + gone === 0 && rows.some(([key], i) => key !== held.current[i]![0])
  const release = () => {
    held.current = rows
    show((n) => n + 1)
  }
  const said = [added > 0 && `${number(added)} new`, gone > 0 && `${number(gone)} gone`, moved && 'another order']
  const bar = (added > 0 || gone > 0 || moved) && (
    <p class="actions">
      <span role="status">The list keeps still while you select: {said.filter(Boolean).join(', ')}.</span>
      <button type="button" onClick={release}>
        Show
      </button>
    </p>
  )
  return { shown: held.current, bar }
}
