/**
 * What a test of an app needs: begin at `testQueue`.
 * @module gopherqueue/testing
 */

export type { Clock } from '../model/clock.ts'
export { VirtualClock } from './clock.ts'
export { fail, script, sleep, slow } from './handlers.ts'
export { TestQueue, type TestQueueOptions, testQueue } from './queue.ts'
