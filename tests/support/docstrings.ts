import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseSync } from 'oxc-parser'

interface Node extends Record<string, unknown> {
  type: string
  start: number
}

/** Declarations under one name in one file, several for overloads. */
interface Declared {
  file: string
  name: string
  nodes: Node[]
}

/** A declaration file: what it declares, what it has from elsewhere ('file name'), and what it exports as what. */
class Module {
  readonly declared = new Map<string, Node[]>()
  readonly imported = new Map<string, { file: string; name: string }>()
  readonly exported = new Map<string, string>()
  /** Docstrings by where the code after them begins. */
  readonly #docs = new Map<number, string>()

  constructor(file: string) {
    const text = readFileSync(file, 'utf8')
    const { program, comments, errors } = parseSync(file, text)
    if (errors.length > 0) throw new Error(`${file}: ${errors[0]!.message}`)
    for (const { type, value, end } of comments)
      if (type === 'Block' && value.startsWith('*')) this.#docs.set(end + text.slice(end).search(/\S|$/), value)
    for (const statement of program.body as unknown as Node[]) this.#take(file, statement)
  }

  doc(node: Node): string | undefined {
    return this.#docs.get(node.start)
  }

  get docs(): string[] {
    return [...this.#docs.values()]
  }

  #take(file: string, statement: Node): void {
    const { source, declaration } = statement as { source?: { value: string }; declaration?: Node }
    const from = source?.value.startsWith('.') ? join(dirname(file), source.value.replace(/\.[jt]s$/, '.d.ts')) : null
    for (const { local, imported, exported } of (statement.specifiers ?? []) as Record<string, { name: string }>[])
      if (statement.type === 'ImportDeclaration') {
        if (from && imported) this.imported.set(local!.name, { file: from, name: imported.name })
      } else {
        const name = from ? `${exported!.name} from there` : local!.name // what is passed on has no name here
        this.exported.set(exported!.name, name)
        if (from) this.imported.set(name, { file: from, name: local!.name })
      }
    const it = declaration ?? statement
    const names = (it.declarations ?? (it.id ? [it] : [])) as { id: { name: string } }[]
    for (const { id } of names) {
      if (statement.type === 'ExportNamedDeclaration') this.exported.set(id.name, id.name)
      const node = { ...it, start: statement.start } // its docstring stands before the word `export`
      this.declared.set(id.name, [...(this.declared.get(id.name) ?? []), node])
    }
  }
}

const internal = (doc: string | undefined) => doc?.includes('@internal')

/**
 * What is wrong with the docstrings of all that `entries` (declaration files) export: public symbols and members without
 * one, types that a public one uses and nobody can import, and error codes that are none of `codes`. `causes` are the
 * words like codes that docstrings name besides.
 */
export function complaints(entries: string[], codes: ReadonlySet<string>, causes: string[] = []): string[] {
  const known = new Set([...codes, ...causes])
  const modules = new Map<string, Module>()
  const at = (file: string) => modules.get(file) ?? modules.set(file, new Module(file)).get(file)!

  function find(file: string, name: string): Declared | undefined {
    const from = at(file).imported.get(name)
    if (from) return find(from.file, at(from.file).exported.get(from.name) ?? from.name)
    const nodes = at(file).declared.get(name)
    return nodes && { file, name, nodes }
  }

  const key = ({ file, name }: Declared) => `${file} ${name}`
  const symbols = entries.flatMap((file) => [...at(file).exported.values()].map((name) => find(file, name)!))
  const publicKeys = new Set(symbols.map(key))
  const found = new Set<string>()

  for (const symbol of symbols) {
    const docOf = (node: Node) => at(symbol.file).doc(node)
    for (const node of symbol.nodes) {
      if (!docOf(node)) found.add(`${symbol.name} has no docstring`)
      for (const [name, member] of members(node))
        if (!docOf(member) && !inherits(symbol, name)) found.add(`${symbol.name}.${name} has no docstring`)
      for (const name of namesIn(node, (child) => internal(docOf(child)))) {
        const used = find(symbol.file, name)
        if (used && !publicKeys.has(key(used))) found.add(`${symbol.name} uses ${name}, which is not exported`)
      }
    }
  }
  for (const [file, module] of modules)
    for (const { thrown, named } of module.docs.map(codesIn))
      for (const code of [...thrown.filter((each) => !codes.has(each)), ...named.filter((each) => !known.has(each))])
        found.add(`${file}: there is no error code ${code}`)
  return [...found]

  /** Whether a class or interface above this one says what the member is. */
  function inherits(symbol: Declared, member: string): boolean {
    return symbol.nodes.flatMap(parents).some((name) => {
      const parent = find(symbol.file, name)
      if (!parent) return false
      const documented = ([own, node]: [string, Node]) => own === member && at(parent.file).doc(node)
      return parent.nodes.flatMap(members).some(documented) || inherits(parent, member)
    })
  }
}

/** Members of a class or interface that others can use. */
function members(node: Node): [string, Node][] {
  const body = (node.body as { body?: Node[] } | undefined)?.body
  if (!body) return []
  return body.flatMap((member): [string, Node][] => {
    const { key, accessibility } = member as { key?: Node & { name?: string }; accessibility?: string }
    if (key?.type === 'PrivateIdentifier' || accessibility === 'private') return []
    return [[member.computed ? '[computed]' : (key?.name ?? 'constructor'), member]]
  })
}

function parents(node: Node): string[] {
  const { superClass } = node as { superClass?: { name: string } | null }
  const others = [...((node.extends ?? []) as Node[]), ...((node.implements ?? []) as Node[])]
  return [
    ...(superClass ? [superClass.name] : []),
    ...others.map(({ expression }) => (expression as Node).name as string),
  ]
}

/** Names of types, classes and constants that a declaration speaks of. */
function namesIn(value: unknown, skip: (node: Node) => boolean | undefined): string[] {
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value.flatMap((each) => namesIn(each, skip))
  const node = value as Node
  if (node.type && skip(node)) return []
  const { typeName, exprName, superClass } = node as Record<string, { name?: string } | undefined>
  const heirs = node.type === 'TSInterfaceHeritage' || node.type === 'TSClassImplements' ? [node.expression] : []
  const own = [typeName, exprName, superClass, ...(heirs as { name?: string }[])].map((named) => named?.name)
  return [...own.filter((name) => name !== undefined), ...Object.values(node).flatMap((each) => namesIn(each, skip))]
}

/** What looks like an error code: in a sentence of what is thrown any word of capitals, elsewhere WORDS_LIKE_THIS. */
function codesIn(doc: string): { thrown: string[]; named: string[] } {
  const text = doc.replace(/\n\s*\* ?/g, ' ')
  const sentences = [...text.matchAll(/\bThrows [^.]*/g)].join(' ')
  return { thrown: sentences.match(/\b[A-Z_]{4,}\b/g) ?? [], named: text.match(/\b[A-Z]+(_[A-Z]+)+\b/g) ?? [] }
}
