const comments: Record<string, string> = {
  '//': String.raw`\/\/.*|\/\*[^]*?\*\/`,
  '#': String.raw`(?<=^|\s)#.*`,
  '--': '--.*',
}
const commentOf: Record<string, keyof typeof comments> = { ts: '//', js: '//', go: '//', sql: '--' }
const strings = String.raw`'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|${'`'}(?:\\.|[^${'`'}\\])*${'`'}`

export const escaped = (text: string): string => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)

/** Code as HTML, its comments and strings marked: enough to read by, and it needs no grammar of each language. */
export function highlighted(code: string, language = ''): string {
  const comment = comments[commentOf[language] ?? '#']
  const marked = new RegExp(language === '' ? `(${comment})` : `(${comment})|(${strings})`, 'gm')
  let html = ''
  let done = 0
  for (const { 0: text, 1: isComment, index } of code.matchAll(marked)) {
    html += escaped(code.slice(done, index))
    html += isComment === undefined ? `<b>${escaped(text)}</b>` : `<i>${escaped(text)}</i>`
    done = index + text.length
  }
  return html + escaped(code.slice(done))
}
