/** After a longer silence the app's thread is asked for a sign of life before it is given jobs, in ms. */
const mostSilence = 100

/** Whether the app's thread lives: a job that is leased for one that hangs would not start. */
export class App {
  /** False where handlers run in the engine's own thread, as in tests. */
  readonly #isAsked: boolean
  readonly #ask: () => void
  /** When it was heard last, on the monotonic clock. */
  #heardAt = Number.POSITIVE_INFINITY
  /** It was asked and has not answered, or an own attempt ran out of time without a word of it. */
  owesASign = false

  /** `ask` sends it a question that it answers with any call. */
  constructor(isAsked: boolean, ask: () => void) {
    this.#isAsked = isAsked
    this.#ask = ask
  }

  /** Something came from it. True when it owed a sign of life. */
  lives(monotonic: number): boolean {
    this.#heardAt = monotonic
    const owed = this.owesASign
    this.owesASign = false
    return owed
  }

  isSilent(monotonic: number): boolean {
    return this.#isAsked && monotonic - this.#heardAt > mostSilence
  }

  mustShowLife(): void {
    if (this.owesASign) return
    this.owesASign = true
    if (this.#isAsked) this.#ask()
  }
}
