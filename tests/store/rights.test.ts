import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs, { chmodSync, existsSync, linkSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/model/clock.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { openToRead } from '../../src/store/sqlite/reader.ts'
import { missingRights } from '../../src/store/sqlite/rights.ts'
import { temporaryFolder } from '../support/folder.ts'

const nobody = 65_534

/** What a user without rights is told who opens a file: another one where these tests run as root, who has all rights. */
function told(file: string): string {
  const src = (path: string) => JSON.stringify(join(import.meta.dirname, '../../src', path))
  const script = `
    import { connect } from ${src('store/sqlite/connection.ts')}
    import { systemClock } from ${src('model/clock.ts')}
    if (process.getuid() === 0) process.setuid(${nobody})
    try {
      connect(${JSON.stringify(file)}, systemClock)
    } catch (error) {
      console.log(process.getuid(), error.code, error.message)
    }`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.equal(stderr, '')
  return stdout
}

test('who has no right to write the file is told which, whose it is, and what helps', {
  skip: process.platform === 'win32',
}, () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  connect(file, systemClock).connection.close()
  const owner = statSync(file).uid
  chmodSync(file, 0o444)
  chmodSync(dirname(file), 0o555)
  const places = `${dirname(file)} (owner uid ${owner}, mode 555), ${file} (owner uid ${owner}, mode 444)`
  const uid = owner === 0 ? nobody : owner
  const text = told(file)
  assert.ok(text.startsWith(`${uid} STORAGE_UNAVAILABLE Cannot use ${file}: this user (uid ${uid}) may not read and write ${places}. `), text) // biome-ignore format: long
  assert.match(text, /give this user the right to write the folder and each file/)
  assert.doesNotMatch(text, /try again/)
  chmodSync(dirname(file), owner === 0 ? 0o700 : 0o000)
  assert.match(
    told(file),
    /STORAGE_UNAVAILABLE .* may not read and write \S+ \(owner uid \d+, mode [07]00\), \S+jobs\.db,/,
  )
  chmodSync(dirname(file), 0o700)
})

test('what is no file is called what it is, and stays as it was', () => {
  using folder = temporaryFolder()
  for (const open of [openToRead, (path: string) => connect(path, systemClock)]) {
    assert.throws(() => open(dirname(folder.file('x'))), { code: 'NOT_A_QUEUE', message: / is a folder: name the file in it/ }) // biome-ignore format: long
    assert.throws(() => open('/dev/null'), { code: 'NOT_A_QUEUE', message: /^\/dev\/null is a device/ })
  }
})

test('who may write the folder and not the file leaves nothing beside it', {
  skip: process.platform === 'win32',
}, () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  connect(file, systemClock).connection.close()
  chmodSync(file, 0o444)
  chmodSync(dirname(file), 0o777)
  assert.match(told(file), /STORAGE_UNAVAILABLE .* may not read and write \S+jobs\.db \(owner/)
  for (const suffix of ['-wal', '-shm']) assert.equal(existsSync(`${file}${suffix}`), false, suffix)
  chmodSync(file, 0o644)
  connect(file, systemClock).connection.close()
})

test('a file with a second name is refused, whichever is opened', () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  connect(file, systemClock).connection.close()
  linkSync(file, folder.file('other.db'))
  for (const path of [file, folder.file('other.db')])
    assert.throws(() => connect(path, systemClock), {
      code: 'UNSUPPORTED_FILESYSTEM',
      accepted: 'no',
      message: /has 2 names \(hard links\).*Nothing was changed/,
    })
})

test('a file that is mounted by itself is refused', (t) => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  connect(file, systemClock).connection.close()
  mkdirSync(folder.file('an app'))
  const inside = join(folder.file('an app'), 'jobs.db')
  writeFileSync(inside, '')
  if (spawnSync('mount', ['--bind', file, inside]).status !== 0) return t.skip('only root may mount, on Linux')
  try {
    const refused = { code: 'UNSUPPORTED_FILESYSTEM', message: /mounted by itself.*mount its folder/ }
    assert.throws(() => connect(inside, systemClock), refused)
  } finally {
    spawnSync('umount', [inside])
  }
})

test('on a read-only filesystem no other user would help, and none is advised', (t) => {
  t.mock.method(fs, 'accessSync', () => {
    throw Object.assign(new Error('read-only file system'), { code: 'EROFS' })
  })
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  assert.match(
    missingRights('/data/jobs.db')!,
    /\/data \(on a read-only filesystem\), .*\. Mount that filesystem so that/,
  )
})
