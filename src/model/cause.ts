import type { JobError } from './job.ts'

// What errors of one cause have in common: their first line, without what differs from job to job. Numbers, ids, addresses,
// times, sizes and quoted values become '#'; status and exit codes, names of errors and of what a program is made of stay.

/** Grows with each change of the rule: causes that an older one named are named anew. */
export const ruleVersion = 2

/** Most causes of one queue, type and kind; the rest is counted under `otherCause`. No error is named so: its cause has a colon. */
export const mostCauses = 1000
export const otherCause = 'other'

const most = { name: 100, line: 1000, cause: 200 }

/** The cause that a job's last error is counted under; `reason`, such as 'expired', of one that died without any. */
export function causeOf(error: Pick<JobError, 'name' | 'message'> | null, reason: string | null): string {
  if (!error) return reason ?? 'unknown'
  return cut(`${nameOf(error.name)}: ${commonOf(plain(firstLine(error.message)))}`)
}

/** An error in a list: its name, and the first line of its message. */
export const shortError = (error: Pick<JobError, 'name' | 'message'>): string =>
  cut(`${nameOf(error.name)}: ${firstLine(error.message)}`)

const colours = /\p{Cc}\[[\d;]*[A-Za-z]/gu

/** A cause is printed, copied and given back: without colours, marks that show nothing, and halves of characters. */
const plain = (text: string): string =>
  text
    .replace(colours, '')
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029\ufffd\s]+/gu, ' ')
    .trim()

const cut = (text: string): string => plain(text.slice(0, most.cause).toWellFormed())
const nameOf = (name: string): string => firstLine(name).slice(0, most.name)

/** The first line that says something: messages of some libraries begin with an empty one. */
const firstLine = (text: string): string => /\S.*/.exec(text)?.[0].slice(0, most.line).trimEnd() ?? ''

const units = 'ms|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|d|days?|ns|us|µs|B|[kKMGT]i?B|[kKMGT]?bytes?'

/** Of HTTP, as far as any are in use: what else has three digits is a number like all others. */
const status = String.raw`(?:10[0-3]|20[0-8]|226|30[0-8]|4[0-3]\d|451|49\d|5[0-3]\d|59[89])(?!\w)`
const statusAfter = (before: string, after = ''): RegExp => new RegExp(`(${before})(${status}${after})`, 'g')

/** Codes, which tell one cause from another, by what stands around them. The first group is no part of the code. */
const codes = [
  // status 404, HTTP/1.1 503, exit code 137, exited with 137, errno -104, error code 1062, SQLSTATE 23505
  /(\b(?:status(?:[ _-]?code)?|(?:exit(?:ed)?|error|response|return|result|with|http|reply|sql|native)[ _-]code|exit status|exit(?:ed with)?|alert number|errno|https?(?:\/\d(?:\.\d)?)?)(?: is| was| of)?[\s:=("'[]{1,3})(-?\d{1,5}(?![\d.]*\d|\w))/gi,
  /(\bsqlstate[\s:=("'[]{1,3})([0-9A-Z]{5}\b)/gi,
  /((?:\bcode\s*[:=]|\(code)\s*["']?)(\d{1,3}(?![\d.]*\d|\w))/gi,
  // responded with 503, returned 404 for a name, server error 500, upstream 502 for
  statusAfter(
    String.raw`\b(?:[Rr]espon(?:ded|se)|[Rr]eturned|[Gg]ot|[Rr]eceived|[Aa]nswered|[Rr]eplied|[Ff]ailed|[Rr]ejected|[Ee]rror|[Gg]ateway|[Uu]pstream|[Ss]erver|[Bb]ackend|[Uu]navailable|[Ff]orbidden|[Uu]nauthorized)(?: with| by)?:? `,
    String.raw`(?=\s*(?:$|[,.:;)\]"'-](?!\d)|[A-Z]|(?:from|for|on|at|by|in|to|with|while|when|after|response|status|error)\b))`,
  ),
  // GET /orders/17 404, POST /orders -> 502, order 17: 500
  statusAfter(String.raw`\b(?:GET|HEAD|POST|PUT|PATCH|DELETE) \S{1,300}(?: -|:)? |(?:->|=>|→) ?`, '(?![.]?[0-9])'),
  /(\d: )([45]\d\d$)/g,
  // 404 Not Found, 404 (Not Found), (503), [429]
  statusAfter(
    String.raw`^|[^\w.]`,
    String.raw`(?=[ -]\(?(?:Bad|Unauthorized|Payment|Forbidden|Not|Method|Request|Conflict|Gone|Length|Precondition|Payload|Content|URI|Unsupported|Range|Expectation|Misdirected|Unprocessable|Locked|Failed|Too|Upgrade|Unavailable|Internal|Service|Gateway|HTTP|Insufficient|Loop|Network|Moved|Found|See|Temporary|Permanent)\b)`,
  ),
  /([([])([45]\d\d)(?=[)\]])/g,
  // 502 for order 17, error: 503 from stock, but 500 rows, 500 ms and 500 of 700; 404 - {...}
  statusAfter('^|: |[([]', `(?= (?!(?:of|EUR|USD|GBP|CHF|[a-z]{2,}[^s\\W]s|${units})\\b)[A-Za-z]|-[A-Za-z])`),
  statusAfter('^', '(?=$|[:,;] | - | ?[{<"])'),
  // Of mail servers: 550 5.1.1 and 421 Try again later; of gRPC: 14 UNAVAILABLE
  /(^|[^\w.])([245]\d\d[ -][245]\.\d{1,3}\.\d{1,3})(?![\d.])/g,
  /(^)(\d{1,2})(?= [A-Z_]{4,}:)/g,
  // P2002, E11000, ORA-00942, where a code may stand
  /(^|[([]|\b(?:[Cc]ode|[Ee]rror)[\s:="']{1,3})([A-Z]{1,5}-?\d{3,5}\b)/g,
  /(\b)([A-Z]{1,5}-?\d{3,5})(?=: )/g,
  /(\b)((?:ERR?|HTTP|SQLITE|EAI)_[A-Z0-9_]{3,}\b)/g,
  // Names that have digits
  /(\b)((?:S3|EC2|K8s|IPv[46]|OAuth ?[12](?:\.0)?|UTF-?(?:8|16)|base64|md5|sha-?(?:1|256|384|512)|x\.?509|[EHRP]S(?:256|384|512)|TLS ?v?1(?:\.\d)?|SSLv[23]|HTTP\/?[123](?:\.[01])?|int[248]|float[48]|ISO-?8601|latin1|v\d{1,2})\b)(?!\.\d)/gi,
]

/** Words for what a program is made of: a name in quotes beside one stays. */
const parts =
  'argument|attribute|class|column|command|constraint|database|enum|export|extension|field|function|getter|header|import|index|method|module|operator|option|package|parameter|properties|property|reading|relation|role|schema|sequence|setting|setter|table|trigger|type|variable|view'
const beforeQuote = new RegExp(
  String.raw`(?:^|[\s(])(?:${parts}|arguments|columns|fields|for key|foreign key|awaiting)[\s(:]{1,3}$`,
  'i',
)
const afterQuote = new RegExp(String.raw`^[\s)]{1,2}(?:${parts}|must be|is required|is not allowed)\b`, 'i')
const programName = /^[A-Za-z_$@.][\w$.@/()-]{0,63}$/

/** Digits that stay are written in characters of their own meanwhile, so that no later step takes them. */
const kept = (text: string): string => text.replace(/\d/g, (digit) => String.fromCharCode(0xe000 + Number(digit)))
const restored = (text: string): string => text.replace(/[\ue000-\ue009]/g, (held) => `${held.charCodeAt(0) - 0xe000}`)

/** Ports above are given to whoever connects, and differ each time. */
const lastServicePort = 32_767
const portOf = (port: string | undefined): string =>
  port === undefined ? '' : Number(port) <= lastServicePort ? `:${kept(port)}` : ':#'

const url =
  /\b([a-z][a-z+.-]{1,20}:\/\/)(?:[^\s/?#@"'<>]*@)?(\[[^\]\s]*\]|[^\s/?#:"'<>`()[\]{}|,;]*)(?::(\d+))?([^\s?#"'<>`()[\]{}|,;]*)([?#][^\s"'<>`()[\]{}|]*)?/gi

/** A URL keeps its host and the words of its path. */
function urlOf(_: string, scheme: string, host: string, port: string | undefined, path: string): string {
  const end = /[.:!]*$/.exec(path)![0]
  const named = /^\[|^[\d.]+$/.test(host) ? '#' : host.replace(/[^.]*\d[^.]*/g, '#')
  const words = path.slice(0, path.length - end.length).replace(/[^/]+/g, wordOf)
  return `${scheme}${named}${portOf(port)}${words}${end}`
}

const wordOf = (word: string): string => (/^v\d{1,2}$/.test(word) ? kept(word) : /\d|%|@/.test(word) || word.length > 40 ? '#' : word) // biome-ignore format: one line

const quotes = /(^|[^\p{L}\p{N}])(["'`“‘«])((?:(?!\2)[^\n]){0,200}?)["'`”’»](?![\p{L}\p{N}])/gu

function quoted(all: string, before: string, open: string, inner: string, offset: number, whole: string): string {
  const left = whole.slice(Math.max(0, offset - 40), offset + before.length)
  const right = whole.slice(offset + all.length, offset + all.length + 40)
  const isPart = open === '`' || beforeQuote.test(left) || afterQuote.test(right)
  const isCode = /^[A-Z-]*[\ue000-\ue009]+$/.test(inner)
  return isCode || (isPart && programName.test(inner) && !/\d/.test(inner)) ? all : `${before}#`
}

const months = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*'
const time = String.raw`\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AP]M\b)?(?: ?(?:Z|UTC|GMT)\b)?(?: ?[+-]\d\d:?\d\d\b)?`
const times = new RegExp(
  String.raw`\b\d{4}-\d\d-\d\d(?:[T ]${time})?|\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?(?:\d{1,2} ${months}|${months} \d{1,2})\b(?:,? \d{4}\b)?(?:,? ${time})?|\b${time}(?![\w:])`,
  'g',
)
/** What of a message is of one job only, and what stands for it; in this order. */
const variable: [RegExp, string | ((...groups: string[]) => string)][] = [
  [quotes, quoted as (...groups: never[]) => string as () => string],
  [/\barn:[^\s"',;)]+/g, '#'],
  [/[^\s<>"'(),:;=@]{1,64}@[\w.-]*\w/g, '#'],
  [/(\/tmp|\/var\/folders)\/[^\s"'`,;:)]+/g, '$1/#'],
  [/(^|[^\w.])(?:\d{1,3}\.){3}\d{1,3}(?::(\d{1,5}))?(?![\w.]*\d)/g, (_, before, port) => `${before}#${portOf(port)}`],
  // connect ETIMEDOUT 2606:4700::84e5:443; EADDRINUSE: address already in use :::3000
  [
    /(\bE[A-Z]{4,} |in use )(?=[\da-f:]*::|(?:[\da-f]{1,4}:){8})[\da-f:]+:(\d{2,5})(?![\w:.])/g,
    (_, before, port) => `${before}#${portOf(port)}`,
  ],
  [times, '#'],
  [/(^|[^\w:])(?=[\da-f:]*\d)(?:[\da-f]{0,4}:){2,8}[\da-f]{0,4}(?![\w:])/gi, '$1#'],
  [
    /(\b(?:to|at|host|server|connect|E[A-Z]{4,}|EAI_AGAIN) [\w.-]*[A-Za-z][\w.-]*):(\d{2,5})\b/g,
    (_, host, port) => host + portOf(port),
  ],
  [
    /[\p{L}\p{N}_-]+/gu,
    (word) =>
      /\p{Nd}|^[a-f]{8,}$|^[\da-f]{16,}$/iu.test(word) || /^[a-z]{2,8}_(?=\w*[A-Z])\w{8,}$/.test(word) ? '#' : word,
  ],
  [new RegExp(String.raw`#(?: ?(?:${units})(?![\p{L}\p{N}_])| ?%)`, 'gu'), '#'],
  [/#(?:(?:[.,:;/|+=-]|, | and |, and | or )?#)+/g, '#'],
]

/** The first line of a message, without what is of one job only. */
function commonOf(line: string): string {
  let text = line.replace(/[\ue000-\ue009]/g, '#').replace(url, urlOf)
  for (const code of codes) text = text.replace(code, (_, before: string, code: string) => before + kept(code))
  for (const [some, common] of variable) text = text.replace(some, common as string)
  return restored(text)
}
