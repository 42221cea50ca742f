#!/usr/bin/env node
// The rest is loaded after this check, so that an old Node gets a sentence and no stack trace.
if (Number.parseInt(process.versions.node, 10) >= 24) await (await import('./cli/program.ts')).main()
else {
  console.error(`gopherqueue: ENGINE_TOO_OLD: Node 24 or newer is needed; this is ${process.versions.node}.`)
  process.exitCode = 1
}
