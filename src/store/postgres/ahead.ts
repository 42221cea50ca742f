import type { Done, Sent } from './client-thread.ts'

const nameOf = ({ text, values }: Sent): string => `${text}\0${JSON.stringify(values)}`
const changesNothing = /^\s*(SELECT|BEGIN|SAVEPOINT|RELEASE)\b/

/**
 * Reads that the engine is about to make. They are sent with the next statement that is waited for, and answered from memory
 * when the engine makes them: a round trip takes longer than what is read. A write of the transaction itself makes their
 * answers out of date; others cannot write meanwhile.
 */
export class Ahead {
  readonly #asked = new Map<string, Sent>()
  readonly #known = new Map<string, Done>()

  ask(sent: Sent): void {
    this.#asked.set(nameOf(sent), sent)
  }

  isAsked(sent: Sent): boolean {
    return this.#asked.size > 0 && this.#asked.has(nameOf(sent))
  }

  /** What is to be sent now. */
  take(): Sent[] {
    const asked = [...this.#asked.values()]
    this.#asked.clear()
    return asked
  }

  answered(asked: Sent[], answers: Done[]): void {
    for (const [i, sent] of asked.entries()) this.#known.set(nameOf(sent), answers[i]!)
  }

  answerTo(sent: Sent): Done | undefined {
    return this.#known.size > 0 ? this.#known.get(nameOf(sent)) : undefined
  }

  /** This is sent before anything is read again. */
  sends({ text }: Sent): void {
    if (text === 'COMMIT') this.#asked.clear() // what was not read by now is not read
    if (this.#known.size > 0 && !changesNothing.test(text)) this.#known.clear()
  }

  /** What the transaction did is taken back. */
  forget(): void {
    this.#asked.clear()
    this.#known.clear()
  }
}
