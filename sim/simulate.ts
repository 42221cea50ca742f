import type { Files } from './machine.ts'
import { World } from './world.ts'

export interface Result {
  /** One line for each call of an engine that did something; nothing in it depends on real time. */
  trace: string[]
  counts: Record<string, number>
  failure: { step: number; rule: string } | null
}

/** Runs one seed from start to end. `rewrite` changes each statement on its way to SQLite: for tests that spoil the engine. */
export function simulate(
  seed: number,
  files: Files,
  { steps = 200, rewrite }: { steps?: number; rewrite?: (sql: string) => string } = {},
): Result {
  const world = new World(seed, files.renew(), rewrite)
  let failure: Result['failure'] = null
  try {
    world.run(steps)
  } catch (error) {
    const rule =
      error instanceof Error ? (error.constructor.name === 'Broken' ? error.message : error.stack!) : String(error)
    failure = { step: world.step, rule }
  } finally {
    world.close()
  }
  return { trace: world.trace, counts: world.counts, failure }
}
