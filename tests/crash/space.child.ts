import { Engine } from '../../src/store/sqlite/commit.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

// Gives the file's space back as fast as it can, in steps of its usual size, until nothing is left to do.

const { file } = JSON.parse(process.argv[2]!) as { file: string }
const clock = new VirtualClock()
const engine = new Engine(file, clock)
engine.execute([{ seq: 1, operation: 'register', input: { name: 'w', sources: [], slots: 1 } }])
for (let before = -1, free = 0; free !== before; ) {
  before = free
  clock.advance(250)
  engine.tick()
  const [reply] = engine.execute([{ seq: 2, operation: 'stats', input: null }])
  free = (reply as unknown as { value: { file: { freeBytes: number } } }).value.file.freeBytes
}
engine.close()
