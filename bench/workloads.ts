/** What a benchmark needs of a system: as the adapters of the peers' harness. */
export interface System {
  submit(payload: unknown): Promise<unknown>
  submitMany(payloads: unknown[]): Promise<unknown>
  work(handler: (payload: unknown) => unknown, concurrency: number): Promise<{ stop(): Promise<unknown> }>
  close(): Promise<unknown>
}

export interface Figures {
  jobsPerSecond?: number
  /** Milliseconds. */
  p50?: number
  p99?: number
  /** Rate at a backlog of 1,000,000 to that at 10,000. */
  ratio?: number
}

const payload = () => ({ to: 'someone@example.com', body: 'x'.repeat(160) })
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const quantile = (times: number[], q: number) =>
  times.sort((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * q))] ?? Number.NaN

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}

async function bulk(system: System, count: number): Promise<void> {
  for (let left = count; left > 0; left -= 1000)
    await system.submitMany(Array.from({ length: Math.min(1000, left) }, payload))
}

/** Jobs handled a second, from the worker's start until `count` handlers were called. */
async function drain(system: System, count: number): Promise<number> {
  let seen = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  let worker: Awaited<ReturnType<System['work']>> | undefined
  const took = await seconds(async () => {
    worker = await system.work(() => {
      if (++seen === count) resolve()
    }, 100)
    await promise
  })
  await worker?.stop()
  return count / took
}

async function submitters(system: System, many: number, count: number): Promise<Figures> {
  for (let i = 0; i < 200; i++) await system.submit(payload())
  const times: number[] = []
  let left = count
  const took = await seconds(() =>
    Promise.all(
      Array.from({ length: many }, async () => {
        while (left-- > 0) {
          const start = performance.now()
          await system.submit(payload())
          times.push(performance.now() - start)
        }
      }),
    ),
  )
  return { jobsPerSecond: count / took, p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
}

/** The same workloads as the peers' harness; `n` scales a count. */
export const workloads: Record<string, (system: System, n: (count: number) => number) => Promise<Figures>> = {
  /** One submitter awaits each job. */
  W1: (system, n) => submitters(system, 1, n(2000)),
  /** 100 concurrent submitters. */
  W2: (system, n) => submitters(system, 100, n(20_000)),
  /** Bulks of 1,000. */
  async W3(system, n) {
    await bulk(system, 2000)
    return { jobsPerSecond: n(100_000) / (await seconds(() => bulk(system, n(100_000)))) }
  },
  /** A preloaded queue is drained, concurrency 100. */
  async W4(system, n) {
    await bulk(system, n(50_000))
    return { jobsPerSecond: await drain(system, n(50_000)) }
  },
  /** An idle worker, one job each 20 ms: from the submit call to the handler's start. */
  async W5(system, n) {
    const times: number[] = []
    const sent: number[] = []
    const worker = await system.work(() => times.push(performance.now() - (sent[times.length] ?? 0)), 10)
    await sleep(500)
    for (let i = 0; i < n(500); i++) {
      sent.push(performance.now())
      await system.submit(payload())
      await sleep(20)
    }
    await sleep(500)
    await worker.stop()
    return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
  },
  /** 5,000 jobs drained of 10,000 that wait, then 5,000 of 1,000,000. */
  async W6(system, n) {
    await bulk(system, n(15_000))
    const small = await drain(system, n(5000))
    await bulk(system, n(1_000_000))
    const large = await drain(system, n(5000))
    return { jobsPerSecond: large, ratio: large / small }
  },
}
