import { randomUUID } from 'node:crypto'

// The text of an answer: what is stored as JSON goes into it as it is, since to parse several megabytes and to write them again
// stops the event loop for a tenth of a second and more.

/** Stands for a text until the whole is there. Nobody outside can name it. */
const mark = randomUUID()
let texts: string[] = []

/** A value as its JSON text. */
export class Stored {
  readonly json: string

  constructor(json: string) {
    this.json = json
  }

  toJSON(): string {
    texts.push(this.json)
    return mark
  }
}

/** JSON of an answer. */
export function textOf(answer: unknown): string {
  texts = []
  const [first, ...rest] = JSON.stringify(answer).split(`"${mark}"`)
  let text = first!
  for (const [i, piece] of rest.entries()) text += texts[i]! + piece
  texts = []
  return text
}
