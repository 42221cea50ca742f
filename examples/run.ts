import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

// npm run example NAME [-- --folder FOLDER]     starts an example in a temporary folder, or in one that is kept

const names = ['signup', 'images', 'nightly', 'orders']
const { values, positionals } = parseArgs({ options: { folder: { type: 'string' } }, allowPositionals: true })
const [name = '', ...rest] = positionals
if (!names.includes(name) || rest.length > 0) {
  console.error(`npm run example NAME [-- --folder FOLDER]     NAME is one of: ${names.join(', ')}`)
  process.exit(2)
}

const folder = values.folder ?? mkdtempSync(join(tmpdir(), `gopherqueue-${name}-`))
if (values.folder) mkdirSync(folder, { recursive: true })
else process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
process.chdir(folder)
await import(`./${name}/main.ts`)
