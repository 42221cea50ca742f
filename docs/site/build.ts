// npm run build, or node docs/site/build.ts [--out FOLDER]: the documentation as pages that need no script, no network and
// no server. docs/README.md is their menu. Each Markdown file that it lists, and each file of this repository that a page
// links to, becomes a page. A link that leads nowhere fails the build.
import { copyFileSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Marked, type Token, type Tokens } from 'marked'
import { escaped, highlighted } from './highlight.ts'

interface Heading {
  id: string
  depth: number
  html: string
}
interface Page {
  html: string
  title: string
  headings: Heading[]
}
interface Entry {
  path: string
  /** '' for the page itself, else the # of a part of it. */
  part: string
  text: string
}

/** Where `npm run docs` puts the library reference. Until it has, links into it are no links. */
const reference = 'docs/api/out'
const pictures = new Set(['.svg', '.png', '.webp'])

/** Writes the site of the repository at `root` into `out`. Throws with all links that lead nowhere. */
export function buildSite(out: string, root = join(import.meta.dirname, '../..')): void {
  const broken: string[] = []
  const anchors: { from: string; path: string; id: string }[] = []
  const pages = new Map<string, Page>()
  const copied = new Set<string>()
  const hasReference = existsSync(join(root, reference))
  const read = (path: string) => readFileSync(join(root, path), 'utf8')
  const sections = new Marked().lexer(read('docs/README.md')).flatMap(section)
  const listed = sections.flatMap((section) => (typeof section === 'string' ? [] : section))
  const entries = listed.filter(({ part }) => part === '')
  for (const { path, part } of listed) link('docs/README.md', `/${path}${part}`)
  for (const path of globSync('docs/*.md', { cwd: root }))
    if (path !== 'docs/README.md' && !pages.has(path)) broken.push(`docs/README.md: does not list ${path}`)
  for (const { from, path, id } of anchors)
    if (!pages.get(path)?.html.includes(` id="${id}"`)) broken.push(`${from}: no #${id} in ${path}`)
  if (broken.length > 0) throw new Error(`Links that lead nowhere:\n${broken.join('\n')}`)

  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  for (const path of copied) copyFileSync(join(root, path), join(out, targetOf(path)))
  for (const file of ['style.css', 'icon.svg']) copyFileSync(join(import.meta.dirname, file), join(out, file))
  for (const [path, page] of pages) writeFileSync(join(out, targetOf(path)), document(path, page))

  /** A heading of the menu, or a list of its pages. */
  function section(token: Token): (string | Entry[])[] {
    if (token.type === 'heading') return token.depth === 2 ? [token.text] : []
    if (token.type !== 'list') return []
    const links = (token as Tokens.List).items.map(({ text }) => /^\[(.+?)\]\(([^#)]+)(#[^)]+)?\)/.exec(text) ?? [])
    const found = links.map(([, text = '', href = '', part = '']) => ({ text, path: join('docs', href), part }))
    return [found.filter(({ path }) => hasReference || !path.startsWith(reference))]
  }

  /** What a link in the file `from` is in the site; null where there is nothing to lead to. */
  function link(from: string, href: string): string | null {
    if (/^[a-z]+:/.test(href)) return href
    const [name, id] = href.split('#') as [string, string?]
    const path = name === '' ? from : name.startsWith('/') ? name.slice(1) : join(dirname(from), name)
    if (id !== undefined) anchors.push({ from, path, id })
    if (path.startsWith(reference) && !hasReference) return null
    if (path.startsWith('..') || !existsSync(join(root, path))) {
      broken.push(`${from}: no ${path}`)
      return null
    }
    if (statSync(join(root, path)).isDirectory()) return null
    if (pictures.has(extname(path))) copied.add(path)
    else if (path !== 'docs/README.md' && !pages.has(path)) add(path)
    return targetOf(path) + (id === undefined ? '' : `#${id}`)
  }

  function add(path: string): void {
    const page: Page = { title: path, headings: [], html: '' }
    pages.set(path, page)
    const language = extname(path).slice(1)
    if (language !== 'md') {
      page.html = `<h1>${path}</h1>\n${codeBlock(read(path), language)}`
      return
    }
    const html = markdown(page.headings).parse(read(path)) as string
    page.title = page.headings[0]?.html.replace(/<[^>]+>/g, '') ?? path
    page.html = html.replace(/ (href|src|srcset)="([^"]*)"/g, (_, attribute: string, value: string) => {
      if (attribute !== 'href' && /^([a-z]+:|\/\/)/.test(value)) broken.push(`${path}: asks ${value} of another host`)
      const to = link(path, decodeURI(value))
      return to === null ? '' : ` ${attribute}="${to}"`
    })
  }

  function document(path: string, { title, headings, html }: Page): string {
    const at = entries.findIndex((entry) => entry.path === path)
    const item = ({ path: to, part, text }: Entry) => {
      const within = headings.filter(({ depth }) => depth === 2)
      const list = within.map((heading) => `<li><a href="#${heading.id}">${heading.html}</a>`)
      const isHere = to === path && part === ''
      const more = isHere && list.length > 0 ? `<ul>${list.join('')}</ul>` : ''
      return `<li><a href="${targetOf(to)}${part}"${isHere ? ' aria-current="page"' : ''}>${escaped(text)}</a>${more}\n`
    }
    const menu = sections.map((section) =>
      typeof section === 'string' ? `<h2>${section}</h2>\n` : `<ul>\n${section.map(item).join('')}</ul>\n`,
    )
    const step = (entry: Entry | undefined, rel: string, sign: string) =>
      entry && at >= 0
        ? `<a rel="${rel}" href="${targetOf(entry.path)}">${sign} ${escaped(entry.text)}</a>`
        : '<span></span>'
    return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title === 'GopherQueue' ? '' : `${title} · `}GopherQueue</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="style.css">
<header><a href="index.html"><img src="icon.svg" alt="" width="22" height="22">GopherQueue</a>
<button popovertarget="menu">Contents</button></header>
<nav id="menu" popover aria-label="Contents">
${menu.join('')}</nav>
<main>
${html}
<footer>${step(entries[at - 1], 'prev', '←')} ${step(entries[at + 1], 'next', '→')}</footer>
</main>
</html>
`
  }
}

/** Everything lies in one folder: docs/http.md is http.html, examples/signup/app.ts is examples-signup-app.ts.html. */
function targetOf(path: string): string {
  const name = path.replace(/^docs\//, '').replace(/^api\/out/, 'api')
  if (pictures.has(extname(path))) return name.replaceAll('/', '-')
  return `${name.replace(/\/?README\.md$|\.md$/, '').replaceAll('/', '-') || 'index'}.html`
}

const codeBlock = (code: string, language?: string): string =>
  `<pre tabindex="0"><code>${highlighted(code, language)}</code></pre>\n`

function markdown(headings: Heading[]): Marked {
  const taken = new Map<string, number>()
  return new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        const html = this.parser.parseInline(tokens)
        const words = text.replace(/\]\([^)]*\)/g, '').toLowerCase() // as GitHub makes them, so that links hold there too
        const slug = words
          .replace(/[^\p{L}\p{N}\s_-]/gu, '')
          .trim()
          .replaceAll(' ', '-')
        const before = taken.get(slug) ?? 0
        taken.set(slug, before + 1)
        const id = before === 0 ? slug : `${slug}-${before}`
        headings.push({ id, depth, html: html.replace(/<\/?a\b[^>]*>/g, '') })
        return `<h${depth} id="${id}">${html} <a class="anchor" href="#${id}" aria-label="Link to here">#</a></h${depth}>\n`
      },
      code: ({ text, lang }) => codeBlock(text, lang?.split(' ')[0]),
      codespan: ({ text }) =>
        /^(docs|examples)\/[\w/-]+\.md$/.test(text)
          ? `<a href="/${text}">${text}</a>`
          : `<code>${escaped(text)}</code>`,
      table(token) {
        const { header, rows } = token
        const row = (tag: string, cells: Tokens.TableCell[]) =>
          `<tr>${cells.map(({ tokens, text }) => `<${text === '' ? 'td' : tag}>${this.parser.parseInline(tokens)}`).join('')}\n`
        const body = rows.map((cells) => row('td', cells)).join('')
        return `<div class="table" tabindex="0"><table><thead>${row('th', header)}<tbody>\n${body}</table></div>\n`
      },
    },
  })
}

if (import.meta.main) {
  const out = { type: 'string', default: join(import.meta.dirname, '../../dist/docs') } as const
  buildSite(parseArgs({ options: { out } }).values.out)
}
