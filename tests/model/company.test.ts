import assert from 'node:assert/strict'
import { test } from 'node:test'
import { afterLoss, type Candidate, drains, gateOf, type LostJob, type Verdict } from '../../src/model/company.ts'

const fresh: LostJob = { tries: 1, maxAttempts: 3, company: null, losses: 0 }

/** What is lost, beside how many others (null: no evidence), and: charged, company, losses, becomes. */
const table: [Partial<LostJob>, number | null, [boolean, number | null, number, string]][] = [
  [{}, 0, [true, null, 1, 'ready']],
  [{ losses: 1, tries: 2 }, 0, [true, null, 2, 'scheduled']],
  [{ losses: 2, tries: 3 }, 0, [true, null, 3, 'dead']],
  [{ losses: 0, tries: 3 }, 0, [true, null, 1, 'dead']],
  [{ company: 0 }, 0, [true, 0, 1, 'ready']],
  [{ company: 1 }, 0, [true, 1, 1, 'ready']], // beside one other the next time, perhaps
  [{}, 1, [false, 0, 0, 'ready']],
  [{}, 2, [false, 1, 0, 'ready']],
  [{}, 3, [false, 1, 0, 'ready']],
  [{}, 99, [false, 49, 0, 'ready']],
  [{ company: 12 }, 99, [false, 6, 0, 'ready']], // the 87 beyond its company were handlers that went on
  [{ company: 12 }, 12, [false, 6, 0, 'ready']],
  [{ tries: 3 }, 9, [false, 4, 0, 'ready']],
  [{ losses: 1 }, 9, [false, 4, 1, 'ready']],
  [{}, null, [false, null, 0, 'ready']],
  [{ company: 4, losses: 1, tries: 3 }, null, [false, 4, 1, 'ready']],
  [{ maxAttempts: 1 }, 0, [true, null, 1, 'dead']],
  [{ maxAttempts: 1 }, 9, [true, 4, 0, 'dead']],
  [{ maxAttempts: 1 }, null, [true, null, 0, 'dead']],
]

for (const [job, others, expected] of table)
  test(`a loss of ${JSON.stringify(job)} beside ${others} others`, () => {
    const { charged, company, losses, becomes } = afterLoss({ ...fresh, ...job }, others)
    assert.deepEqual([charged, company, losses, becomes], expected)
  })

test('of n jobs lost beside each other, log2(n) + 1 deaths single one out', () => {
  for (const slots of [1, 2, 3, 10, 64, 100]) {
    let job: LostJob = { ...fresh, maxAttempts: 2 }
    let uncharged = 0
    for (let others = slots - 1; ; others = Math.min(slots - 1, job.company!)) {
      const { charged, company, losses } = afterLoss(job, others)
      if (charged) break
      job = { ...job, company, losses }
      uncharged++
    }
    assert.ok(uncharged <= Math.floor(Math.log2(slots)) + 1, `${uncharged} for ${slots}`)
  }
})

test('a process that holds jobs back lets higher classes pass for 5 s, none for 5 s, then for 10 s, none for 20 s', () => {
  const spans: [number, boolean][] = [[0, false], [4999, false], [5000, true], [9999, true], [10_000, false], [19_999, false], [20_000, true], [39_999, true], [40_000, false], [80_000, true]] // biome-ignore format: a table
  for (const [ms, expected] of spans) assert.equal(drains(ms), expected, `${ms} ms`)
})

const one = (id: number, company: number | null = null, priority = 2): Candidate => ({ id, priority, company })

/** Jobs that run, the least company of these, the job that others wait for, the candidates, and what becomes of each. */
const gates: [number, number | null, Candidate | null, Candidate[], Verdict[]][] = [
  [9, null, null, [one(1), one(2)], ['take', 'take']],
  [1, 2, null, [one(1), one(2), one(3)], ['take', 'take', 'stop']], // what runs allows two others
  [0, null, null, [one(1, 0)], ['take']],
  [0, null, null, [one(1, 1), one(2), one(3)], ['take', 'take', 'stop']], // what was taken limits those after it
  [1, null, null, [one(1, 0)], ['wait']],
  [0, null, null, [one(1), one(2, 0)], ['take', 'wait']],
  [1, 0, null, [one(1, 5)], ['stop']], // no room beside the other, not for its own company
  [1, null, one(5, 0), [one(6), one(4), one(7, null, 1)], ['pass', 'take', 'take']], // older ones and higher classes pass
  [0, null, one(5, 0), [one(5, 0), one(6)], ['take', 'stop']],
  [0, null, one(5, 3), [one(6), one(5, 3), one(6)], ['pass', 'take', 'take']], // it has its room: the others follow
]

for (const [held, least, awaited, candidates, expected] of gates)
  test(`a process of ${held} jobs, company ${least}, awaiting ${awaited?.id}: ${expected.join(', ')}`, () =>
    assert.deepEqual(candidates.map(gateOf(held, least, awaited)), expected))
