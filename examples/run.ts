import { spawn } from 'node:child_process'
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
mkdirSync(folder, { recursive: true })
const script = join(import.meta.dirname, name, 'main.ts')
const example = spawn(process.execPath, ['--import', import.meta.resolve('./from-source.ts'), script], {
  cwd: folder,
  stdio: 'inherit',
})
process.on('SIGINT', () => undefined) // Ctrl-C reaches the example too, which ends in order
process.on('SIGTERM', () => example.kill())
example.on('exit', (code) => {
  if (!values.folder) rmSync(folder, { recursive: true, force: true })
  process.exitCode = code ?? 1
})
