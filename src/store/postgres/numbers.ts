/** Numbers of a block; the schema's gq_blocks counts in the same steps. */
export const block = 1000

const endOf = (number: number): number => (Math.floor(number / block) + 1) * block - 1

/**
 * Ids of jobs and event numbers, given one after the other under the writers' lock. They are taken in blocks, of which an app's
 * transaction takes one for each job that it inserts: when it has, the numbers go on after that job's id.
 */
export class Numbers {
  /** The last one given. */
  last = 0
  /** The last one of the blocks that are this transaction's. */
  #end = 0
  #saved = 0
  readonly #nextBlock: () => number

  /** `nextBlock`: takes another block; answers its first number. */
  constructor(nextBlock: () => number) {
    this.#nextBlock = nextBlock
  }

  /** A transaction begins: the last number that a committed one has given, and the block that was taken since somebody else took one. */
  begin(last: number, taken: number | null): void {
    this.last = taken ?? last
    this.#end = endOf(this.last)
  }

  /** Sees to it that the next so many follow each other. */
  reserve(count: number): void {
    while (this.last + count > this.#end) {
      const first = this.#nextBlock()
      if (first !== this.#end + 1) this.last = first // so that the last one given tells whose block it is in
      this.#end = first + block - 1
    }
  }

  next(): number {
    this.reserve(1)
    return ++this.last
  }

  save(): void {
    this.#saved = this.last
  }

  back(): void {
    this.begin(this.#saved, null)
  }
}
