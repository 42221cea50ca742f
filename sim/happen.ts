import type { Lease } from '../src/store/store.ts'
import type { SimulatedProcess } from './process.ts'
import { anySchedule, anySettings, anySubmission, type Incident, lines } from './workload.ts'
import type { World } from './world.ts'

// What can happen next: each is one thing that an app, an operator, the machine or chance does to one process.

export type Happens = keyof typeof happen

export const happen = {
  submit: (world: World, process: SimulatedProcess) => {
    const { random, clock, flavour } = world
    const again = random.chance(0.15) ? random.pick(world.submissions) : undefined
    const submission = again ?? anySubmission(random, () => ++world.payload, clock.wall, flavour)
    if (submission.keys) world.submissions.push(submission)
    process.ask('submit', submission)
  },
  execute: (world: World, process: SimulatedProcess) => {
    const most = world.random.chance(0.2) ? world.random.below(4) : process.outbox.length
    world.call(process, 'execute', most)
  },
  tick: (world: World, process: SimulatedProcess) => world.call(process, 'tick'),
  advance: (world: World) =>
    world.random.chance(0.03)
      ? world.advance(600_000, 100_000)
      : world.advance(world.random.pick([1, 20, 100, 250, 250, 1000, 1000, 5000, 5000, 20_000])),
  finish: ({ random, flavour }: World, process: SimulatedProcess) => {
    const handler = random.pick(process.handlers.filter(({ killsAt }) => killsAt === Number.POSITIVE_INFINITY))
    if (!handler) return
    const cancelled = handler.cancelRequested && random.chance(0.5)
    const how = flavour.succeeds
      ? 'succeed'
      : random.weighted({ succeed: 10, temporary: 6, permanent: 1, timeout: 3, postpone: 2, release: 2 })
    const goesOn = how === 'timeout' && !cancelled && random.chance(0.5)
    process.report(handler, cancelled ? 'temporary' : how, goesOn)
    if (goesOn) process.goesOn(handler)
    else process.settles()
    process.askForJobs()
  },
  operate: ({ random, checker }: World, process: SimulatedProcess) => {
    const id = random.pick([...checker.now.jobs.keys()].slice(-12)) ?? 1
    const what = random.weighted({ cancel: 3, retry: 3, runNow: 2, remove: 2, setQueue: 2 })
    if (what === 'setQueue') process.ask('setQueue', anySettings(random))
    else process.ask(what, id)
  },
  late: ({ random, leases, processes }: World, process: SimulatedProcess) => {
    const { lease, epoch } = random.pick(leases.slice(-20)) ?? {}
    const isIt = (handler: { lease: Lease }) => handler.lease.token === lease?.token
    const runsIn = (one: SimulatedProcess) =>
      one.handlers.some(isIt) || one.workers.some(({ overdue }) => overdue.some(isIt))
    if (!lease || runsIn(process)) return
    const what = random.pick(['succeed', 'release', 'heartbeat'] as const)
    if (what === 'release' && processes.some(runsIn)) return // it says that the handler has ended: only its holder does
    // Another than its holder is a server, whose workers say of which file it is: in another one the token may fit by chance.
    if (what === 'succeed') process.ask('succeed', { lease, result: '"late"' }, epoch)
    else process.ask(what, lease, epoch)
  },
  heartbeat: ({ random }: World, process: SimulatedProcess) => {
    const handler = random.pick(process.handlers)
    if (handler) process.ask('heartbeat', handler.lease)
  },
  wait: ({ random, checker }: World, process: SimulatedProcess) => {
    const id = random.pick([...checker.now.jobs.keys()].slice(-12))
    if (id !== undefined) process.ask('wait', id)
  },
  crash: (world: World, process: SimulatedProcess) => {
    process.faults.crash = world.random.pick(['before', 'after', world.random.below(30)] as const)
    world.log(`p${process.pid} will crash: ${process.faults.crash}`)
  },
  kill: (world: World, process: SimulatedProcess) => world.kill(process),
  start: (world: World) => world.start(world.random.chance(0.1) ? world.random.below(12) : null),
  stop: (_: World, process: SimulatedProcess) => process.stop(),
  sleep: (world: World, process: SimulatedProcess) => {
    world.checker.silent(`${process.pid}`, world.clock.elapsed)
    process.sleep(world.random.pick([2000, 20_000, 60_000, 300_000]))
    world.log(`p${process.pid} sleeps`)
  },
  jump: (world: World) => {
    const ms = world.random.pick([-3_600_000, 3_600_000, -30_000, 30_000])
    world.clock.wall += ms
    if (ms > 0) world.tenures.jumped(world.clock.elapsed)
    world.log(`the wall clock jumps by ${ms}`)
  },
  hold: ({ random, meanwhile }: World) => {
    if (random.chance(0.3)) meanwhile.foreign(1000, 12)
    else if (random.chance(0.2))
      meanwhile.foreign(900, 30, 910) // hardly ever free
    else meanwhile.foreign(random.pick([1000, 4000, 8000, 8000, 9500]))
  },
  fault: (world: World, { pid, faults }: SimulatedProcess) => {
    const { random } = world
    const what = random.weighted({ busy: 3, early: 2, late: 2, io: 2, full: 2, gone: 1 })
    if (what === 'busy') [faults.busy, faults.busyAfter] = [1 + random.below(3), random.below(8)]
    else if (what === 'early' || what === 'late') faults.commit = what
    else {
      world.heal()
      if (what === 'io') faults.io = random.pick([0.02, 0.2, 1])
      else world.machine.disk[what] = true
      world.healAt = world.step + 3 + random.below(30)
    }
    world.log(`p${pid} fault ${what}`)
  },
  schedule: ({ random, checker }: World, process: SimulatedProcess) => {
    const schedule = anySchedule(random)
    if (!checker.now.schedules.has(schedule.name)) process.ask('setSchedule', schedule)
  },
  recount: (world: World) => {
    if (world.meanwhile.lockIsHeld) return
    world.meanwhile.othersWrite()
    world.file.forgetCauses()
    world.checker.look()
    world.log('somebody lets all causes be counted anew')
  },
  sql: (world: World) => {
    const { random, clock, file, checker, meanwhile } = world
    if (meanwhile.lockIsHeld) return
    meanwhile.othersWrite()
    const { queue, type } = random.pick(lines)
    file.submit(queue, type, `{"n":${++world.payload}}`, clock.wall)
    checker.look()
    world.log(`somebody submits to ${queue} ${type} with plain SQL`)
  },
}

const restore = (world: World): void => {
  for (const process of [...world.processes]) world.end(process, 'killed')
  world.meanwhile.calm()
  world.meanwhile.odds = world.flavour.odds
  world.file.restore()
  world.checker.restored(world.clock)
  world.log('an earlier copy takes the place of the file')
}

const raise = (by: number) => (world: World) => {
  if (by < 0) for (const process of [...world.processes]) world.end(process, 'killed')
  world.meanwhile.calm()
  world.file.raiseSchema(by)
  world.machine.isNewer = by > 0
  world.checker.look()
  world.log(by > 0 ? 'a newer version raises the schema' : 'the schema is as it was')
}

/** Incidents: what happens at which step. */
export const happenOnce: Record<Incident, Record<number, (world: World) => void>> = {
  restored: { 60: (world) => world.file.backup(), 130: restore },
  newer: { 100: raise(1), 150: raise(-1) },
  wild: {
    40: (world) => {
      world.meanwhile.calm()
      world.file.wild(world.clock.wall)
      world.checker.look()
      world.log('somebody writes rows that no rule can read')
    },
  },
}
