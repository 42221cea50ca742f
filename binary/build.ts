// npm run build:binary [-- --out FOLDER]: gopherqueue as one executable for this machine's platform, with its checksum. No
// Node is needed around it: it is Node's own binary with this program inside (https://nodejs.org/api/single-executable-applications.html).
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build, type Plugin } from 'esbuild'
import { buildSite } from '../docs/site/build.ts'

const root = fileURLToPath(new URL('../', import.meta.url))
const { out } = parseArgs({ options: { out: { type: 'string', default: join(root, 'dist-binary') } } }).values
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** What the source reads from its folder, or starts by its own path, stands in the binary elsewhere. */
const edits: Record<string, [find: string, replace: string][]> = {
  'src/store/sqlite/store.ts': [
    [`new URL('./storage-thread.ts', import.meta.url)`, `require('node:sea').getAsset('thread', 'utf8')`],
    [`name: 'gopherqueue',`, `name: 'gopherqueue', eval: true,`],
  ],
  'src/cli/program.ts': [
    [`JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))`, JSON.stringify({ version })],
  ],
  'src/server/static.ts': [
    [
      'files = built(name)',
      `files = new Map(require('node:sea').getAssetKeys().filter((key) => key.startsWith(name + '/')).map((key) =>
        [key.slice(name.length + 1), Buffer.from(require('node:sea').getAsset(key))]))`,
    ],
  ],
  'src/cli/doctor.ts': [['process.argv[1]!, ', '']],
}

const editing: Plugin = {
  name: 'editing',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      let contents = readFileSync(path, 'utf8')
      for (const [find, replace] of edits[path.slice(root.length)] ?? []) {
        if (contents.split(find).length !== 2) throw new Error(`${path}: not once: ${find}`)
        contents = contents.replace(find, () => replace)
      }
      return { contents, loader: 'ts' }
    })
  },
}

async function bundle(entry: string, name: string): Promise<void> {
  const outfile = join(out, name)
  const common = { bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'error' } as const
  await build({ ...common, entryPoints: [join(root, entry)], outfile, plugins: [editing], legalComments: 'none' })
}

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
await bundle('src/store/sqlite/storage-thread.ts', 'thread.cjs')
await bundle('binary/main.ts', 'main.cjs')
buildSite(join(out, 'docs'))
execFileSync(process.execPath, [join(root, 'node_modules/vite/bin/vite.js'), 'build', 'dashboard', '--outDir', join(out, 'dashboard'), '--logLevel', 'error'], { cwd: root }) // biome-ignore format: one command
const pages = ['docs', 'dashboard'].flatMap((folder) =>
  readdirSync(join(out, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(out, join(entry.parentPath, entry.name)))
    .sort(),
)
// By names within the folder: the blob holds them.
const config = {
  main: 'main.cjs',
  output: 'blob',
  disableExperimentalSEAWarning: true,
  assets: { thread: 'thread.cjs', ...Object.fromEntries(pages.map((page) => [page, page])) },
}
writeFileSync(join(out, 'sea.json'), JSON.stringify(config))
execFileSync(process.execPath, ['--experimental-sea-config', 'sea.json'], { cwd: out, stdio: 'pipe' })

const binary = join(out, 'gopherqueue')
copyFileSync(realpathSync(process.execPath), binary)
chmodSync(binary, 0o755)
const { inject } = (await import('postject')) as unknown as {
  inject(file: string, name: string, data: Buffer, options: object): Promise<void>
}
await inject(binary, 'NODE_SEA_BLOB', readFileSync(join(out, 'blob')), {
  sentinelFuse: 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2',
  ...(process.platform === 'darwin' && { machoSegmentName: 'NODE_SEA' }),
})
const bytes = readFileSync(binary)
const sum = createHash('sha256').update(bytes).digest('hex')
writeFileSync(`${binary}.sha256`, `${sum}  gopherqueue\n`)
for (const file of ['thread.cjs', 'main.cjs', 'blob', 'sea.json', 'docs', 'dashboard'])
  rmSync(join(out, file), { recursive: true })
console.log(`${binary}: ${version}, ${Math.round(bytes.length / 1e6)} MB, sha256 ${sum}`)
