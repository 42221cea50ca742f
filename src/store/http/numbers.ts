// Tokens and worker ids as they travel: with the epoch of the file that gave them, since in another file the same number
// would fit by chance.

/** A token or worker id, and the file that it is of. */
export interface Numbered {
  epoch: string
  number: number
}

export const textOf = ({ epoch, number }: Numbered): string => `${epoch}.${number}`

/** What a text says that came over the network; null when it is none of these. */
export function numberedBy(text: string): Numbered | null {
  const [, epoch, number] = /^([0-9a-f]{16})\.(\d{1,16})$/.exec(text) ?? []
  return epoch === undefined ? null : { epoch, number: Number(number) }
}
