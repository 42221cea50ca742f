import type { Command } from 'commander'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { Cause, CauseFilter, CausePage } from '../store/store.ts'
import { look, whole } from './arguments.ts'
import { forPeople, print, safe, show, table, when } from './output.ts'

/** Why jobs are dead, and why they fail now. */
export function causeCommands(root: Command): void {
  const command = (name: string, what: string, ask: (queue: GopherQueue, filter: CauseFilter) => Promise<CausePage>) =>
    root
      .command(name)
      .description(`${what}, by the cause of their last error: how many, those of most jobs first`)
      .option('--queue <name>', 'only jobs of this queue')
      .option('--type <type>', 'only jobs of this type')
      .option('--limit <n>', 'most causes shown, 1 to 200', whole, 200)
      .option('--cursor <next>', 'go on after the page that said so')
      .action(look(async (queue, filter: CauseFilter) => tell(await ask(queue, filter))))
  command('dead', 'why jobs are dead', (queue, filter) => queue.deadLetters(filter)).addHelpText(
    'after',
    "\nThen: retry --cause 'CAUSE' --limit 10 tries ten of them, retry --cause 'CAUSE' all; jobs --cause 'CAUSE' lists them.",
  )
  command('failing', 'why jobs fail now that will be tried again', (queue, filter) => queue.failing(filter))
}

const heads = ['JOBS', 'TYPE', 'QUEUE', 'LAST']
const cells = ({ count, type, queue, lastAt }: Cause) => [`${count}`, type, queue, when(lastAt)]

function tell(page: CausePage): void {
  show(page, () => {
    const { causes, counting, next } = page
    if (counting) process.stderr.write('counting: jobs of an older file are still being counted; these are too few\n')
    if (!forPeople)
      table([], causes.map((cause) => [...cells(cause), `${cause.newest}`, cause.cause])) // biome-ignore format: one line
    else if (fits(causes))
      table([...heads, 'CAUSE'], causes.map((cause) => [...cells(cause), cause.cause])) // biome-ignore format: one line
    else inTwoLines(causes)
    if (next !== null && forPeople) print(`\nMore: --cursor ${next}`)
  })
}

/** A cause that is cut can be neither read nor given to --cause: then each has a line of its own. */
function fits(causes: Cause[]): boolean {
  const widest = (of: (cause: Cause) => string) => Math.max(8, ...causes.map((cause) => safe(of(cause)).length + 2))
  const all = [(cause: Cause) => `${cause.count}`, (cause: Cause) => cause.type, (cause: Cause) => cause.queue]
  const taken = [...all, (cause: Cause) => when(cause.lastAt), (cause: Cause) => cause.cause].map(widest)
  return taken.reduce((sum, columns) => sum + columns, -2) <= (process.stdout.columns || 80)
}

function inTwoLines(causes: Cause[]): void {
  for (const cause of causes) {
    const [count, type, queue, last] = cells(cause)
    print(safe(`${count!.padStart(6)}  ${type} in ${queue}, ${last}`))
    print(`        ${safe(cause.cause)}`)
  }
}
