import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Event, isTerminal, lifecycle, next, type State, states } from '../../src/model/lifecycle.ts'

/** Section 2 of the contract, row by row: event, from, to. Null is gone. Not written from the code. */
const contract: [Event, State[], State | null][] = [
  ['due', ['scheduled'], 'ready'],
  ['runNow', ['scheduled'], 'ready'],
  ['lease', ['ready'], 'running'],
  ['succeed', ['running'], 'succeeded'],
  ['retryLater', ['running'], 'scheduled'],
  ['giveUp', ['running'], 'dead'],
  ['postpone', ['running'], 'scheduled'],
  ['reclaim', ['running'], 'ready'],
  ['release', ['running'], 'ready'],
  ['cancel', ['scheduled', 'ready'], 'cancelled'],
  ['requestCancel', ['running'], 'running'],
  ['abort', ['running'], 'cancelled'],
  ['expire', ['scheduled', 'ready'], 'dead'],
  ['refuse', ['scheduled', 'ready'], 'dead'],
  ['retry', ['dead', 'cancelled'], 'ready'],
  ['remove', ['succeeded', 'dead', 'cancelled'], null],
]
const events = contract.map(([event]) => event)
const terminal: State[] = ['succeeded', 'dead', 'cancelled']

/** All states that can follow `from`, by any number of events. */
function reachable(from: State): Set<State> {
  const found = new Set<State>()
  const open = [from]
  for (let state = open.pop(); state; state = open.pop())
    for (const event of events) {
      const to = next(state, event)
      if (!to || found.has(to)) continue
      found.add(to)
      open.push(to)
    }
  return found
}

test('the table is the one of the contract: each state x event pair, allowed or refused', () => {
  for (const state of states)
    for (const [event, from, to] of contract)
      assert.equal(next(state, event), from.includes(state) ? to : undefined, `${state} x ${event}`)
})

test('the table has no event that the contract lacks', () => {
  const used = new Set(Object.values(lifecycle).flatMap((row) => Object.keys(row)))
  assert.deepEqual([...used].sort(), [...events].sort())
})

test('the states are the six of the contract, three of them terminal', () => {
  assert.deepEqual([...states].sort(), ['cancelled', 'dead', 'ready', 'running', 'scheduled', 'succeeded'])
  assert.deepEqual(states.filter(isTerminal).sort(), [...terminal].sort())
})

test('every state that is not terminal leads to running and to each terminal state', () => {
  for (const state of states.filter((s) => !isTerminal(s))) {
    const ends = reachable(state)
    for (const goal of ['running', ...terminal] as const) assert.ok(ends.has(goal), `${state} never reaches ${goal}`)
  }
})

test('what succeeded never runs again; dead and cancelled do, by retry alone', () => {
  assert.equal(reachable('succeeded').size, 0)
  for (const state of ['dead', 'cancelled'] as const)
    assert.deepEqual(
      events.filter((event) => next(state, event) !== undefined),
      ['retry', 'remove'],
    )
})

test('random events never lead to a state that the table lacks, and running is entered by lease alone', () => {
  fc.assert(
    fc.property(fc.constantFrom<State>('ready', 'scheduled'), fc.array(fc.constantFrom(...events)), (first, steps) => {
      let state: State = first
      for (const event of steps) {
        const to = next(state, event)
        if (to === null) return
        if (to === undefined) continue // refused: nothing changes
        assert.ok(Object.hasOwn(lifecycle, to))
        if (to === 'running' && state !== 'running') assert.deepEqual([state, event], ['ready', 'lease'])
        state = to
      }
    }),
  )
})
