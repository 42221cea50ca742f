import { existsSync } from 'node:fs'
import type { ActiveJob } from '../../src/index.ts'

/** Computes without a pause until somebody else makes a file. */
export default ({ id, payload }: ActiveJob<string>) => {
  new BroadcastChannel('threads.test').postMessage(id)
  while (!existsSync(payload));
}
