import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, writeFileSync } from 'node:fs'
import { delimiter } from 'node:path'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { main } from '../support/bundled.ts'
import { Bench } from './support.ts'

const odd = '$(touch pwned) `touch pwned`;x'
const shells = { bash: 'bash', zsh: 'zsh', fish: 'fish' } as const
const missing = (shell: string) => spawnSync(shell, ['--version']).error !== undefined && `${shell} is not installed`

/** What a shell offers, once the script is loaded; the last word is the one that is begun. */
const asks = {
  bash: (script: string, words: string[]) => [
    '--norc',
    '-c',
    `${script}\nCOMP_WORDS=(gopherqueue ${words.map(quoted).join(' ')}); COMP_CWORD=${words.length}; _gopherqueue; printf '%s\\n' "\${COMPREPLY[@]}"`,
  ],
  zsh: (script: string, words: string[]) => [
    '-f',
    '-c',
    `complete() { : }\ncompgen() { local w=$2 x; for x in \${(z)w}; do [[ $x == \${@[-1]}* ]] && print -r -- $x; done; }\nsetopt kshglob noshglob braceexpand\n${script.replace(/^autoload.*\n/, '')}\nfunctions -c _gopherqueue tried 2>/dev/null; setopt ksharrays; COMP_WORDS=(gopherqueue ${words.map(quoted).join(' ')}); COMP_CWORD=${words.length}; COMP_LINE='gopherqueue'; _gopherqueue; print -rl -- "\${COMPREPLY[@]}"`,
  ],
  fish: (script: string, words: string[]) => [
    '--no-config',
    '-c',
    `${script}\ncomplete -C ${quoted(['gopherqueue', ...words].join(' '))} | string replace -r '\\t.*' ''`,
  ],
}
const quoted = (word: string) => `'${word}'`

async function shellIn(t: TestContext, shell: keyof typeof asks) {
  const bench = new Bench(t)
  const { code, stdout: script, stderr } = await bench.run('completion', shell)
  assert.deepEqual([code, stderr], [0, ''])
  writeFileSync(`${bench.folder}/gopherqueue`, `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`)
  chmodSync(`${bench.folder}/gopherqueue`, 0o755)
  const complete = (words: string[], db = bench.file) => {
    const PATH = `${bench.folder}${delimiter}${process.env.PATH}`
    const { stdout, stderr } = spawnSync(shell, asks[shell](script, words), {
      cwd: bench.folder,
      env: { ...process.env, PATH, GOPHERQUEUE_DB: db, HOME: bench.folder },
      encoding: 'utf8',
    })
    assert.equal(stderr, '', words.join(' '))
    return stdout.split('\n').filter((line) => line !== '')
  }
  return { bench, complete }
}

for (const shell of Object.keys(asks) as (keyof typeof asks)[])
  test(`${shell} completes commands, options, choices, and the names in the file, which it does not evaluate`, {
    skip: missing(shells[shell]),
  }, async (t) => {
    const { bench, complete } = await shellIn(t, shell)
    const queue = await bench.open()
    await queue.submit('mail.welcome', 1, { queue: 'post' })
    await queue.submit('mail.bye', 1, { queue: odd })
    await queue.submit('\u202eevil', 1, { queue: 'evil\u202e' })
    await queue.schedule('nightly', '0 3 * * *', 'report', null)
    assert.deepEqual(complete(['sch']), ['schedule'])
    assert.deepEqual(complete(['schedule', 'pa']), ['pause'])
    assert.deepEqual(complete(['jobs', '--sta']), ['--state'])
    assert.deepEqual(complete(['jobs', '--state', 'suc']), ['succeeded'])
    assert.deepEqual(complete(['jobs', '--state', 'ru']), ['running'], 'of whichever command has most')
    assert.deepEqual(complete(['jobs', '--type', 'mail']).sort(), ['mail.bye', 'mail.welcome'])
    assert.deepEqual(complete(['pause', 'po']), ['post'])
    assert.deepEqual(complete(['queue', 'set', 'po']), ['post'])
    assert.deepEqual(complete(['jobs', '--state', 'dead', '--queue', 'po']), ['post'])
    assert.deepEqual(complete(['submit', 'rep']), ['report'])
    assert.deepEqual(complete(['schedule', 'next', 'n']), ['nightly'])
    assert.deepEqual(complete(['pause', 'evil']), [])
    assert.equal(complete(['jobs', '--queue', '']).filter((name) => /touch/.test(name)).length, 1)
    assert.deepEqual(complete(['--db', bench.file, 'pause', 'po'], '/nowhere'), ['post'])
    assert.deepEqual(complete(['pause', 'po'], `${bench.folder}/none.db`), [])
    assert.deepEqual(readdirSync(bench.folder).filter((name) => /pwned|none/.test(name)), []) // biome-ignore format: short
  })

test('names after a colon, which bash makes a word of', { skip: missing(shells.bash) }, async (t) => {
  const bench = new Bench(t)
  await (await bench.open()).submit('mail:welcome', 1)
  const { stdout: script } = await bench.run('completion', 'bash')
  writeFileSync(`${bench.folder}/gopherqueue`, `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`)
  chmodSync(`${bench.folder}/gopherqueue`, 0o755)
  const line = 'gopherqueue jobs --type mail:we'
  const asked = `${script}\nCOMP_WORDBREAKS=' :'; COMP_LINE='${line}'; COMP_POINT=${line.length}; COMP_WORDS=(gopherqueue jobs --type mail : we); COMP_CWORD=5`
  const { stdout } = spawnSync('bash', ['--norc', '-c', `${asked}; _gopherqueue; echo "\${COMPREPLY[@]}"`], {
    env: { ...process.env, PATH: `${bench.folder}${delimiter}${process.env.PATH}`, GOPHERQUEUE_DB: bench.file },
    encoding: 'utf8',
  })
  assert.equal(stdout.trim(), 'welcome')
})

test('a server that does not answer, and a file that is none, cost a second and say nothing', async (t) => {
  const bench = new Bench(t)
  writeFileSync(`${bench.folder}/text`, 'not a queue')
  for (const place of [['--url', 'http://127.0.0.1:9'], ['--db', 'text'], ['--db', 'none'], []])
    assert.deepEqual(await bench.run(...place, 'complete-names', 'queue', ''), { code: 0, stdout: '', stderr: '' })
})

test('names come from a server too', async (t) => {
  const bench = new Bench(t)
  const store = await SqliteStore.open(':memory:', { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  t.after(() => server.close())
  await using queue = new GopherQueue(store)
  await queue.submit('mail', 1, { queue: 'post' })
  assert.equal((await bench.run('--url', server.url, 'complete-names', 'queue', 'p')).stdout, 'post\n')
  assert.equal((await bench.run('--url', server.url, 'complete-names', 'type')).stdout, 'mail\n')
})
