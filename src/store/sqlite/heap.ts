/** Numbers of lines by their bounds, lowest first. An entry whose bound is no longer its line's is stale. */
export class Heap {
  readonly #items: { bound: number; i: number }[] = []

  get first(): { bound: number; i: number } | undefined {
    return this.#items[0]
  }

  get size(): number {
    return this.#items.length
  }

  push(bound: number, i: number): void {
    const items = this.#items
    const item = { bound, i }
    let at = items.push(item) - 1
    for (let above = (at - 1) >> 1; at > 0 && items[above]!.bound > bound; above = (at - 1) >> 1) {
      items[at] = items[above]!
      at = above
    }
    items[at] = item
  }

  pop(): void {
    const items = this.#items
    const last = items.pop()
    if (!last || items.length === 0) return
    let at = 0
    for (let below = 1; below < items.length; below = 2 * at + 1) {
      if (below + 1 < items.length && items[below + 1]!.bound < items[below]!.bound) below++
      if (items[below]!.bound >= last.bound) break
      items[at] = items[below]!
      at = below
    }
    items[at] = last
  }
}
