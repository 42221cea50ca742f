// The last step of `npm run build`: what tsc leaves undone in dist.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const dist = join(import.meta.dirname, '../dist')

/** The literals by which bundlers find the threads: tsc gives its new ending to imports only. */
for (const [file, thread] of [
  ['store/sqlite/store.js', 'storage-thread'],
  ['store/postgres/store.js', 'postgres-thread'],
  ['store/postgres/bridge.js', 'client-thread'],
  ['queue/threads.js', 'handler-thread'],
] as const) {
  const path = join(dist, file)
  const parts = readFileSync(path, 'utf8').split(`'./${thread}.ts'`)
  if (parts.length !== 2) throw new Error(`${file}: not once: './${thread}.ts'`)
  writeFileSync(path, parts.join(`'./${thread}.js'`))
}

/**
 * The table of operations is reached from the declarations of the library through an internal constructor alone. With all
 * of typebox behind its 12,000 lines, a strict project that checks libraries would wait half a minute for it.
 */
writeFileSync(
  join(dist, 'store/operations.d.ts'),
  `export type Operation = string
export type Input<K extends Operation> = K extends never ? never : unknown
export type Output<K extends Operation> = K extends never ? never : unknown
`,
)

/**
 * What `require` gets: the ES module itself, so that there is one of each class. Its declarations stand for TypeScript's
 * node16, which lets no CommonJS file import a module. A Node that cannot require one says so in a sentence.
 */
for (const entry of ['index', 'testing/index']) {
  const values = (await import(join(dist, `${entry}.js`))) as Record<string, unknown>
  const name = `./${entry.split('/').at(-1)}.js`
  const from = `'${name}' with { 'resolution-mode': 'import' }`
  const lines = Object.entries(values).flatMap(([key, value]) => [
    `export declare const ${key}: typeof esm.${key}`,
    ...(/^class\b/.test(String(value)) ? [`export type ${key} = esm.${key}`] : []),
  ])
  const declarations = [`import type * as esm from ${from}`, `export type * from ${from}`, ...lines, '']
  writeFileSync(join(dist, dirname(entry), 'index.d.cts'), declarations.join('\n'))
  const program = `'use strict'
if (Number.parseInt(process.versions.node, 10) < 24) {
  const message = 'Node 24 or newer is needed; this is ' + process.versions.node + '. Nothing was opened: start the app with a newer Node.'
  const error = Object.assign(new Error(message), { name: 'GopherQueueError', code: 'ENGINE_TOO_OLD', accepted: 'no' })
  error.stack = 'GopherQueueError: ' + message
  throw error
}
try {
  module.exports = require('${name}')
} catch (error) {
  if (!error.message.startsWith('Must use import')) throw error // jest's advice: a newer Node, which this is
  throw new Error('jest loads no ES module, as gopherqueue is, without a flag: NODE_OPTIONS=--experimental-vm-modules npx jest. Nothing was opened.')
}
`
  writeFileSync(join(dist, dirname(entry), 'index.cjs'), program)
}
