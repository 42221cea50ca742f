import { closeSync, openSync } from 'node:fs'
import { systemClock } from '../../src/model/clock.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { FileGuard } from '../../src/store/sqlite/guard.ts'
import { type Identity, systemProcesses } from '../../src/store/sqlite/processes.ts'

// Uses a file, and says what it takes it and other processes for: with free descriptors, without any, and with some again.

export interface DescriptorsConfig {
  file: string
  living: Identity
  gone: Identity
}
export interface Taken {
  me: boolean | null
  living: boolean | null
  gone: boolean | null
  unlocked: boolean
}

const { file, living, gone } = JSON.parse(process.argv[2]!) as DescriptorsConfig
const engine = new Engine(file, systemClock)
engine.execute([{ seq: 1, operation: 'submit', input: { specs: [], payloads: [], keys: null } }])
const guard = new FileGuard(file)
const { me, isAlive } = systemProcesses
const look = (): Taken => ({
  me: isAlive(me),
  living: isAlive(living),
  gone: isAlive(gone),
  unlocked: guard.unlocked(),
})

const before = look()
const held: number[] = []
try {
  for (;;) held.push(openSync('/dev/null', 'r'))
} catch {
  // That was the last one.
}
const without = look()
for (const descriptor of held) closeSync(descriptor)
console.log(JSON.stringify({ before, without, after: look(), held: held.length }))
