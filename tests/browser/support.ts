import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import axe from 'axe-core'
import { type Browser, chromium, type Locator, type Page } from 'playwright-core'
import type { Scope } from '../../src/model/token.ts'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { ownStore } from '../../src/queue/place.ts'
import { makeToken } from '../../src/server/auth.ts'
import { type Server, serve } from '../../src/server/server.ts'
import type { Store } from '../../src/store/store.ts'
import { temporaryFolder } from '../support/folder.ts'

const root = join(import.meta.dirname, '../..')
export const executablePath = '/usr/bin/chromium'
/** Why these tests cannot run here, or false. */
export const skip = existsSync(executablePath) ? false : `${executablePath} is not installed`
export const flags = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync' // biome-ignore format: long

/** The dashboard as `npm run build` makes it, in a folder. */
export function buildPage(folder: string): string {
  const vite = join(root, 'node_modules/.bin/vite')
  execFileSync(vite, ['build', 'dashboard', '--outDir', folder, '--logLevel', 'error'], { cwd: root })
  return folder
}

/** A server with its page, a browser, and the queue's file as an app has it. */
export class Desk implements AsyncDisposable {
  readonly folder = temporaryFolder()
  readonly page: string
  store!: Store
  server!: Server
  queue!: GopherQueue
  browser!: Browser
  /** What the browser complained of, and what it asked others for. */
  readonly complaints: string[] = []

  private constructor() {
    this.page = buildPage(this.folder.file('page'))
  }

  /** `url`: of a queue on PostgreSQL, instead of a file. */
  static async open(url?: string): Promise<Desk> {
    const desk = new Desk()
    desk.store = await ownStore(url ?? desk.folder.file('jobs.db'), { tends: true })
    desk.server = await serve(desk.store, { port: 0, logLevel: 'silent', dashboard: desk.page })
    desk.queue = await GopherQueue.open(url ?? desk.folder.file('jobs.db'))
    desk.browser = await chromium.launch({ executablePath, args: flags.split(' ') })
    return desk
  }

  /** A page in a window of its own, so wide, in a theme. */
  async show(
    hash: string,
    { width = 1440, theme = 'light' as 'light' | 'dark', complains = true } = {},
  ): Promise<Page> {
    for (const other of this.browser.contexts()) await other.close()
    const context = await this.browser.newContext({ viewport: { width, height: 800 }, colorScheme: theme })
    context.setDefaultTimeout(20_000)
    const page = await context.newPage()
    page.on('console', (message) => complains && message.type() === 'error' && this.complaints.push(message.text()))
    page.on('pageerror', (error) => this.complaints.push(String(error)))
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== this.server.url) this.complaints.push(request.url())
    })
    await page.goto(`${this.server.url}/${hash}`)
    return page
  }

  /** Rows of a query of the file, by a connection of its own. */
  sql(query: string): unknown[][] {
    using db = new DatabaseSync(this.folder.file('jobs.db'), { readOnly: true })
    return db.prepare(query).all().map(Object.values)
  }

  /** Makes a token of one scope, named so: from then on the server asks for one. */
  async token(scope: Scope): Promise<string> {
    const { token, hash } = makeToken()
    await this.store.call('createToken', { name: scope, scopes: [scope], hash })
    return token
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser?.close()
    await this.queue?.close()
    await this.server?.close()
    this.folder[Symbol.dispose]()
  }
}

export const row = (page: Page, text: string | RegExp) => page.getByRole('row').filter({ hasText: text }).first()
export const see = (page: Page, text: string | RegExp) =>
  page.getByText(text).filter({ visible: true }).first().waitFor()
export const press = (page: Page, name: string | RegExp) => page.getByRole('button', { name }).first().click()
export const confirm = (page: Page, name: string | RegExp) =>
  page.getByRole('dialog').getByRole('button', { name }).click()

/** Waits until an expression holds. `waitForFunction` would evaluate it in the page, where its policy forbids that. */
export async function until(page: Page, expression: string): Promise<void> {
  for (const end = Date.now() + 20_000; !(await page.evaluate(expression)); await page.waitForTimeout(50)) {
    if (Date.now() > end) throw new Error(`This never held: ${expression}`)
  }
}

/** The texts of all that a locator finds, once it finds one. */
export async function texts(found: Locator): Promise<string[]> {
  await found.first().waitFor()
  return found.allInnerTexts()
}

/** What axe finds wrong with a page, by one rule or by all. What passes is 100 times as much: it is not described. */
export async function violations(page: Page, rule?: string): Promise<string[]> {
  const options = JSON.stringify({ resultTypes: ['violations'], ...(rule && { runOnly: rule }) })
  if (!(await page.evaluate('Boolean(window.axe)'))) await page.evaluate(axe.source)
  return page.evaluate(
    `axe.run(${options}).then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes[0].html))`,
  )
}
