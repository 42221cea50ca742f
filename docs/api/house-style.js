import { Converter, ReflectionKind } from 'typedoc'

// What the docstrings of this house leave to the reader's eye, and TypeDoc does not do by itself.

export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DECLARATION, listMeanings)
  app.converter.on(Converter.EVENT_CREATE_PARAMETER, (_, parameter) => {
    if (parameter.name === '__namedParameters') parameter.name = 'options'
  })
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => linkNames(project))
}

/** A type of named strings gets what is said behind each, | 'CODE' // meaning, as a list. */
function listMeanings(context, reflection) {
  if (!reflection.kindOf(ReflectionKind.TypeAlias)) return
  const [declaration] = context.getSymbolFromReflection(reflection)?.declarations ?? []
  const text = declaration?.getSourceFile().text.slice(declaration.getStart()).split('\n\n', 1)[0] ?? ''
  const lines = [...text.matchAll(/\| '(\w+)' \/\/ (.+)/g)].map(([, name, meaning]) => `- \`${name}\`: ${meaning}`)
  if (lines.length > 0) reflection.comment.summary.push({ kind: 'text', text: `\n\n${lines.join('\n')}` })
}

/** `Job`, `GopherQueue.submit` and, on the page of GopherQueue, `submit` become links. */
function linkNames(project) {
  const exported = new Map(project.children.flatMap((module) => module.children.map((child) => [child.name, child])))
  for (const reflection of Object.values(project.reflections)) {
    const summary = reflection.comment?.summary ?? []
    for (const [i, { kind, text }] of summary.entries()) {
      const [first, second] = text.slice(1, -1).split('.')
      const owner = exported.get(first) ?? reflection.parent?.parent
      const target = second === undefined ? (exported.get(first) ?? sibling(owner, first)) : sibling(owner, second)
      if (kind === 'code' && target && target !== reflection && target !== reflection.parent)
        summary[i] = { kind: 'inline-tag', tag: '@linkcode', text: text.slice(1, -1), target }
    }
  }
}

const sibling = (owner, name) => owner?.children?.find((child) => child.name === name)
