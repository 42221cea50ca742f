// What doctor says of each thing that it looks at.

/** What was looked at, how it is, and what to do when it is not well. */
export interface Finding {
  name: string
  verdict: 'ok' | 'warn' | 'FAIL'
  says: string
  advice: string | null
}

/** What is not well, and what to do about it. */
export const warn = (advice: string) => ({ verdict: 'warn', advice }) as const
/** What must not stay as it is, and what to do about it. */
export const fail = (advice: string) => ({ verdict: 'FAIL', advice }) as const
/** All is well, unless there is trouble. */
export const found = (
  name: string,
  says: string,
  trouble?: ReturnType<typeof warn | typeof fail> | false,
): Finding => ({
  ...{ name, verdict: 'ok', says, advice: null },
  ...trouble,
})

export const mebibytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MiB`

/** Of a rule that does not hold: the first few that break it. */
export const brokenOf = (holds: string, broken: string[]): string =>
  `not so that ${holds}: ${broken.slice(0, 5).join(', ')}${broken.length > 5 ? ' and more' : ''}`
