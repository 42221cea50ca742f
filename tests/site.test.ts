import assert from 'node:assert/strict'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request as plain } from 'node:http'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { buildSite } from '../docs/site/build.ts'
import { drawStates } from '../docs/site/states.ts'
import { serveStatic } from '../src/server/static.ts'
import { temporaryFolder } from './support/folder.ts'
import { serveRoutes } from './support/routes.ts'

const root = join(import.meta.dirname, '..')
const folder = temporaryFolder()
after(() => folder[Symbol.dispose]())
const site = folder.file('site')
buildSite(site)
const names = readdirSync(site)
const html = new Map(
  names.filter((name) => name.endsWith('.html')).map((name) => [name, readFileSync(join(site, name), 'utf8')]),
)
const attributes = (page: string, name: string) =>
  [...page.matchAll(new RegExp(` ${name}="([^"]*)"`, 'g'))].map((match) => match[1]!)

test('each page of docs/ is in the site, with a title, the menu, and its place in it', () => {
  const pages = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md') && name !== 'README.md')
  for (const name of ['index', 'examples', ...pages.map((page) => page.slice(0, -3))]) {
    const page = html.get(`${name}.html`) ?? ''
    assert.match(page, /<title>.+<\/title>/, name)
    assert.ok(page.includes(`href="${name}.html" aria-current="page"`), name)
    for (const other of pages) assert.ok(page.includes(`<li><a href="${other.slice(0, -3)}.html"`), `${name}: ${other}`)
  }
})

test('each link leads somewhere, also to its heading, and nothing is asked of another host', () => {
  let within = 0
  for (const [name, page] of html) {
    assert.doesNotMatch(page, /<script|<style| style="| on\w+="/, name)
    for (const asset of [...attributes(page, 'src'), ...attributes(page, 'srcset')])
      assert.ok(existsSync(join(site, asset)), `${name}: ${asset}`)
    for (const href of attributes(page, 'href')) {
      if (/^https?:/.test(href)) continue
      const [file, id] = href.split('#') as [string, string?]
      const target = file === '' ? page : html.get(file)
      assert.ok(target !== undefined || names.includes(file), `${name}: ${href}`)
      if (id !== undefined) assert.ok(target?.includes(` id="${id}"`), `${name}: ${href}`)
      within++
    }
    assert.ok(attributes(page, 'id').length === new Set(attributes(page, 'id')).size, `${name}: ids`)
  }
  assert.doesNotMatch(readFileSync(join(site, 'style.css'), 'utf8'), /url\(|@import/)
  assert.ok(within > 500, `${within} links`)
})

test('a link that leads nowhere, a heading that is not there and a page that is not listed fail the build', () => {
  const copy = folder.file('copy')
  mkdirSync(copy)
  cpSync(join(root, 'docs'), join(copy, 'docs'), {
    recursive: true,
    filter: (path) => !path.startsWith(join(root, 'docs/api/')),
  })
  for (const name of ['README.md', 'examples']) symlinkSync(join(root, name), join(copy, name))
  buildSite(folder.file('sound'), copy)
  const lost =
    '# New\n\n[a](nowhere.md) [b](http.md#nowhere) `docs/gone.md` [c](#new) ![d](https://example.com/d.png)\n'
  writeFileSync(join(copy, 'docs/new.md'), lost)
  writeFileSync(join(copy, 'docs/unlisted.md'), '# Unlisted\n')
  const menu = readFileSync(join(copy, 'docs/README.md'), 'utf8')
  writeFileSync(join(copy, 'docs/README.md'), `${menu}- [New](new.md)\n`)
  assert.throws(() => buildSite(folder.file('broken'), copy), {
    message: `Links that lead nowhere:
docs/new.md: no docs/nowhere.md
docs/new.md: no docs/gone.md
docs/new.md: asks https://example.com/d.png of another host
docs/README.md: does not list docs/unlisted.md
docs/new.md: no #nowhere in docs/http.md`,
  })
  assert.ok(!existsSync(folder.file('broken')))
})

test('the picture of the states is drawn from the table of states as it is now', () => {
  for (const [name, svg] of Object.entries(drawStates()))
    assert.equal(readFileSync(join(root, 'docs', name), 'utf8'), svg, 'run node docs/site/states.ts')
})

test('a server has the site in memory, under its own policy, and says how to build what is not there', async () => {
  const files = new Map(names.map((name) => [name, readFileSync(join(site, name))]))
  const { url: base, close } = await serveRoutes((routes) => {
    serveStatic(routes, 'docs', '/docs/', "default-src 'none'", files)
    serveStatic(routes, 'other', '/other/', "default-src 'none'", new Map())
  })
  const ask = async (path: string, headers = {}) => {
    const sent = plain(`${base}${path}`, { path, headers, agent: false }).end() // `fetch` would tidy up the path
    const [heard] = (await once(sent, 'response')) as [IncomingMessage]
    const body = Buffer.concat(await heard.toArray())
    return { status: heard.statusCode, headers: heard.headers, body }
  }
  const [at, index, page, asset] = await Promise.all(
    ['/docs', '/docs/', '/docs/http.html', '/docs/states.svg'].map((url) => ask(url)),
  )
  assert.deepEqual([at!.status, at!.headers.location], [308, 'docs/'])
  assert.deepEqual([index!.status, index!.body.toString()], [200, html.get('index.html')])
  assert.equal(page!.headers['content-type'], 'text/html; charset=utf-8')
  assert.match(String(page!.headers['content-security-policy']), /^default-src 'none'; .*frame-ancestors 'none'$/)
  assert.equal(asset!.headers['content-type'], 'image/svg+xml; charset=utf-8')
  const packed = await ask('/docs/http.html', { 'accept-encoding': 'gzip, br' })
  assert.equal(packed.headers['content-encoding'], 'gzip')
  assert.ok(packed.body.length < page!.body.length / 2)
  assert.equal((await ask('/docs/index.html')).body.toString(), html.get('index.html'))
  assert.equal(page!.headers['cache-control'], 'no-cache')
  for (const url of ['/docs/../package.json', '/docs/%2e%2e/package.json', '/docs/none.html'])
    assert.equal((await ask(url)).status, 404, url)
  const missing = await ask('/other/')
  close()
  assert.equal(missing.status, 503)
  assert.match(String(missing.headers['content-security-policy']), /^default-src 'none'; /)
  assert.match(missing.body.toString(), /npm run build/)
})
