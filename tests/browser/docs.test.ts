import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { chromium } from 'playwright-core'
import { buildSite } from '../../docs/site/build.ts'
import { serveStatic } from '../../src/server/static.ts'
import { temporaryFolder } from '../support/folder.ts'
import { serveRoutes } from '../support/routes.ts'
import { executablePath, flags, skip, violations } from './support.ts'

test('the documentation in a browser: no page is wider than a telephone, its menu needs no script, axe finds nothing', {
  skip,
}, async () => {
  using folder = temporaryFolder()
  const site = folder.file('site')
  buildSite(site)
  const files = readdirSync(site).map((name): [string, Buffer] => [name, readFileSync(join(site, name))])
  const policy = "default-src 'none'; style-src 'self'; img-src 'self'"
  const { url, close } = await serveRoutes((routes) => serveStatic(routes, 'docs', '/docs/', policy, new Map(files)))
  const browser = await chromium.launch({ executablePath, args: flags.split(' ') })
  const complaints: string[] = []
  try {
    const page = await browser.newPage({ viewport: { width: 360, height: 740 }, colorScheme: 'light' })
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
    page.on('request', (request) => new URL(request.url()).origin !== url && complaints.push(request.url()))
    for (const [name] of files.filter(([name]) => name.endsWith('.html') && !name.startsWith('api-'))) {
      await page.goto(`${url}/docs/${name}`)
      const width = await page.evaluate('document.documentElement.scrollWidth')
      if (width !== 360) complaints.push(`${name} is ${width} px wide`)
      complaints.push(...(await violations(page)).map((what) => `${name}: ${what}`))
      await page.emulateMedia({ colorScheme: 'dark' })
      complaints.push(...(await violations(page, 'color-contrast')).map((what) => `${name}, dark: ${what}`))
      await page.emulateMedia({ colorScheme: 'light' })
    }
    const context = await browser.newContext({ viewport: { width: 360, height: 740 }, javaScriptEnabled: false })
    const plain = await context.newPage()
    await plain.goto(`${url}/docs`)
    await plain.getByRole('button', { name: 'Contents' }).click()
    await plain
      .getByRole('navigation', { name: 'Contents' })
      .getByRole('link', { name: 'When something fails' })
      .click()
    await plain.getByRole('heading', { name: 'When something fails' }).waitFor()
  } finally {
    await browser.close()
    close()
  }
  assert.deepEqual(complaints, [])
})
